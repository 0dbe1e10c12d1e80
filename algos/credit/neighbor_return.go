package credit

import "github.com/turnwise-rl/turnwise/algos/scored"

// NeighborReturn is for episodes that alternate between generating and verifying. Turns are counted from 1: odd
// ones generate, even ones verify. A generation's reward counts at its own turn and at the verification just
// before it, which made it better; a verification's reward counts at its own turn alone:
//
//	D_k = r_k, and r_k + r_{k+1} at an even k;    R̃_k = R + D_k
//
// R is the outcome, undiscounted, for Of total or outcome. The last turn has no neighbour. ReVeal, arXiv 2506.11442,
// which subtracts a critic's value: center critic.
type NeighborReturn struct {
	// Of says which rewards count. Default total.
	Of Of `yaml:"of" jsonschema:"enum=outcome,enum=turns,enum=total"`
}

// Validate reports an unknown setting.
func (r NeighborReturn) Validate() error { return r.Of.validate() }

// Level is the turn.
func (NeighborReturn) Level() Level { return Turn }

// NeedsOutcome is true when the outcome counts.
func (r NeighborReturn) NeedsOutcome() bool { return r.Of.outcome() }

// NeedsTurns is true when turn rewards count.
func (r NeighborReturn) NeedsTurns() bool { return r.Of.turns() }

// Scores returns the returns of every turn.
func (r NeighborReturn) Scores(b *scored.Batch) ([][][]float64, error) {
	_, out := units(b, turnCount)
	for gi, g := range b.Groups {
		for i := range g.Trajectories {
			if !read(g, i) {
				continue
			}
			scores := out[gi][i]
			if r.NeedsTurns() {
				turnRewards(g, i, scores)
				for k := 1; k+1 < len(scores); k += 2 {
					scores[k] += scores[k+1]
				}
			}
			if r.NeedsOutcome() {
				for k := range scores {
					scores[k] += g.Outcome[i]
				}
			}
		}
	}
	return out, nil
}
