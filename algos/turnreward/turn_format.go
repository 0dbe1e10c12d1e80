package turnreward

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// TurnFormat rewards turns that parse strictly:
//
//	r_k = Weight·1[turn k is well formed]    (Average: divided by the number of turns K)
//
// With Average the rewards of a trajectory add up to the fraction of well-formed turns, which is what
// OpenThinkIMG adds to the accuracy. OpenThinkIMG's V-ToolRL, r1_v/open_r1/tool_grpo.py.
type TurnFormat struct {
	// Weight is the reward of a well-formed turn. Default 1.
	Weight float64 `yaml:"weight"`
	// Average divides by the number of turns. Default false.
	Average bool `yaml:"average"`
}

// Validate reports a weight that is not finite.
func (r TurnFormat) Validate() error { return fact.Finite("weight", r.Weight) }

// Rewards returns the rewards of every turn.
func (r TurnFormat) Rewards(g *scored.Group) ([][]float64, error) {
	return eachTurn(g, func(t *rollout.Trajectory) (func(k int) (float64, error), error) {
		reward := r.Weight
		if r.Average {
			reward /= float64(len(t.Turns))
		}
		return func(k int) (float64, error) {
			if !t.Turns[k].FormatOK {
				return 0, nil
			}
			return reward, nil
		}, nil
	})
}
