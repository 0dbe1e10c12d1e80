package outcome

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// Curriculum rewards the question that a curriculum agent proposes, for being neither too easy nor too hard
// for the executor, unlike others, and about tools:
//
//	R = min(p̂, 1 − p̂) − c + CallBonus·min(n, MaxCalls)
//
// p̂ = scores["majority_share"] is the share of the executor's majority answer, c = scores["cluster_share"] the
// share of the batch's questions that are like this one, n the calls that ran. An episode that ended without a
// question has −1 in place of the first term and needs no p̂. Agent0,
// Agent0/curriculum_train/examples/reward_function/curriculum_reward.py.
type Curriculum struct {
	// CallBonus is added for each call that ran. Default 0.05.
	CallBonus float64 `yaml:"call_bonus"`
	// MaxCalls bounds the calls that earn it. Default 4.
	MaxCalls int `yaml:"max_calls"`
}

// NewCurriculum returns Curriculum with its defaults.
func NewCurriculum() Curriculum { return Curriculum{CallBonus: 0.05, MaxCalls: 4} }

// Validate reports settings out of range.
func (r Curriculum) Validate() error {
	if r.MaxCalls < 0 {
		return fmt.Errorf("max_calls: %d must be at least 0", r.MaxCalls)
	}
	return fact.Finite("call_bonus", r.CallBonus)
}

// Outcomes returns the reward of each question.
func (r Curriculum) Outcomes(g *scored.Group) ([]float64, error) {
	return each(g, func(t *rollout.Trajectory) (float64, error) {
		uncertainty := -1.0
		if t.Answer != "" {
			share, err := fraction(t, "majority_share")
			if err != nil {
				return 0, err
			}
			uncertainty = min(share, 1-share)
		}
		cluster, err := fraction(t, "cluster_share")
		return uncertainty - cluster + r.CallBonus*float64(min(ran(t), r.MaxCalls)), err
	})
}

// ran counts the calls that a tool ran, whether or not it failed.
func ran(t *rollout.Trajectory) int {
	n := 0
	for _, turn := range t.Turns {
		for _, call := range turn.Calls {
			if call.Status == rollout.CallOK || call.Status == rollout.CallError {
				n++
			}
		}
	}
	return n
}

// fraction is a recorded score in [0, 1].
func fraction(t *rollout.Trajectory, name string) (float64, error) {
	x, err := fact.Score(t, name)
	if err == nil && (x < 0 || x > 1) {
		err = fmt.Errorf("trajectory %s: score %q is %v, outside [0, 1]", t.ID, name, x)
	}
	return x, err
}
