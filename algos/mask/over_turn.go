package mask

import (
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// OverTurn drops trajectories that stopped at the turn or the token limit without an answer, with reason
// "over_turn":
//
//	over_i = 1[stop_i ∈ {max_turns, max_tokens}, no answer]
//
// They count in the mean and deviation of their group, add no loss and leave every denominator, so that the
// policy is not taught to give up early. Mini-o3, verl/workers/actor/dp_actor.py; the overlong mask of SUPO,
// arXiv 2510.06727, which counts its step limit too.
type OverTurn struct{}

// Mask drops the trajectories.
func (OverTurn) Mask(g *scored.Group) error {
	drop(g, "over_turn", func(t *rollout.Trajectory) bool {
		return (t.Stop == rollout.StopMaxTurns || t.Stop == rollout.StopMaxTokens) && t.Answer == ""
	})
	return nil
}
