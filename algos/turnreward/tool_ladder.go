package turnreward

import (
	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// ToolLadder rewards a turn by how far its calls got:
//
//	r_k = mean over the calls of turn k of their rung, 0..4
//
// with the rungs of [outcome.Rungs]. A turn without calls gets 0. AdaReasoner,
// AdaTG/verl/workers/agent/parallel_env.py.
type ToolLadder struct{}

// Rewards returns the rewards of every turn.
func (ToolLadder) Rewards(g *scored.Group) ([][]float64, error) {
	return eachTurn(g, func(t *rollout.Trajectory) (func(k int) (float64, error), error) {
		return func(k int) (float64, error) {
			rungs, err := outcome.Rungs(t, k)
			total := 0.0
			for _, rung := range rungs {
				total += rung / float64(len(rungs))
			}
			return total, err
		}, nil
	})
}
