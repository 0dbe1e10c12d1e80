package ref

import (
	"math"
	"sort"

	"github.com/turnwise-rl/turnwise/kernels"
)

// correct multiplies the weights of all corrections, each computed over all sampled tokens.
func (e *evaluation) correct() {
	e.weight, e.kept = make([]float64, e.b.Tokens()), make([]bool, e.b.Tokens())
	for _, t := range e.sampled() {
		e.weight[t], e.kept[t] = 1, true
	}
	for _, correction := range e.p.OffPolicy {
		for t, w := range e.correction(correction) {
			e.weight[t] *= w
			e.kept[t] = e.kept[t] && w != 0
		}
	}
}

// correction is one part's weight of every sampled token.
func (e *evaluation) correction(correction kernels.Correction) map[int]float64 {
	weights := map[int]float64{}
	switch c := correction.(type) {
	case kernels.TIS:
		for _, t := range e.sampled() {
			weights[t] = math.Min(e.drifted(c.Level, t), c.Cap)
		}
		e.normalize(c.Normalize, weights)
	case kernels.Reject:
		for _, t := range e.sampled() {
			weights[t] = one(e.accepts(c, t))
		}
	case kernels.IcePop:
		for _, t := range e.sampled() {
			w := math.Exp(e.drift(t))
			weights[t] = w * one(e.within(w, c.Low, c.High))
		}
	case kernels.Veto:
		for i := range e.b.Sequences() {
			keep := true
			for _, t := range e.sampledIn(i) {
				keep = !e.below(math.Exp(e.drift(t)), c.Min) && keep
			}
			for _, t := range e.sampledIn(i) {
				weights[t] = one(keep)
			}
		}
	case kernels.M2PO:
		e.secondMoment(c, weights)
	case kernels.BehaviorWeight:
		for _, t := range e.sampled() {
			w := e.drifted(c.Level, t)
			if weights[t] = math.Min(math.Max(w, c.Low), c.High); c.Action == kernels.ActionMask {
				weights[t] = w * one(e.within(w, c.Low, c.High))
			}
		}
	}
	return weights
}

// drift is x = log π_p − log μ, or log π − log μ where the anchor is the behavior policy, within ±20.
func (e *evaluation) drift(t int) float64 {
	current := e.frozen.LogProbs[t]
	if e.p.Anchor != kernels.AnchorBehavior {
		current = e.anchor(t)
	}
	return clamp(current - e.b.Behavior[t])
}

func (e *evaluation) drifts(sequence int) []float64 {
	var x []float64
	for _, t := range e.sampledIn(sequence) {
		x = append(x, e.drift(t))
	}
	return x
}

// drifted is e^x (token), e^{Σ x} (sequence) or e^{mean x} (sequence-geometric).
func (e *evaluation) drifted(level kernels.CorrectionLevel, t int) float64 {
	switch level {
	case kernels.LevelSequence:
		return math.Exp(clamp(sum(e.drifts(e.in[t]))))
	case kernels.LevelSequenceGeometric:
		return math.Exp(mean(e.drifts(e.in[t])))
	}
	return math.Exp(e.drift(t))
}

// normalize divides weights by their mean over tokens, or over sequences by each one's first token.
func (e *evaluation) normalize(over kernels.Normalization, weights map[int]float64) {
	var counted []float64
	switch over {
	case kernels.NormalizeTokens:
		for _, t := range e.sampled() {
			counted = append(counted, weights[t])
		}
	case kernels.NormalizeSequences:
		for i := range e.b.Sequences() {
			if tokens := e.sampledIn(i); len(tokens) > 0 {
				counted = append(counted, weights[tokens[0]])
			}
		}
	}
	if len(counted) == 0 {
		return
	}
	scale := mean(counted)
	for t := range weights {
		weights[t] /= scale
	}
}

// accepts tells whether a rejection rule keeps token t.
//
//	k1: Low ≤ e^{x, Σ x or mean x} ≤ High
//	k2: x²/2, its sum, mean or maximum ≤ High    k3: the same of e^x − 1 − x
func (e *evaluation) accepts(c kernels.Reject, t int) bool {
	x := []float64{e.drift(t)}
	if c.Level != kernels.RejectToken {
		x = e.drifts(e.in[t])
	}
	if c.Estimator == kernels.DriftK1 {
		reduced := mean(x)
		if c.Level == kernels.RejectSequenceSum {
			reduced = clamp(sum(x))
		}
		return e.within(math.Exp(reduced), c.Low, c.High)
	}
	estimates := make([]float64, len(x))
	for i, x := range x {
		estimates[i] = x * x / 2
		if c.Estimator == kernels.DriftK3 {
			estimates[i] = math.Exp(x) - 1 - x
		}
	}
	switch c.Level {
	case kernels.RejectSequenceSum:
		return !e.below(c.High, sum(estimates))
	case kernels.RejectSequenceMax:
		largest := 0.0
		for _, k := range estimates {
			largest = math.Max(largest, k)
		}
		return !e.below(c.High, largest)
	}
	return !e.below(c.High, mean(estimates))
}

// secondMoment drops tokens from the largest x² down until the mean of x² over the rest is less than Tau.
func (e *evaluation) secondMoment(c kernels.M2PO, weights map[int]float64) {
	order := e.sampled()
	square := func(t int) float64 { return e.drift(t) * e.drift(t) }
	sort.SliceStable(order, func(i, j int) bool { return square(order[i]) > square(order[j]) })
	from := 0
	for ; from < len(order)-1; from++ {
		var rest []float64
		for _, t := range order[from:] {
			rest = append(rest, square(t))
		}
		if e.below(mean(rest), c.Tau) {
			break
		}
	}
	for i, t := range order {
		weights[t] = one(i >= from)
		if i > 0 && i == from {
			e.below(square(t), square(order[i-1]))
		}
	}
}

// clamp is x within ±20.
func clamp(x float64) float64 {
	return math.Min(math.Max(x, -kernels.LogRatioBound), kernels.LogRatioBound)
}

func (e *evaluation) within(x, low, high float64) bool { return !e.below(x, low) && !e.below(high, x) }

func one(keep bool) float64 {
	if keep {
		return 1
	}
	return 0
}
