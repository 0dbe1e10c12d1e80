package graph

import "github.com/turnwise-rl/turnwise/kernels"

// cispo is the score-function loss weighted by the clipped ratio:
//
//	L = −sg[clip(ρ, 1−lo, 1+hi)]·A·log π
//
// MiniMax-M1, arXiv 2506.13585, eq. 4.
func cispo(o kernels.CISPO) objective {
	return func(b *builder, in inputs) terms {
		weight := b.clip(in.ratio, 1-o.ClipLow, 1+o.ClipHigh)
		return terms{
			loss:    score(b, b.mul(weight, in.advantages), in),
			clipped: b.mul(b.differs(weight, in.ratio), b.nonzero(in.advantages)),
		}
	}
}
