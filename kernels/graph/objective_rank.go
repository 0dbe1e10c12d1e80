package graph

import (
	"math"

	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// rankInputs are what a ranking needs.
type rankInputs struct {
	// perLength is one over the length of the token's sequence to the power of LengthPower.
	perLength *G.Node
	// best is one over the number of groups at the first token of each group's best sequence, and 0 elsewhere.
	best *G.Node
	// perGroup is one over the number of groups, comparisons how many pairs are compared; one value each.
	perGroup, comparisons *G.Node
}

func (c *compiled[T]) declareRank(b *builder, p kernels.Program, k key) rankInputs {
	l := c.layout
	var best []int
	groups := 0
	o, _ := p.Objective.(kernels.Rank)
	return rankInputs{
		best: c.filled(b, "best of group", k.capacity, func(b kernels.Batch[T], _ kernels.Totals, values []T) {
			best = layRanks(l, b)
			groups = len(best)
			clear(values)
			for _, sequence := range best {
				values[l.sequences[sequence]] = inverse[T](float64(groups))
			}
		}),
		perLength: c.filled(b, "per length", k.capacity, func(_ kernels.Batch[T], _ kernels.Totals, values []T) {
			for i := 0; i+1 < len(l.sequences); i++ {
				n := float64(l.sequences[i+1] - l.sequences[i])
				fill(tokensOf(l, i, values), T(math.Pow(n, -o.LengthPower)))
			}
		}),
		perGroup:    c.single(b, "per group", func(kernels.Batch[T], kernels.Totals) T { return inverse[T](float64(groups)) }),
		comparisons: c.single(b, "comparisons", func(kernels.Batch[T], kernels.Totals) T { return T(len(l.better)) }),
	}
}

// rank is the hinge on every pair of a group's sequences in the wrong order. With p_i = Σ_t log π/n_i^LengthPower,
//
//	L = Coef·Σ_{s_i > s_j} max(0, p_j − p_i) + BestCoef·mean_t(−log π) of the best,  averaged over groups
//
// RRHF, arXiv 2304.05302, eq. 3; TRICE, arXiv 2305.13068.
func rank(o kernels.Rank) objective {
	return func(b *builder, in inputs) terms {
		p := b.segmentSum(sequences, b.mul(in.rank.perLength, in.logProbs))
		over := b.sub(b.gather(worse, p), b.gather(better, p))
		hinge := b.mul(over, b.above(over, 0))
		return terms{
			whole: b.add(
				b.scale(o.Coef, b.mul(in.rank.perGroup, b.total(hinge))),
				b.scale(o.BestCoef, b.total(b.mul(in.rank.best, imitation(b, in)))),
			),
			pairs:   in.rank.comparisons,
			ordered: b.total(b.below(over, 0)),
		}
	}
}

// layRanks lays out the comparisons within groups and returns each group's best sequence, the first of several.
func layRanks[T element](l *layout, b kernels.Batch[T]) (best []int) {
	l.better, l.worse = l.better[:0], l.worse[:0]
	live := l.live(b.Offsets)
	var groups [][]int
	at := map[int32]int{}
	for sequence, i := range live {
		number := int32(0)
		if b.Group != nil {
			number = b.Group[i]
		}
		if _, known := at[number]; !known {
			at[number], groups = len(groups), append(groups, nil)
		}
		groups[at[number]] = append(groups[at[number]], sequence)
	}
	for _, group := range groups {
		first := group[0]
		for _, i := range group {
			if b.RankScores[live[i]] > b.RankScores[live[first]] {
				first = i
			}
			for _, j := range group {
				if b.RankScores[live[i]] > b.RankScores[live[j]] {
					l.better, l.worse = append(l.better, l.sequences[i]), append(l.worse, l.sequences[j])
				}
			}
		}
		best = append(best, first)
	}
	return best
}
