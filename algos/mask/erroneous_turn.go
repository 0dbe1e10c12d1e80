package mask

import (
	"fmt"
	"slices"

	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// ErroneousTurn gives the tokens of turns in which any call has one of the listed statuses loss weight 0: the
// policy does not imitate the mistake, but still learns from the turns that recover from it, whose context
// it stays in. A turn without calls is never erroneous. AskToAct and ToolMind; TL-Training's MAE,
// code/mae/mae.py.
type ErroneousTurn struct {
	// Statuses are those of a failed call. Default error, unknown_tool, bad_args, unparsable.
	Statuses []rollout.CallStatus `yaml:"statuses" jsonschema:"enum=ok,enum=error,enum=unknown_tool,enum=bad_args,enum=unparsable"`
}

// NewErroneousTurn returns ErroneousTurn with its defaults.
func NewErroneousTurn() ErroneousTurn {
	return ErroneousTurn{Statuses: []rollout.CallStatus{rollout.CallError, rollout.CallUnknownTool, rollout.CallBadArgs, rollout.CallUnparsable}}
}

// Validate reports a list that is empty or names a status that does not exist.
func (m ErroneousTurn) Validate() error {
	if len(m.Statuses) == 0 {
		return fmt.Errorf("statuses: empty: list at least one of %v", rollout.CallStatuses)
	}
	for j, status := range m.Statuses {
		if !slices.Contains(rollout.CallStatuses, status) {
			return fmt.Errorf("statuses[%d]: unknown value %q: use one of %v", j, status, rollout.CallStatuses)
		}
	}
	return nil
}

// Mask masks the turns.
func (m ErroneousTurn) Mask(g *scored.Group) error {
	silence(g, func(t *rollout.Trajectory, k int) bool {
		return slices.ContainsFunc(t.Turns[k].Calls, func(c rollout.Call) bool { return slices.Contains(m.Statuses, c.Status) })
	})
	return nil
}
