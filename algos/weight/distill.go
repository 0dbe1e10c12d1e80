package weight

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Distill weighs the divergence from the reference policy, a teacher say, with the same Weight at every sampled
// token of a kept trajectory that no mask keeps out of the loss; the reference_kl regularizer reads it.
// prime-rl trainer/rl/loss.py, ref_kl.
type Distill struct {
	// Weight is the weight. Default 1.
	Weight float64 `yaml:"weight"`
}

// Validate reports a weight that is negative.
func (w Distill) Validate() error { return fact.NotNegative("weight", w.Weight) }

// Weigh writes the weights.
func (w Distill) Weigh(g *scored.Group) error {
	if g.ReferenceKLWeights == nil {
		g.ReferenceKLWeights = make([][]float64, len(g.Trajectories))
	}
	for i := range g.Trajectories {
		if g.Kept(i) {
			g.ReferenceKLWeights[i] = constant(g, i, w.Weight)
		}
	}
	return nil
}
