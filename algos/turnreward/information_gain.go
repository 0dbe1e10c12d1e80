package turnreward

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// InformationGain rewards a turn by how much nearer it brings the task to its solution:
//
//	r_k = Scale·(a_k − a_{k−1}),  a_k = rewards_k[Score],  a_0 = scores[Score]
//
// a is an estimate of the chance of success from the state after the turn, by Monte-Carlo continuations or a
// process reward model; a_0, recorded with the trajectory, is that of the task itself. Every turn needs one.
// The gains of a trajectory add up to Scale·(a_K − a_0). PRInTS,
// examples/data_preprocess/prints_grpo_dataset.py.
type InformationGain struct {
	// Score is the name of the estimate. Default accuracy.
	Score string `yaml:"score"`
	// Scale multiplies the gain, which is then in [−Scale, Scale]. Default 4.
	Scale float64 `yaml:"scale"`
}

// NewInformationGain returns InformationGain with its defaults.
func NewInformationGain() InformationGain { return InformationGain{Score: "accuracy", Scale: 4} }

// Validate reports settings that are missing or not finite.
func (r InformationGain) Validate() error {
	if err := fact.Named("score", r.Score); err != nil {
		return err
	}
	return fact.Finite("scale", r.Scale)
}

// Rewards returns the rewards of every turn.
func (r InformationGain) Rewards(g *scored.Group) ([][]float64, error) {
	return eachTurn(g, func(t *rollout.Trajectory) (func(k int) (float64, error), error) {
		before, err := 0.0, error(nil)
		if len(t.Turns) > 0 {
			before, err = fact.Score(t, r.Score)
		}
		return func(k int) (float64, error) {
			after, err := fact.Reward(t, k, r.Score)
			gain := r.Scale * (after - before)
			before = after
			return gain, err
		}, err
	})
}
