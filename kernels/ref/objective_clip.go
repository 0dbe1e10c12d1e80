package ref

import (
	"math"
	"sort"

	"github.com/turnwise-rl/turnwise/kernels"
)

// clip is PPO's clipped surrogate, with dual clip when c = DualClip > 0.
//
//	L = max(−Aρ, −A·clip(ρ, 1−lo, 1+hi));  A < 0 and c > 0: L = min(L, −A·c)
//	dL/dρ = −A where L is −Aρ, 0 where it is a bound
//
// Schulman et al., arXiv 1707.06347, eq. 7; dual clip: Ye et al., arXiv 1912.09729, eq. 5.
func (e *evaluation) clip(o kernels.Clip, t int) (loss float64, slopes []slope, clipped bool) {
	a, rho := e.b.Advantages[t], e.ratio(t)
	high := e.clipHigh(o.ClipHigh, t)
	switch {
	case a > 0 && e.less(1+high, rho):
		return -a * (1 + high), nil, true
	case a < 0 && o.DualClip > 0 && e.less(o.DualClip, rho):
		return -a * o.DualClip, nil, true
	case a < 0 && e.less(rho, 1-o.ClipLow):
		return -a * (1 - o.ClipLow), nil, true
	}
	return -a * rho, times(-a, e.ratioSlopes(t)), false
}

// clipHigh is the sequence's own upper bound, or the program's.
func (e *evaluation) clipHigh(program float64, t int) float64 {
	if e.b.ClipHigh == nil {
		return program
	}
	return e.b.ClipHigh[e.in[t]]
}

// clipKeep is clip with a gradient in the upper branch.
//
//	A > 0 and ρ > 1+hi: L = −A(1+hi)·ρ/sg[ρ],  dL/dρ = −A(1+hi)/ρ
//
// AEPO, in the release of AT²PO, arXiv 2601.04767.
func (e *evaluation) clipKeep(o kernels.ClipKeep, t int) (loss float64, slopes []slope, clipped bool) {
	a, rho, still := e.b.Advantages[t], e.ratio(t), e.frozenRatio(t)
	bound := -a * (1 + e.clipHigh(o.ClipHigh, t))
	if a > 0 && e.less(1+e.clipHigh(o.ClipHigh, t), rho) {
		return bound * rho / still, times(bound/still, e.ratioSlopes(t)), true
	}
	return e.clip(kernels.Clip{ClipLow: o.ClipLow, ClipHigh: o.ClipHigh}, t)
}

// clipCov is clip without the tokens that release chose: their loss is 0.
//
// Clip-Cov, arXiv 2505.22617, eq. 11.
func (e *evaluation) clipCov(o kernels.ClipCov, t int) (loss float64, slopes []slope, clipped bool) {
	loss, slopes, clipped = e.clip(kernels.Clip{ClipLow: o.ClipLow, ClipHigh: o.ClipHigh}, t)
	if e.released[t] {
		return 0, nil, clipped
	}
	return loss, slopes, clipped
}

// release draws ⌊Share·tokens⌋ of the unclipped tokens with Low < c < High, those with the smallest lots.
func (e *evaluation) release(o kernels.ClipCov) map[int]bool {
	covariance := e.covariance()
	type ticket struct {
		token int
		lot   uint64
	}
	var tickets []ticket
	for place, t := range e.sampled() {
		_, _, clipped := e.clip(kernels.Clip{ClipLow: o.ClipLow, ClipHigh: o.ClipHigh}, t)
		above, below := e.below(o.Low, covariance[t]), e.below(covariance[t], o.High)
		if !clipped && above && below {
			tickets = append(tickets, ticket{t, o.Lot(place)})
		}
	}
	sort.Slice(tickets, func(i, j int) bool { return tickets[i].lot < tickets[j].lot })
	released := map[int]bool{}
	for _, drawn := range tickets[:min(len(tickets), int(o.Share*float64(len(covariance))))] {
		released[drawn.token] = true
	}
	return released
}

// covariance is c = (A − mean A)(log π − mean log π) at each sampled token, means over the sampled tokens.
func (e *evaluation) covariance() map[int]float64 {
	var a, l []float64
	for _, t := range e.sampled() {
		a, l = append(a, e.b.Advantages[t]), append(l, e.frozen.LogProbs[t])
	}
	covariance := map[int]float64{}
	for i, t := range e.sampled() {
		covariance[t] = (a[i] - mean(a)) * (l[i] - mean(l))
	}
	return covariance
}

// klCov is the surrogate with a penalty on the tokens that penalize chose.
//
//	L = −Aρ + Coef·|d|,  dL/dlog π = −Aρ + Coef·sign(d)
//
// KL-Cov, arXiv 2505.22617, eq. 12.
func (e *evaluation) klCov(o kernels.KLCov, t int) (loss float64, slopes []slope) {
	a, d := e.b.Advantages[t], e.b.LogProbs[t]-e.anchor(t)
	loss, slopes = -a*e.ratio(t), times(-a, e.ratioSlopes(t))
	if e.penalized[t] {
		loss += o.Coef * math.Abs(d)
		slopes = append(slopes, slope{t, o.Coef * e.sign(d)})
	}
	return loss, slopes
}

// penalize chooses the max(1, ⌊Share·tokens⌋) sampled tokens with the highest covariance.
func (e *evaluation) penalize(o kernels.KLCov) map[int]bool {
	covariance, order := e.covariance(), e.sampled()
	sort.SliceStable(order, func(i, j int) bool { return covariance[order[i]] > covariance[order[j]] })
	n := min(len(order), max(1, int(o.Share*float64(len(order)))))
	penalized := map[int]bool{}
	for i, t := range order {
		if i < n {
			penalized[t] = true
		}
		if i > 0 && i == n {
			e.below(covariance[t], covariance[order[i-1]])
		}
	}
	return penalized
}

// sign is −1, 0 or 1.
func (e *evaluation) sign(x float64) float64 {
	switch {
	case e.less(x, 0):
		return -1
	case x > 0:
		return 1
	}
	return 0
}
