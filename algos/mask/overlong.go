package mask

import (
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// Overlong drops trajectories that stopped at the token limit without an answer, with reason "overlong"; those
// at the turn limit stay in the loss. DAPO's overlong filtering, arXiv 2503.14476, section 3.4.
type Overlong struct{}

// Mask drops the trajectories.
func (Overlong) Mask(g *scored.Group) error {
	drop(g, "overlong", func(t *rollout.Trajectory) bool { return t.Stop == rollout.StopMaxTokens && t.Answer == "" })
	return nil
}
