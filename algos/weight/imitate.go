package weight

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Stream is where a weight of imitation goes.
type Stream string

const (
	StreamCE   Stream = "ce"   // the auxiliary cross-entropy, beside whatever the objective does
	StreamLoss Stream = "loss" // the objective's own loss weights, for an objective that imitates
)

// Imitate selects the trajectories to imitate:
//
//	w_i = Weight·1[R_i ≥ AtLeast]
//
// at each sampled token that no mask keeps out of the loss, R_i the outcome after shaping. Those below the threshold have weight 0. With stream ce
// the loss is that of the auxiliary_ce regularizer; with stream loss the weights multiply the loss weights
// and objective cross_entropy is rejection-sampling fine-tuning: a failure adds nothing. ToRA,
// arXiv 2309.17452; STE, arXiv 2403.04746; MindFlow+.
type Imitate struct {
	// AtLeast is the least outcome of a trajectory worth imitating. Default 1.
	AtLeast float64 `yaml:"at_least"`
	// Weight is the weight of its tokens. Default 1.
	Weight float64 `yaml:"weight"`
	// Stream is where the weights go. Default ce.
	Stream Stream `yaml:"stream" jsonschema:"enum=ce,enum=loss"`
}

// NewImitate returns Imitate with its defaults.
func NewImitate() Imitate { return Imitate{AtLeast: 1, Weight: 1, Stream: StreamCE} }

// Validate reports settings that are unknown or out of range.
func (w Imitate) Validate() error {
	if err := fact.Finite("at_least", w.AtLeast); err != nil {
		return err
	}
	if err := fact.NotNegative("weight", w.Weight); err != nil {
		return err
	}
	if w.Stream != StreamCE && w.Stream != StreamLoss {
		return fmt.Errorf("stream: unknown value %q: use ce or loss", w.Stream)
	}
	return nil
}

// NeedsOutcome is true: the threshold is on it.
func (Imitate) NeedsOutcome() bool { return true }

// Weigh writes the weights.
func (w Imitate) Weigh(g *scored.Group) error {
	if w.Stream == StreamCE && g.CEWeights == nil {
		g.CEWeights = make([][]float64, len(g.Trajectories))
	}
	for i := range g.Trajectories {
		if !g.Kept(i) {
			continue
		}
		weight := 0.0
		if g.Outcome[i] >= w.AtLeast {
			weight = w.Weight
		}
		if w.Stream == StreamCE {
			g.CEWeights[i] = constant(g, i, weight)
			continue
		}
		weights := g.WritableLossWeights(i)
		for p := range weights {
			weights[p] *= weight
		}
	}
	return nil
}
