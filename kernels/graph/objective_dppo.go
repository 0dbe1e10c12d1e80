package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// dppo drops tokens whose probability has moved too far. With Δ = π − π_anchor,
//
//	L = −keep·A·ρ,  keep = 0 where A > 0 and Δ > High, or A ≤ 0 and Δ < −Low; symmetric: where |Δ| > High
//
// prime-rl trainer/rl/loss.py (dppo, ipo).
func dppo(o kernels.DPPO) objective {
	return func(b *builder, in inputs) terms {
		moved := movedBy(b, in)
		dropped := b.choose(b.above(in.advantages, 0), b.above(moved, o.High), b.below(moved, -o.Low))
		if o.Symmetric {
			dropped = b.above(b.abs(moved), o.High)
		}
		return terms{
			loss:    b.neg(b.mul(b.mul(b.not(dropped), in.advantages), in.ratio)),
			clipped: b.mul(dropped, b.nonzero(in.advantages)),
		}
	}
}

// movedBy is Δ = π − π_anchor, without a gradient.
func movedBy(b *builder, in inputs) *G.Node {
	return b.stop(b.sub(b.exp(in.logProbs), b.exp(in.anchor)))
}
