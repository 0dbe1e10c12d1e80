package graph

import "github.com/turnwise-rl/turnwise/kernels"

// pack copies the sampled tokens of b, in order, into the graph's inputs, and lays out their turns,
// sequences and shares.
func (c *compiled[T]) pack(b kernels.Batch[T], totals kernels.Totals) {
	c.positions = c.positions[:0]
	l := c.layout
	l.turns, l.sequences = append(l.turns[:0], 0), append(l.sequences[:0], 0)
	for i := 0; i < b.Sequences(); i++ {
		first := len(c.positions)
		for t := b.Offsets[i]; t < b.Offsets[i+1]; t++ {
			if !b.Sampled[t] {
				continue
			}
			if n := len(c.positions); b.Turn != nil && n > first && b.Turn[t] != b.Turn[c.positions[n-1]] {
				l.turns = append(l.turns, int32(n))
			}
			c.positions = append(c.positions, t)
		}
		if n := int32(len(c.positions)); n > int32(first) {
			l.turns = append(l.turns, n)
			l.sequences = append(l.sequences, n)
		}
	}
	l.tokens = len(c.positions)
	for _, s := range c.streams {
		values := s.of(b)
		for i, position := range c.positions {
			s.packed[i] = values[position]
		}
	}
	c.shares(totals)
}

// shares writes each token's factor in the aggregated loss. Aggregation is linear, so it is one weight
// per token; denominators count the whole update.
//
//	token-mean 1/T · seq-mean-token-sum 1/S · seq-mean-token-mean 1/(S·n_i) · seq-sum-const 1/const ·
//	step-mean 1/(S·K_i·n_{i,k})
func (c *compiled[T]) shares(totals kernels.Totals) {
	l, p := c.layout, c.program
	switch p.Aggregate {
	case kernels.TokenMean:
		fill(c.share[:l.tokens], 1/float64(totals.Tokens))
	case kernels.SequenceMeanTokenSum:
		fill(c.share[:l.tokens], 1/float64(totals.Sequences))
	case kernels.SequenceSumConst:
		fill(c.share[:l.tokens], 1/p.AggregateConst)
	case kernels.SequenceMeanTokenAvg:
		for i := 0; i+1 < len(l.sequences); i++ {
			from, to := l.sequences[i], l.sequences[i+1]
			fill(c.share[from:to], 1/(float64(totals.Sequences)*float64(to-from)))
		}
	case kernels.StepMean:
		turn := 0
		for i := 0; i+1 < len(l.sequences); i++ {
			firstTurn := turn
			for l.turns[turn] < l.sequences[i+1] {
				turn++
			}
			for k := firstTurn; k < turn; k++ {
				from, to := l.turns[k], l.turns[k+1]
				fill(c.share[from:to], 1/(float64(totals.Sequences)*float64(turn-firstTurn)*float64(to-from)))
			}
		}
	}
}

func fill[T element](values []T, with float64) {
	for i := range values {
		values[i] = T(with)
	}
}
