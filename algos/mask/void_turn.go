package mask

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// VoidTurn masks turns that hold neither a call that parses nor the final answer: a thought cut short, say. They
// are far from what the policy was trained on and their gradients explode. With Whole the trajectory is dropped
// with reason "void_turn"; else only the tokens of the void turns have loss weight 0. A trajectory without
// turns has no void one. SimpleTIR, arXiv 2509.02479, drops the trajectory.
type VoidTurn struct {
	// Whole drops the trajectory. Default true.
	Whole bool `yaml:"whole"`
}

// Mask drops the trajectories or masks the turns.
func (m VoidTurn) Mask(g *scored.Group) error {
	if !m.Whole {
		silence(g, fact.Void)
		return nil
	}
	drop(g, "void_turn", func(t *rollout.Trajectory) bool {
		for k := range t.Turns {
			if fact.Void(t, k) {
				return true
			}
		}
		return false
	})
	return nil
}
