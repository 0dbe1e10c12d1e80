package outcome

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// Signed turns the verdict into a sign:
//
//	R = Correct    verdict ≥ Threshold
//	R = Wrong      otherwise, episodes without an answer included
//
// ReTool, retool/retool.py in verl-recipe; ToRL in VerlTool.
type Signed struct {
	// Threshold is the least verdict of a right answer. Default 1.
	Threshold float64 `yaml:"threshold"`
	// Correct is the reward of a right answer. Default 1.
	Correct float64 `yaml:"correct"`
	// Wrong is the reward of everything else. Default −1.
	Wrong float64 `yaml:"wrong"`
}

// Validate reports settings that are not finite.
func (r Signed) Validate() error {
	if err := fact.Finite("threshold", r.Threshold); err != nil {
		return err
	}
	if err := fact.Finite("correct", r.Correct); err != nil {
		return err
	}
	return fact.Finite("wrong", r.Wrong)
}

// Outcomes returns the signs.
func (r Signed) Outcomes(g *scored.Group) ([]float64, error) {
	return each(g, func(t *rollout.Trajectory) (float64, error) {
		verdict, err := fact.Verdict(t)
		if verdict >= r.Threshold {
			return r.Correct, err
		}
		return r.Wrong, err
	})
}
