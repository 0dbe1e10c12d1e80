package outcome

import (
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// ExactMatch compares the final answer with the gold answer:
//
//	R = 1[normalize(answer) = normalize(gold)]
//
// An episode without an answer gets 0; an answer whose task has no gold answer is an error. An answer of which
// nothing remains equals nothing. Rajpurkar et al., arXiv 1606.05250, evaluation.
type ExactMatch struct {
	// Normalize says what equal answers may differ in: text ignores case and spacing, words also
	// punctuation and articles. Default words.
	Normalize Normalization `yaml:"normalize" jsonschema:"enum=text,enum=words"`
}

// Validate reports an unknown setting.
func (r ExactMatch) Validate() error { return r.Normalize.Validate() }

// Outcomes returns 1 for each right answer, else 0.
func (r ExactMatch) Outcomes(g *scored.Group) ([]float64, error) {
	return each(g, func(t *rollout.Trajectory) (float64, error) {
		return r.match(t, g.Task)
	})
}

func (r ExactMatch) match(t *rollout.Trajectory, task rollout.Task) (float64, error) {
	if err := needGold(t, task); err != nil {
		return 0, err
	}
	if answer := r.Normalize.Apply(t.Answer); answer != "" && answer == r.Normalize.Apply(task.Gold.Answer) {
		return 1, nil
	}
	return 0, nil
}
