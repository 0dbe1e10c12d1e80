package credit

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Of says which rewards a trajectory's total counts.
type Of string

const (
	Outcome Of = "outcome" // R
	Turns   Of = "turns"   // Σ_k r_k
	Total   Of = "total"   // R + Σ_k r_k
)

// Broadcast gives every token of a trajectory the same score: its total reward.
type Broadcast struct {
	// Of says which rewards count. Default outcome.
	Of Of `yaml:"of" jsonschema:"enum=outcome,enum=turns,enum=total"`
}

// Validate reports an unknown setting.
func (b Broadcast) Validate() error {
	if b.Of != Outcome && b.Of != Turns && b.Of != Total {
		return fmt.Errorf("of: unknown value %q: use outcome, turns or total", b.Of)
	}
	return nil
}

// Level is the trajectory.
func (Broadcast) Level() Level { return Trajectory }

// NeedsOutcome is true when the outcome counts.
func (b Broadcast) NeedsOutcome() bool { return b.Of != Turns }

// NeedsTurns is true when turn rewards count.
func (b Broadcast) NeedsTurns() bool { return b.Of != Outcome }

// Scores returns the totals.
func (b Broadcast) Scores(g *scored.Group) ([][]float64, error) {
	out := make([][]float64, len(g.Trajectories))
	for i := range out {
		total := 0.0
		if b.NeedsTurns() {
			total = g.TurnTotal(i)
		}
		if b.NeedsOutcome() {
			total += g.Outcome[i]
		}
		out[i] = []float64{total}
	}
	return out, nil
}
