package graph

import "github.com/turnwise-rl/turnwise/kernels"

// ipo fits the margin per token to its target. With z = mean_t (log π − log π_ref),
//
//	L = (z_chosen − z_rejected − 1/(2·Beta))²
//
// IPO, arXiv 2310.12036, eq. 17; the mean per token as in AReaL.
func ipo(o kernels.IPO) objective {
	return func(b *builder, in inputs) terms {
		perToken := b.mul(in.pairs.weight, b.sub(in.logProbs, in.reference))
		difference := b.contrast(perToken)
		return overPairs(b, in, b.square(b.shift(difference, -1/(2*o.Beta))), difference)
	}
}
