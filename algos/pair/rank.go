package pair

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Rank ranks the members of a group by s_i, their reward or a recorded score; the rank objective wants the
// likelier sequence to be the one with the greater s. Members with equal s are not ordered. A dropped member
// has 0, which nobody reads. RRHF, arXiv 2304.05302; TRICE, arXiv 2305.13068.
type Rank struct {
	// Of says which rewards s is. Default outcome.
	Of Of `yaml:"of" jsonschema:"enum=outcome,enum=turns,enum=total"`
	// Score is the name of the recorded score that takes the place of the rewards; empty for none. A kept
	// trajectory without it is an error. Default empty.
	Score string `yaml:"score"`
}

// Validate reports an unknown setting.
func (r Rank) Validate() error { return r.Of.Validate() }

// NeedsOutcome is true when the outcome counts.
func (r Rank) NeedsOutcome() bool { return r.Score == "" && r.Of.NeedsOutcome() }

// NeedsTurns is true when turn rewards count.
func (r Rank) NeedsTurns() bool { return r.Score == "" && r.Of.NeedsTurns() }

// Pair sets the scores to rank by.
func (r Rank) Pair(g *scored.Group) error {
	g.RankScores = make([]float64, len(g.Trajectories))
	for i := range g.Trajectories {
		if !g.Kept(i) {
			continue
		}
		g.RankScores[i] = r.Of.reward(g, i)
		if r.Score != "" {
			var err error
			if g.RankScores[i], err = fact.Score(&g.Trajectories[i], r.Score); err != nil {
				return err
			}
		}
	}
	return nil
}
