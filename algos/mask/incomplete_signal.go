package mask

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// IncompleteSignal drops trajectories whose reward cannot be trusted, because a sandbox failed or a judge did
// not reply, with reason "incomplete_signal":
//
//	incomplete_i = 1[no scores[Score], or scores[Score] < AtLeast]
//
// Here a missing score is what the mask looks for and no error; one that is not a number counts as missing.
// LongCat-Flash-Thinking, arXiv 2509.18883.
type IncompleteSignal struct {
	// Score is the name of the score that says how much of the signal is there. Default signal.
	Score string `yaml:"score"`
	// AtLeast is the least score of a complete signal. Default 1.
	AtLeast float64 `yaml:"at_least"`
}

// NewIncompleteSignal returns IncompleteSignal with its defaults.
func NewIncompleteSignal() IncompleteSignal { return IncompleteSignal{Score: "signal", AtLeast: 1} }

// Validate reports settings that are missing or not finite.
func (m IncompleteSignal) Validate() error {
	if err := fact.Named("score", m.Score); err != nil {
		return err
	}
	return fact.Finite("at_least", m.AtLeast)
}

// Mask drops the trajectories.
func (m IncompleteSignal) Mask(g *scored.Group) error {
	drop(g, "incomplete_signal", func(t *rollout.Trajectory) bool {
		score, err := fact.Score(t, m.Score)
		return err != nil || score < m.AtLeast
	})
	return nil
}
