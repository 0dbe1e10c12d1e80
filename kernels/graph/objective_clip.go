package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// clipped is PPO's clipped surrogate, with dual clip when c = DualClip > 0:
//
//	L = max(−Aρ, −A·clip(ρ, 1−lo, 1+hi));  A < 0 and c > 0: L = min(L, −A·c)
//
// Schulman et al., arXiv 1707.06347, eq. 7; dual clip: Ye et al., arXiv 1912.09729, eq. 5.
func clipped(o kernels.Clip) objective {
	return func(b *builder, in inputs) terms {
		minusA := b.neg(in.advantages)
		surrogate := b.mul(minusA, in.ratio)
		loss := b.max(surrogate, b.mul(minusA, bounded(b, o.ClipLow, o.ClipHigh, in)))
		if o.DualClip > 0 {
			// Where A ≥ 0 the bound is lifted out of reach: −A·ρ ≤ 0 there and |A|·c is not.
			loss = b.min(loss, b.scale(o.DualClip, b.abs(in.advantages)))
		}
		return terms{loss: loss, clipped: b.differs(loss, surrogate)}
	}
}

// bounded is ρ within [1−low, 1+high], high being the sequence's own where the batch has it.
func bounded(b *builder, low, high float64, in inputs) *G.Node {
	if in.clipHigh == nil {
		return b.clip(in.ratio, 1-low, 1+high)
	}
	return b.min(b.clip(in.ratio, 1-low, noBound), b.shift(in.clipHigh, 1))
}

// noBound is more than any ratio.
const noBound = 1e30
