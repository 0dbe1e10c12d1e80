package outcome

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// Picked rewards a judge of actions for picking the good one, the task's gold answer, and for its format:
//
//	R = 1[answer = gold] + Format·1[every turn is well formed]
//
// Answers are compared without case and spacing. An episode without an answer picked nothing; an answer whose
// task has no gold answer is an error. ToolPRMBench (reconstructed: the paper gives no formula).
type Picked struct {
	// Format is the reward of a well-formed episode. Default 0.1.
	Format float64 `yaml:"format"`
}

// Validate reports a setting that is not finite.
func (r Picked) Validate() error { return fact.Finite("format", r.Format) }

// Outcomes returns the rewards.
func (r Picked) Outcomes(g *scored.Group) ([]float64, error) {
	return each(g, func(t *rollout.Trajectory) (float64, error) {
		reward, err := ExactMatch{Normalize: Text}.match(t, g.Task)
		if wellFormed(t) {
			reward += r.Format
		}
		return reward, err
	})
}
