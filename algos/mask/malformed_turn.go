package mask

import (
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// MalformedTurn gives the tokens of turns that do not parse strictly loss weight 0. The other turns of the
// trajectory train, with the malformed ones as context.
type MalformedTurn struct{}

// Mask masks the turns.
func (MalformedTurn) Mask(g *scored.Group) error {
	silence(g, func(t *rollout.Trajectory, k int) bool { return !t.Turns[k].FormatOK })
	return nil
}
