package ref

import (
	"math"

	"github.com/turnwise-rl/turnwise/kernels"
)

// ratio is ρ at token t.
//
//	ρ = exp(clamp(z, ±20)),  d_j = log π_j − log anchor_j
//	z = d_t (token), mean_j d_j (turn, sequence-geometric), Σ_j d_j (sequence-product), 0 (one)
//
// j runs over the segment's sampled tokens. With gradient own, a segment's z is sg[z] + log π_t − sg[log π_t].
func (e *evaluation) ratio(t int) float64 {
	z, _ := e.limit(e.logRatio(t), kernels.LogRatioBound)
	return math.Exp(z)
}

// ratioSlopes are the derivatives of ρ at token t: with inside the clamp
//
//	own: ∂ρ/∂log π_t = ρ    segment: ∂ρ/∂log π_j = ρ/n (means), ρ (product) for the n tokens j of the segment
//
// and 0 outside.
func (e *evaluation) ratioSlopes(t int) []slope {
	rho := e.ratio(t)
	if math.Abs(e.logRatio(t)) > kernels.LogRatioBound || e.p.Ratio == kernels.RatioOne {
		return nil
	}
	if e.p.Ratio == kernels.RatioToken || e.p.RatioGradient == kernels.GradientOwn {
		return []slope{{t, rho}}
	}
	segment, each := e.segment(t), rho
	if e.p.Ratio != kernels.RatioSequenceProduct {
		each = rho / float64(len(segment))
	}
	var slopes []slope
	for _, j := range segment {
		slopes = append(slopes, slope{j, each})
	}
	return slopes
}

// logRatio is z, not limited.
func (e *evaluation) logRatio(t int) float64 {
	if e.p.Ratio == kernels.RatioOne {
		return 0
	}
	if e.p.Ratio == kernels.RatioToken {
		return e.b.LogProbs[t] - e.anchor(t)
	}
	from, through := e.frozen.LogProbs, e.b.LogProbs[t]-e.frozen.LogProbs[t]
	if e.p.RatioGradient == kernels.GradientSegment {
		from, through = e.b.LogProbs, 0
	}
	var d []float64
	for _, j := range e.segment(t) {
		d = append(d, from[j]-e.anchor(j))
	}
	if e.p.Ratio == kernels.RatioSequenceProduct {
		return sum(d) + through
	}
	return mean(d) + through
}

// segment are the sampled tokens that share a ratio with t.
func (e *evaluation) segment(t int) []int {
	if e.p.Ratio != kernels.RatioTurn {
		return e.sampledIn(e.in[t])
	}
	return e.turnOf(t)
}

// turnOf are the sampled tokens of t's turn.
func (e *evaluation) turnOf(t int) []int {
	var turn []int
	for _, j := range e.sampledIn(e.in[t]) {
		if e.b.Turn[j] == e.b.Turn[t] {
			turn = append(turn, j)
		}
	}
	return turn
}

// anchor is the log-probability the ratio divides by, a constant. With v_b and v_θ the versions,
//
//	α = clip((v_θ − 1 − v_b) / (v_θ − v_b), 0, 1), 0 where v_b ≥ v_θ
//	loglinear: log μ + α(log π − log μ)    linear: log((1 − α)μ + απ)
//
// areal/utils/functional/functional.py.
func (e *evaluation) anchor(t int) float64 {
	switch e.p.Anchor {
	case kernels.AnchorProximal:
		return e.b.Proximal[t]
	case kernels.AnchorBehavior:
		return e.b.Behavior[t]
	}
	alpha := 0.0
	if age := float64(e.b.Version) - float64(e.b.Versions[t]); age > 0 {
		alpha = math.Min(math.Max((age-1)/age, 0), 1)
	}
	behavior, current := e.b.Behavior[t], e.frozen.LogProbs[t]
	if e.p.Anchor == kernels.AnchorLogLinear {
		return behavior + alpha*(current-behavior)
	}
	return math.Log((1-alpha)*math.Exp(behavior) + alpha*math.Exp(current))
}
