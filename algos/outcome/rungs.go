package outcome

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/rollout"
)

// Rungs tells how far each call of turn k got:
//
//	0  the text is not a call
//	1  it parses, but no tool has the name or the arguments do not fit
//	2  the tool ran; where the turn has a reward "tool_score", that in its place, 2..4
//
// It is nil for a turn without calls. AdaReasoner, AdaTG/verl/workers/agent/parallel_env.py, where each tool
// says what between 2 and 4 its result is worth.
func Rungs(t *rollout.Trajectory, k int) ([]float64, error) {
	ran, found, err := fact.RewardIfAny(t, k, "tool_score")
	switch {
	case err != nil:
		return nil, err
	case !found:
		ran = 2
	case ran < 2 || ran > 4:
		return nil, fmt.Errorf("trajectory %s: turns[%d]: reward \"tool_score\" is %v, outside [2, 4]: it says what a call that ran is worth", t.ID, k, ran)
	}
	var rungs []float64
	for _, call := range t.Turns[k].Calls {
		switch call.Status {
		case rollout.CallUnparsable:
			rungs = append(rungs, 0)
		case rollout.CallUnknownTool, rollout.CallBadArgs:
			rungs = append(rungs, 1)
		default:
			rungs = append(rungs, ran)
		}
	}
	return rungs, nil
}
