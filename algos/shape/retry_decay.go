package shape

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// RetryDecay discounts an outcome that took several submissions. With s the number of submitted answers,
//
//	R ← R·Decay^max(0, s − 1)
//
// An outcome that is not positive stays. WebSeer, verl/tools/re_rag_tool.py.
type RetryDecay struct {
	// Decay is the factor of each submission after the first. Default 0.8.
	Decay float64 `yaml:"decay"`
	// Score names the recorded number of submissions. Default submissions.
	Score string `yaml:"score"`
}

// Validate reports settings that are out of range.
func (s RetryDecay) Validate() error {
	return first(within("decay", s.Decay, 0, 1), fact.Named("score", s.Score))
}

// Shape discounts the outcomes.
func (s RetryDecay) Shape(g *scored.Group) error {
	for _, i := range kept(g) {
		submissions, err := fact.Score(&g.Trajectories[i], s.Score)
		if err != nil {
			return err
		}
		if submissions < 0 {
			return fmt.Errorf("trajectory %s: score %q is %v, want a number of submissions", g.Trajectories[i].ID, s.Score, submissions)
		}
		g.Outcome[i] = scale(g.Outcome[i], math.Pow(s.Decay, max(0, submissions-1)))
	}
	return nil
}
