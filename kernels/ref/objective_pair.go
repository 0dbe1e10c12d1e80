package ref

import (
	"math"

	"github.com/turnwise-rl/turnwise/kernels"
)

// pairs adds the mean over the batch's pairs of a loss of Δ = Φ_chosen − Φ_rejected.
//
//	dpo, dmpo: −log σ(z), z = Beta·Δ − Margin;  dL/dΔ = −Beta·σ(−z)
//	ipo:       (Δ − 1/(2·Beta))²;               dL/dΔ = 2(Δ − 1/(2·Beta))
//	dpo adds ImitateCoef·mean(−log π) of the chosen sequence
//
// DPO, arXiv 2305.18290, eq. 7; IPO, arXiv 2310.12036, eq. 17; DMPO, arXiv 2406.14868, eq. 12.
func (e *evaluation) pairs(objective kernels.Objective) {
	m := &e.result.Metrics
	for i, pair := range e.b.Pair {
		if pair >= 0 && e.b.Chosen[i] {
			m.Pairs++
		}
	}
	for chosen, pair := range e.b.Pair {
		if pair < 0 || !e.b.Chosen[chosen] {
			continue
		}
		good, goodSlopes := e.preference(objective, chosen)
		bad, badSlopes := e.preference(objective, e.partner(chosen))
		if e.below(bad, good) {
			m.Ordered++
		}
		loss, derivative := pairLoss(objective, good-bad)
		e.add(1/m.Pairs, loss, append(times(derivative, goodSlopes), times(-derivative, badSlopes)...))
		if o, ok := objective.(kernels.DPO); ok {
			imitation, slopes := e.imitation(chosen)
			e.add(o.ImitateCoef/m.Pairs, imitation, slopes)
		}
	}
}

func pairLoss(objective kernels.Objective, delta float64) (loss, derivative float64) {
	var beta, margin float64
	switch o := objective.(type) {
	case kernels.IPO:
		miss := delta - 1/(2*o.Beta)
		return miss * miss, 2 * miss
	case kernels.DPO:
		beta = o.Beta
	case kernels.DMPO:
		beta, margin = o.Beta, o.Margin
	}
	z := beta*delta - margin
	return math.Max(-z, 0) + math.Log1p(math.Exp(-math.Abs(z))), -beta / (1 + math.Exp(z))
}

// partner is the other sequence of a chosen one's pair.
func (e *evaluation) partner(chosen int) int {
	for i, pair := range e.b.Pair {
		if i != chosen && pair == e.b.Pair[chosen] {
			return i
		}
	}
	panic("ref: Check lets every pair have two sequences")
}

// preference is Φ of a sequence, with l = log π − log π_ref at its sampled tokens.
//
//	dpo: Σ l    ipo: mean l    dmpo: Σ_t φ(t)·Σ_{turn t} l, φ(t) = (1 − γ^{T−t})/(1 − γ^T), over T when normalised
func (e *evaluation) preference(objective kernels.Objective, sequence int) (value float64, slopes []slope) {
	tokens := e.sampledIn(sequence)
	for _, t := range tokens {
		weight := 1.0
		switch o := objective.(type) {
		case kernels.IPO:
			weight = 1 / float64(len(tokens))
		case kernels.DMPO:
			turn, turns := e.ordinal(t)
			weight = (1 - math.Pow(o.Discount, turns-turn)) / (1 - math.Pow(o.Discount, turns))
			if o.LengthNormalize {
				weight /= turns
			}
		}
		value += weight * (e.b.LogProbs[t] - e.b.Reference[t])
		slopes = append(slopes, slope{t, weight})
	}
	return value, slopes
}

// ordinal is the number of turns before t's own that have a sampled token, and of all of the sequence.
func (e *evaluation) ordinal(t int) (turn, turns float64) {
	seen := map[int32]bool{}
	for _, j := range e.sampledIn(e.in[t]) {
		if !seen[e.b.Turn[j]] && e.b.Turn[j] < e.b.Turn[t] {
			turn++
		}
		seen[e.b.Turn[j]] = true
	}
	return turn, float64(len(seen))
}

// imitation is the mean of −log π over a sequence.
func (e *evaluation) imitation(sequence int) (loss float64, slopes []slope) {
	tokens := e.sampledIn(sequence)
	for _, t := range tokens {
		loss -= e.b.LogProbs[t] / float64(len(tokens))
		slopes = append(slopes, slope{t, -1 / float64(len(tokens))})
	}
	return loss, slopes
}
