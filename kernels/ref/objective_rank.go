package ref

import (
	"math"

	"github.com/turnwise-rl/turnwise/kernels"
)

// rank adds the mean over groups of the hinges of all pairs of sequences in the wrong order. With
// p_i = Σ_t log π / n_i^LengthPower,
//
//	L = Coef·Σ_{s_i > s_j} max(0, p_j − p_i) + BestCoef·mean_t(−log π) of the best
//	a hinge that is not 0: ∂/∂log π = Coef/n_j^LengthPower at tokens of j, −Coef/n_i^LengthPower at those of i
//
// RRHF, arXiv 2304.05302, eq. 3; TRICE, arXiv 2305.13068.
func (e *evaluation) rank(o kernels.Rank) {
	groups := e.ranked()
	for _, group := range groups {
		share := 1 / float64(len(groups))
		best := group[0]
		for _, i := range group {
			if e.b.RankScores[i] > e.b.RankScores[best] {
				best = i
			}
			for _, j := range group {
				if e.b.RankScores[i] > e.b.RankScores[j] {
					e.hinge(o, share, i, j)
				}
			}
		}
		imitation, slopes := e.imitation(best)
		e.add(share*o.BestCoef, imitation, slopes)
	}
}

// ranked are the sequences with a sampled token by group, both in the batch's order.
func (e *evaluation) ranked() [][]int {
	var groups [][]int
	index := map[int32]int{}
	for i := range e.b.Sequences() {
		if len(e.sampledIn(i)) == 0 {
			continue
		}
		number := int32(0)
		if e.b.Group != nil {
			number = e.b.Group[i]
		}
		at, known := index[number]
		if !known {
			at = len(groups)
			index[number], groups = at, append(groups, nil)
		}
		groups[at] = append(groups[at], i)
	}
	return groups
}

// hinge is max(0, p_worse − p_better).
func (e *evaluation) hinge(o kernels.Rank, share float64, better, worse int) {
	high, highSlopes := e.likelihood(o, better)
	low, lowSlopes := e.likelihood(o, worse)
	e.result.Metrics.Pairs++
	if e.less(low, high) {
		e.result.Metrics.Ordered++
		return
	}
	if low > high {
		e.add(share*o.Coef, low-high, append(lowSlopes, times(-1, highSlopes)...))
	}
}

// likelihood is p of a sequence.
func (e *evaluation) likelihood(o kernels.Rank, sequence int) (value float64, slopes []slope) {
	tokens := e.sampledIn(sequence)
	scale := math.Pow(float64(len(tokens)), o.LengthPower)
	for _, t := range tokens {
		value += e.b.LogProbs[t] / scale
		slopes = append(slopes, slope{t, 1 / scale})
	}
	return value, slopes
}
