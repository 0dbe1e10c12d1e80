package outcome

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// Checklist is the fraction of checks of the final state that passed:
//
//	R = scores[Passed] / scores[Total]
//
// A list without checks is an error: it says nothing about the trajectory. EnvScaler,
// rl/roll/pipeline/agentic/env/envscaler_env/base_env.py.
type Checklist struct {
	// Passed is the name of the number of checks that passed. Default checks_passed.
	Passed string `yaml:"passed"`
	// Total is the name of the number of checks. Default checks_total.
	Total string `yaml:"total"`
}

// NewChecklist returns Checklist with its defaults.
func NewChecklist() Checklist { return Checklist{Passed: "checks_passed", Total: "checks_total"} }

// Validate reports a missing name.
func (r Checklist) Validate() error {
	if err := fact.Named("passed", r.Passed); err != nil {
		return err
	}
	return fact.Named("total", r.Total)
}

// Outcomes returns the fractions.
func (r Checklist) Outcomes(g *scored.Group) ([]float64, error) {
	return each(g, func(t *rollout.Trajectory) (float64, error) {
		passed, err := fact.Score(t, r.Passed)
		if err != nil {
			return 0, err
		}
		total, err := fact.Score(t, r.Total)
		switch {
		case err != nil:
			return 0, err
		case total < 1:
			return 0, fmt.Errorf("trajectory %s: score %q is %v: a checklist needs at least one check", t.ID, r.Total, total)
		case passed < 0 || passed > total:
			return 0, fmt.Errorf("trajectory %s: score %q is %v, outside [0, %v], the %q", t.ID, r.Passed, passed, total, r.Total)
		}
		return passed / total, nil
	})
}
