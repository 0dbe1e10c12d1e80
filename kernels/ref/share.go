package ref

import "github.com/turnwise-rl/turnwise/kernels"

// shares is each token's weight in the aggregate. With leave, rejected tokens, and sequences and turns without any
// other token, are in no denominator; otherwise the denominators are those of the whole update. A denominator of 0
// gives weight 0.
//
//	token-mean 1/tokens    token-sum 1    weighted-mean 1/Σ w    seq-mean-token-sum 1/sequences
//	seq-mean-token-mean 1/(sequences·tokens of the sequence)    seq-sum-const 1/const
//	step-mean 1/(sequences·turns of the sequence·tokens of the turn)
func (e *evaluation) shares(leave bool) []float64 {
	counts := func(t int) bool { return !leave || e.kept[t] }
	totals := e.totals
	if leave {
		totals = kernels.Totals{}
		for i := range e.b.Sequences() {
			live := filter(e.sampledIn(i), counts)
			if len(live) > 0 {
				totals.Sequences++
			}
			totals.Tokens += len(live)
			for _, t := range live {
				totals.LossWeight += e.lossWeight(t)
			}
		}
	}
	shares := make([]float64, e.b.Tokens())
	for _, t := range filter(e.sampled(), counts) {
		shares[t] = 1 / e.denominator(t, totals, counts)
		if totals.LossWeight == 0 && e.p.Aggregate == kernels.WeightedMean {
			shares[t] = 0
		}
	}
	return shares
}

func (e *evaluation) denominator(t int, totals kernels.Totals, counts func(int) bool) float64 {
	sequence := filter(e.sampledIn(e.in[t]), counts)
	switch e.p.Aggregate {
	case kernels.TokenSum:
		return 1
	case kernels.WeightedMean:
		return totals.LossWeight
	case kernels.SequenceMeanTokenSum:
		return float64(totals.Sequences)
	case kernels.SequenceMeanTokenAvg:
		return float64(totals.Sequences) * float64(len(sequence))
	case kernels.SequenceSumConst:
		return e.p.AggregateConst
	case kernels.StepMean:
		turns := map[int32]int{}
		for _, j := range sequence {
			turns[e.b.Turn[j]]++
		}
		return float64(totals.Sequences) * float64(len(turns)) * float64(turns[e.b.Turn[t]])
	}
	return float64(totals.Tokens)
}

func filter(positions []int, keep func(int) bool) []int {
	var kept []int
	for _, t := range positions {
		if keep(t) {
			kept = append(kept, t)
		}
	}
	return kept
}
