package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// reinforce is the score-function loss; with ratio one, −A·log π:
//
//	L = −sg[ρ·(A − Tau·log ρ)]·log π
//
// Williams 1992; Tau: prime-rl trainer/rl/loss.py, December 2025.
func reinforce(o kernels.Reinforce) objective {
	return func(b *builder, in inputs) terms {
		a := in.advantages
		if in.ratio == nil {
			return terms{loss: score(b, a, in)}
		}
		if o.Tau > 0 {
			a = b.sub(a, b.scale(o.Tau, in.logRatio))
		}
		return terms{loss: score(b, b.mul(in.ratio, a), in)}
	}
}

// score is −sg[weight]·log π.
func score(b *builder, weight *G.Node, in inputs) *G.Node {
	return b.mul(b.neg(b.stop(weight)), in.logProbs)
}
