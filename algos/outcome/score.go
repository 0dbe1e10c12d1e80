package outcome

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// Score uses a score recorded with the trajectory, a judge's for example: R = scores[Score]. A kept trajectory
// without it is an error.
type Score struct {
	// Score is its name. Default judge.
	Score string `yaml:"score"`
}

// Validate reports a missing name.
func (r Score) Validate() error { return fact.Named("score", r.Score) }

// Outcomes returns the scores.
func (r Score) Outcomes(g *scored.Group) ([]float64, error) {
	return each(g, func(t *rollout.Trajectory) (float64, error) { return fact.Score(t, r.Score) })
}
