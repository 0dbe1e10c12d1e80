package turnreward

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
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

// Validate reports a penalty that is not one.
func (r OutcomeLast) Validate() error {
	if err := fact.Finite("bad_format", r.BadFormat); err != nil {
		return err
	}
	if r.BadFormat > 0 {
		return fmt.Errorf("bad_format: %v rewards turns with neither a valid call nor the answer: use 0 or less", r.BadFormat)
	}
	return nil
}

// NeedsOutcome is true: the last turn gets it.
func (OutcomeLast) NeedsOutcome() bool { return true }

// Rewards returns the rewards of every turn.
func (r OutcomeLast) Rewards(g *scored.Group) ([][]float64, error) {
	out := zeros(g)
	for i := range g.Trajectories {
		t := &g.Trajectories[i]
		for k := range t.Turns {
			if k == len(t.Turns)-1 {
				out[i][k] = g.Outcome[i]
			}
			if fact.Void(t, k) {
				out[i][k] += r.BadFormat
			}
		}
	}
	return out, nil
}
