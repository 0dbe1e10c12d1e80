package outcome

import (
	"fmt"
	"slices"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// AllOf wants several checks passed at once:
//
//	R = 1[scores[name] ≥ 1 for every name]
//
// A kept trajectory that lacks one of them is an error even where another has failed. MUA-RL,
// verl/utils/reward_score/taubench.py: the final database equals the gold one, and every required output was said.
type AllOf struct {
	// Scores are the names of the checks. Default db_state, required_outputs.
	Scores []string `yaml:"scores"`
}

// NewAllOf returns AllOf with its defaults.
func NewAllOf() AllOf { return AllOf{Scores: []string{"db_state", "required_outputs"}} }

// Validate reports a list that is empty or names a check twice.
func (r AllOf) Validate() error {
	if len(r.Scores) == 0 {
		return fmt.Errorf("scores: empty: name at least one recorded score")
	}
	for j, name := range r.Scores {
		if err := fact.Named(fmt.Sprintf("scores[%d]", j), name); err != nil {
			return err
		}
		if slices.Contains(r.Scores[:j], name) {
			return fmt.Errorf("scores[%d]: %q stands there twice: remove one", j, name)
		}
	}
	return nil
}

// Outcomes returns 1 where every check is passed, else 0.
func (r AllOf) Outcomes(g *scored.Group) ([]float64, error) {
	return each(g, func(t *rollout.Trajectory) (float64, error) {
		reward := 1.0
		for _, name := range r.Scores {
			score, err := fact.Score(t, name)
			if err != nil {
				return 0, err
			}
			if score < 1 {
				reward = 0
			}
		}
		return reward, nil
	})
}
