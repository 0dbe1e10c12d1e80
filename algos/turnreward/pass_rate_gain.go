package turnreward

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// PassRateGain rewards turns that write code and turns that test it in alternation, k counting from 1:
//
//	r_1 = p_1
//	r_k = Absolute·p_k + Improvement·(p_k − p_{k−2})    k = 3, 5, …: code, p = rewards["pass_rate"]
//	r_k = rewards["test_validity"]                      k = 2, 4, …: valid tests / generated tests
//
// Every turn must have the one that belongs to it, 0 for a turn without code or tests included. ReVeal (TAPO),
// arXiv 2506.11442.
type PassRateGain struct {
	// Absolute weighs the pass rate itself from the third turn on. Default 0.
	Absolute float64 `yaml:"absolute"`
	// Improvement weighs how much it rose since the code before. Default 1.
	Improvement float64 `yaml:"improvement"`
}

// Validate reports settings that are not finite.
func (r PassRateGain) Validate() error {
	if err := fact.Finite("absolute", r.Absolute); err != nil {
		return err
	}
	return fact.Finite("improvement", r.Improvement)
}

// Rewards returns the rewards of every turn.
func (r PassRateGain) Rewards(g *scored.Group) ([][]float64, error) {
	return eachTurn(g, func(t *rollout.Trajectory) (func(k int) (float64, error), error) {
		before := 0.0
		return func(k int) (float64, error) {
			if k%2 == 1 {
				return fact.Reward(t, k, "test_validity")
			}
			rate, err := fact.Reward(t, k, "pass_rate")
			reward := rate
			if k > 0 {
				reward = r.Absolute*rate + r.Improvement*(rate-before)
			}
			before = rate
			return reward, err
		}, nil
	})
}
