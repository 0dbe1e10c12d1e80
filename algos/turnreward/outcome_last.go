package turnreward

import (
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// OutcomeLast rewards format at every turn and the result at the last:
//
//	r_k = outcome·1[k = K] + BadFormat·1[turn k has neither a valid call nor the answer]
//
// GTPO, arXiv 2511.14846, eq. 5 (returns read in code, the format penalty's size in the same place).
type OutcomeLast struct {
	// BadFormat is added at a turn that is neither a well-formed call nor the answer; at most 0. Default −0.1.
	BadFormat float64 `yaml:"bad_format"`
}

// Rewards returns the rewards of every turn.
func (r OutcomeLast) Rewards(g *scored.Group) ([][]float64, error) {
	out := zeros(g)
	for i, t := range g.Trajectories {
		for k, turn := range t.Turns {
			last := k == len(t.Turns)-1
			if last {
				out[i][k] = g.Outcome[i]
			}
			if answered := last && t.Stop == rollout.StopAnswer; !answered && !validCall(turn) {
				out[i][k] += r.BadFormat
			}
		}
	}
	return out, nil
}

func validCall(turn rollout.Turn) bool {
	for _, call := range turn.Calls {
		if call.Status != rollout.CallUnparsable {
			return true
		}
	}
	return false
}
