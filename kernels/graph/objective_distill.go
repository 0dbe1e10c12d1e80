package graph

import "github.com/turnwise-rl/turnwise/kernels"

// distill moves the policy towards the reference policy. With Δ = π − π_anchor,
//
//	L = −keep·sg[log π_ref − log π]·ρ,  keep = 0 where Δ < −DropBelow
//
// prime-rl trainer/rl/loss.py, ref_kl.
func distill(o kernels.Distill) objective {
	return func(b *builder, in inputs) terms {
		dropped := b.below(movedBy(b, in), -o.DropBelow)
		pull := b.stop(b.sub(in.reference, in.logProbs))
		return terms{loss: b.neg(b.mul(b.mul(b.not(dropped), pull), in.ratio)), clipped: dropped}
	}
}
