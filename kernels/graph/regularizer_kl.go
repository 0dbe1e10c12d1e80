package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// klTerm is Coef·k(π, π_ref).
func klTerm(b *builder, r kernels.KL, in inputs) term {
	k := divergence(b, r, in.logProbs, in.reference)
	return term{aggregated: b.scale(r.Coef, k), referenceKL: b.total(k)}
}

// referenceKLTerm is Coef·w·k(π, π_ref)/Σ w, w the divergence weights. prime-rl trainer/rl/loss.py, ref_kl.
func referenceKLTerm(b *builder, r kernels.ReferenceKL, in inputs) term {
	limits := kernels.NewKL()
	limits.Estimator = r.Estimator
	weighted := b.mul(in.referenceKLWeights, divergence(b, limits, in.logProbs, in.reference))
	return term{averaged: b.scale(r.Coef, b.mul(weighted, in.perReferenceKLWeight)), referenceKL: b.total(weighted)}
}

// divergence estimates KL(π‖r) at each token from samples of π, with d = log π − log r:
//
//	k1 = d    k2 = d²/2    abs = |d|    k3 = e^−d + d − 1, d limited to ±Clamp and k3 to ±Bound
//
// with a plus, sg[k] + k2 − sg[k2]: the value of k and the gradient of k2.
//
// Schulman, "Approximating KL divergence"; limits as in verl's core_algos.py.
func divergence(b *builder, r kernels.KL, logProbs, reference *G.Node) *G.Node {
	d := b.sub(logProbs, reference)
	switch r.Estimator {
	case kernels.KLK1:
		return d
	case kernels.KLK2:
		return b.scale(0.5, b.square(d))
	case kernels.KLAbs:
		return b.abs(d)
	case kernels.KLK1Plus:
		return b.withGradientOfK2(d, d)
	case kernels.KLAbsPlus:
		return b.withGradientOfK2(b.abs(d), d)
	case kernels.KLK3Plus:
		return b.withGradientOfK2(k3(b, r, d), d)
	}
	return k3(b, r, d)
}

func k3(b *builder, r kernels.KL, d *G.Node) *G.Node {
	if r.Clamp > 0 {
		d = b.clip(d, -r.Clamp, r.Clamp)
	}
	k := b.shift(b.add(b.exp(b.neg(d)), d), -1)
	if r.Bound > 0 {
		k = b.clip(k, -r.Bound, r.Bound)
	}
	return k
}

func (b *builder) withGradientOfK2(k, d *G.Node) *G.Node {
	return b.add(b.stop(k), b.straight(b.scale(0.5, b.square(d))))
}
