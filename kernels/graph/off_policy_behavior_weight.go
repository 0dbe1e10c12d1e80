package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// behaviorWeight is w = e^x per token, or e^{mean x} for all tokens of a sequence. Outside [Low, High] it is clamped,
// or the token is dropped. AReaL, arXiv 2505.24298, eq. 5.
func behaviorWeight(b *builder, c kernels.BehaviorWeight, in inputs) (weight, keep *G.Node) {
	w := drifted(b, c.Level, in)
	if c.Action == kernels.ActionMask {
		return w, b.inside(w, c.Low, c.High)
	}
	return b.clip(w, c.Low, c.High), nil
}
