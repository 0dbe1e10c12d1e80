package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// pairInputs are what comparisons of pairs need.
type pairInputs struct {
	// chosen is 1 at the first token of each pair's chosen sequence, and share one over the number of pairs there; both are
	// 0 elsewhere.
	chosen, share *G.Node
	// weight is what a token counts in its sequence: one over its length for IPO, φ of its turn for DMPO; nil for DPO.
	weight *G.Node
}

func (c *compiled[T]) declarePairs(b *builder, p kernels.Program, k key) pairInputs {
	l := c.layout
	mark := func(name string, value func() T) *G.Node {
		return c.filled(b, name, k.capacity, func(b kernels.Batch[T], _ kernels.Totals, values []T) {
			layPairs(l, b)
			clear(values)
			for _, pair := range l.pairs {
				values[l.sequences[pair.chosen]] = value()
			}
		})
	}
	in := pairInputs{
		chosen: mark("chosen", func() T { return 1 }),
		share:  mark("share of pairs", func() T { return inverse[T](float64(len(l.pairs))) }),
	}
	switch o := p.Objective.(type) {
	case kernels.IPO:
		in.weight = c.filled(b, "per length", k.capacity, func(_ kernels.Batch[T], _ kernels.Totals, values []T) {
			shareOfSequences(l, 1, values)
		})
	case kernels.DMPO:
		in.weight = c.filled(b, "turn weight", k.capacity, func(_ kernels.Batch[T], _ kernels.Totals, values []T) {
			fillTurnWeights(l, o, values)
		})
	}
	return in
}

// dpo is the logistic loss of a pair. With Λ = Σ_t (log π − log π_ref),
//
//	L = −log σ(Beta·(Λ_chosen − Λ_rejected)) + ImitateCoef·mean(−log π) of the chosen sequence
//
// DPO, arXiv 2305.18290, eq. 7.
func dpo(o kernels.DPO) objective {
	return func(b *builder, in inputs) terms {
		difference := b.contrast(b.sub(in.logProbs, in.reference))
		loss := b.softplus(b.scale(-o.Beta, difference))
		if o.ImitateCoef > 0 {
			loss = b.add(loss, b.scale(o.ImitateCoef, imitation(b, in)))
		}
		return overPairs(b, in, loss, difference)
	}
}

// imitation is mean_t(−log π) over the token's sequence.
func imitation(b *builder, in inputs) *G.Node { return b.segmentMean(sequences, b.neg(in.logProbs)) }

// overPairs averages a loss that stands at the first tokens of chosen sequences, as does the difference between the
// chosen and the rejected one.
func overPairs(b *builder, in inputs, loss, difference *G.Node) terms {
	return terms{
		whole:   b.total(b.mul(in.pairs.share, loss)),
		pairs:   b.total(in.pairs.chosen),
		ordered: b.total(b.mul(in.pairs.chosen, b.above(difference, 0))),
	}
}
