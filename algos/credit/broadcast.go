package credit

import "github.com/turnwise-rl/turnwise/algos/scored"

// Broadcast gives every token of a trajectory the same score: its total reward, rewards at single tokens
// included.
type Broadcast struct {
	// Of says which rewards count. Default outcome.
	Of Of `yaml:"of" jsonschema:"enum=outcome,enum=turns,enum=total"`
}

// Validate reports an unknown setting.
func (b Broadcast) Validate() error { return b.Of.validate() }

// Level is the trajectory.
func (Broadcast) Level() Level { return Trajectory }

// NeedsOutcome is true when the outcome counts.
func (b Broadcast) NeedsOutcome() bool { return b.Of.outcome() }

// NeedsTurns is true when turn rewards count.
func (b Broadcast) NeedsTurns() bool { return b.Of.turns() }

// Scores returns the totals.
func (b Broadcast) Scores(batch *scored.Batch) ([][][]float64, error) {
	_, out := units(batch, one)
	for gi, g := range batch.Groups {
		for i := range g.Trajectories {
			total := tokenTotal(g, i, 0, tokenCount(g, i))
			if b.NeedsTurns() {
				total += g.TurnTotal(i)
			}
			if b.NeedsOutcome() {
				total += g.Outcome[i]
			}
			out[gi][i][0] = total
		}
	}
	return out, nil
}
