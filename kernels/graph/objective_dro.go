package graph

import "github.com/turnwise-rl/turnwise/kernels"

// dro fits the log-ratio to the advantage:
//
//	L = −A·log π + Beta/2·(log π − log π_anchor)²
//
// DRO, arXiv 2405.19107; verl core_algos.py.
func dro(o kernels.DRO) objective {
	return func(b *builder, in inputs) terms {
		penalty := b.scale(o.Beta/2, b.square(b.sub(in.logProbs, in.anchor)))
		return terms{loss: b.add(score(b, in.advantages, in), penalty)}
	}
}
