package ref

import (
	"math"
	"slices"

	"github.com/turnwise-rl/turnwise/kernels"
)

// mask rejects what any mask rejects.
func (e *evaluation) mask() {
	for _, mask := range e.p.Mask {
		for _, t := range e.sampled() {
			keep := true
			switch m := mask.(type) {
			case kernels.EntropyQuantile:
				keep = e.atLeastQuantile(m, t)
			case kernels.NegativeDrift:
				keep = !e.movedAway(m, t)
			}
			if !keep {
				e.kept[t], e.weight[t] = false, 0
			}
		}
	}
}

// atLeastQuantile tells whether the token's entropy is at least the (1 − Keep) quantile of the update's. With the n
// entropies in ascending order and p = (1 − Keep)(n − 1), that is e_⌊p⌋ + (p − ⌊p⌋)(e_⌈p⌉ − e_⌊p⌋).
func (e *evaluation) atLeastQuantile(m kernels.EntropyQuantile, t int) bool {
	var entropies []float64
	for _, t := range e.sampled() {
		entropies = append(entropies, e.frozen.Entropy[t])
	}
	slices.Sort(entropies)
	p := (1 - m.Keep) * float64(len(entropies)-1)
	below, above := entropies[int(math.Floor(p))], entropies[int(math.Ceil(p))]
	quantile := below + (p-math.Floor(p))*(above-below)
	if e.frozen.Entropy[t] == quantile {
		return true
	}
	return e.below(quantile, e.frozen.Entropy[t])
}

// movedAway tells whether the token has a negative advantage in a sequence whose mean of log μ − log π is more than
// Threshold.
func (e *evaluation) movedAway(m kernels.NegativeDrift, t int) bool {
	var drift []float64
	for _, j := range e.sampledIn(e.in[t]) {
		drift = append(drift, e.b.Behavior[j]-e.frozen.LogProbs[j])
	}
	return e.below(m.Threshold, mean(drift)) && e.b.Advantages[t] < 0
}
