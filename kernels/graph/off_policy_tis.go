package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// tis is the importance weight of the drift, capped above:
//
//	token: w = min(e^x, Cap)    sequence: w = min(e^{Σ x}, Cap)    sequence-geometric: w = min(e^{mean x}, Cap)
//
// divided by its mean over the update's tokens, or over its sequences' first tokens, where Normalize says so.
//
// verl rollout_corr_helper.py.
func tis(b *builder, c kernels.TIS, in inputs) *G.Node {
	w := b.clip(drifted(b, c.Level, in), 0, c.Cap)
	switch c.Normalize {
	case kernels.NormalizeTokens:
		return b.mul(w, b.invert(b.average(w, in)))
	case kernels.NormalizeSequences:
		first := in.firstInSequence
		return b.mul(w, b.mul(b.total(first), b.invert(b.total(b.mul(first, w)))))
	}
	return w
}
