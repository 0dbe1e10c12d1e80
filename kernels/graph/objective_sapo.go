package graph

import "github.com/turnwise-rl/turnwise/kernels"

// sapo is the sigmoid gate of the ratio:
//
//	L = −A·(4/τ)·σ(τ(ρ − 1)),  τ = TauPositive where A > 0, else TauNegative
//
// SAPO, arXiv 2511.20347, eq. 5.
func sapo(o kernels.SAPO) objective {
	return func(b *builder, in inputs) terms {
		succeeded := b.above(in.advantages, 0)
		tau := b.either(succeeded, o.TauPositive, o.TauNegative)
		height := b.either(succeeded, 4/o.TauPositive, 4/o.TauNegative)
		gate := b.mul(height, b.sigmoid(b.mul(tau, b.shift(in.ratio, -1))))
		return terms{loss: b.neg(b.mul(in.advantages, gate))}
	}
}
