package filter

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Success keeps trajectories with R ≥ Threshold and drops the others with reason "unsuccessful": what is left
// is imitated. Comparisons that come later see the successes alone, so it belongs to supervised losses
// (rejection-sampling fine-tuning, as in ET-Agent's and ToRA's first stages).
type Success struct {
	// Threshold is the outcome from which on a trajectory is kept. Default 0.5.
	Threshold float64 `yaml:"threshold"`
}

// Validate reports a threshold that is no number.
func (f Success) Validate() error { return fact.Finite("threshold", f.Threshold) }

// Drop drops what did not succeed.
func (f Success) Drop(groups []*scored.Group) error {
	for _, g := range groups {
		for _, i := range kept(g) {
			if g.Outcome[i] < f.Threshold {
				g.Reason[i] = "unsuccessful"
			}
		}
	}
	return nil
}
