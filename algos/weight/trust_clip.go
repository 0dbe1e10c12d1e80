package weight

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// TrustClip gives each trajectory an upper clip bound that is wider the less its group agrees on an answer:
//
//	ε_hi = ClipHigh + Extra·clip((Sure − p̂)/Width, 0, 1)
//
// p̂ is the share of the group's majority answer, or a recorded score. Unlikely but right answers of hard
// tasks may then gain more probability in one step. Agent0's ADPO,
// Agent0/executor_train/verl_tool/trainer/ppo/core_algos.py.
type TrustClip struct {
	// ClipHigh is the bound of a sure group. Default 0.2.
	ClipHigh float64 `yaml:"clip_high"`
	// Extra is added for an unsure group. Default 0.1.
	Extra float64 `yaml:"extra"`
	// Sure is the share from which on a group is sure. Default 0.8.
	Sure float64 `yaml:"sure"`
	// Width is how far below it a group is wholly unsure. Default 0.5.
	Width float64 `yaml:"width"`
	// Score is the name of the recorded score that is p̂; empty for the share of the majority answer. Default
	// empty.
	Score string `yaml:"score"`
	// Normalize says what equal answers may differ in: text ignores case and spacing, words also
	// punctuation and articles. Unused with a score. Default text.
	Normalize outcome.Normalization `yaml:"normalize" jsonschema:"enum=text,enum=words"`
}

// NewTrustClip returns TrustClip with its defaults.
func NewTrustClip() TrustClip {
	return TrustClip{ClipHigh: 0.2, Extra: 0.1, Sure: 0.8, Width: 0.5, Normalize: outcome.Text}
}

// Validate reports settings out of range.
func (w TrustClip) Validate() error {
	if err := fact.NotNegative("clip_high", w.ClipHigh); err != nil {
		return err
	}
	if err := fact.NotNegative("extra", w.Extra); err != nil {
		return err
	}
	if err := fact.Finite("sure", w.Sure); err != nil {
		return err
	}
	if err := fact.Positive("width", w.Width); err != nil {
		return err
	}
	return w.Normalize.Validate()
}

// Bound is the bound at share p̂.
func (w TrustClip) Bound(share float64) float64 {
	return w.ClipHigh + w.Extra*min(max((w.Sure-share)/w.Width, 0), 1)
}

// Weigh writes the bounds; a dropped trajectory has none.
func (w TrustClip) Weigh(g *scored.Group) error {
	if g.ClipHigh == nil {
		g.ClipHigh = make([]float64, len(g.Trajectories))
		for i := range g.ClipHigh {
			g.ClipHigh[i] = math.NaN()
		}
	}
	_, share := outcome.Vote(g, w.Normalize)
	for i := range g.Trajectories {
		if !g.Kept(i) {
			continue
		}
		if w.Score != "" {
			var err error
			if share, err = fact.Score(&g.Trajectories[i], w.Score); err != nil {
				return err
			}
			if share < 0 || share > 1 {
				return fmt.Errorf("trajectory %s: score %q is %v, outside [0, 1]", g.Trajectories[i].ID, w.Score, share)
			}
		}
		g.ClipHigh[i] = w.Bound(share)
	}
	return nil
}
