package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// share declares each token's factor in the aggregated loss. Aggregation is linear, so it is one weight
// per token; denominators count the whole update.
//
//	token-mean 1/T · token-sum 1 · weighted-mean 1/W · seq-mean-token-sum 1/S · seq-mean-token-mean 1/(S·n_i) ·
//	seq-sum-const 1/const · step-mean 1/(S·K_i·n_{i,k})
//
// T counts tokens, W sums loss weights, S counts sequences.
func (c *compiled[T]) share(b *builder, capacity int) *G.Node {
	p, l := c.program, c.layout
	var divisor func(kernels.Totals) float64
	switch p.Aggregate {
	case kernels.SequenceMeanTokenAvg:
		return c.filled(b, "share", capacity, func(_ kernels.Batch[T], totals kernels.Totals, share []T) {
			shareOfSequences(l, float64(totals.Sequences), share)
		})
	case kernels.StepMean:
		return c.filled(b, "share", capacity, func(_ kernels.Batch[T], totals kernels.Totals, share []T) {
			shareOfTurns(l, float64(totals.Sequences), share)
		})
	case kernels.TokenMean:
		divisor = func(t kernels.Totals) float64 { return float64(t.Tokens) }
	case kernels.WeightedMean:
		divisor = func(t kernels.Totals) float64 { return t.LossWeight }
	case kernels.SequenceMeanTokenSum:
		divisor = func(t kernels.Totals) float64 { return float64(t.Sequences) }
	case kernels.SequenceSumConst:
		divisor = func(kernels.Totals) float64 { return p.AggregateConst }
	default:
		divisor = func(kernels.Totals) float64 { return 1 }
	}
	return b.spread(c.single(b, "share", func(_ kernels.Batch[T], totals kernels.Totals) T {
		if d := divisor(totals); d != 0 {
			return T(1 / d)
		}
		return 0
	}))
}

func shareOfSequences[T element](l *layout, sequences float64, share []T) {
	for i := 0; i+1 < len(l.sequences); i++ {
		from, to := l.sequences[i], l.sequences[i+1]
		fill(share[from:to], T(1/(sequences*float64(to-from))))
	}
}

func shareOfTurns[T element](l *layout, sequences float64, share []T) {
	turn := 0
	for i := 0; i+1 < len(l.sequences); i++ {
		first := turn
		for l.turns[turn] < l.sequences[i+1] {
			turn++
		}
		for k := first; k < turn; k++ {
			from, to := l.turns[k], l.turns[k+1]
			fill(share[from:to], T(1/(sequences*float64(turn-first)*float64(to-from))))
		}
	}
}

func fill[T element](values []T, with T) {
	for i := range values {
		values[i] = with
	}
}

// shareOfKept is each kept token's factor in an aggregation that counts kept tokens only, and sequences and turns
// with one. The batch is the whole update.
func shareOfKept(b *builder, p kernels.Program, keep *G.Node, in inputs) *G.Node {
	// live counts the sequences, or the turns of a sequence, that have a kept token.
	keptIn := func(s segment) *G.Node { return b.segmentSum(s, keep) }
	live := func(first *G.Node, s segment) *G.Node { return b.mul(first, b.above(keptIn(s), 0)) }
	switch p.Aggregate {
	case kernels.TokenMean:
		return b.mul(keep, b.invert(b.total(keep)))
	case kernels.WeightedMean:
		if in.lossWeights == nil {
			return b.mul(keep, b.invert(b.total(keep)))
		}
		return b.mul(keep, b.invert(b.total(b.mul(keep, in.lossWeights))))
	case kernels.SequenceMeanTokenSum:
		return b.mul(keep, b.invert(b.total(live(in.firstInSequence, sequences))))
	case kernels.SequenceMeanTokenAvg:
		perSequence := b.invert(b.total(live(in.firstInSequence, sequences)))
		return b.mul(b.mul(keep, b.invert(keptIn(sequences))), perSequence)
	case kernels.StepMean:
		perSequence := b.invert(b.total(live(in.firstInSequence, sequences)))
		perTurn := b.invert(b.segmentSum(sequences, live(in.firstInTurn, turns)))
		return b.mul(b.mul(b.mul(keep, b.invert(keptIn(turns))), perTurn), perSequence)
	}
	return in.share // seq-sum-const and token-sum count nothing
}
