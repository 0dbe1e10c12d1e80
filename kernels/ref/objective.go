package ref

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels"
)

// token is the loss of token t, its derivatives and whether a bound of the objective changes it.
func (e *evaluation) token(t int) (loss float64, slopes []slope, clipped bool, err error) {
	switch o := e.p.Objective.(type) {
	case kernels.Clip:
		loss, slopes, clipped = e.clip(o, t)
	case kernels.ClipKeep:
		loss, slopes, clipped = e.clipKeep(o, t)
	case kernels.ClipCov:
		loss, slopes, clipped = e.clipCov(o, t)
	case kernels.KLCov:
		loss, slopes = e.klCov(o, t)
	case kernels.SAPO:
		loss, slopes = e.sapo(o, t)
	case kernels.GMPO:
		loss, slopes, clipped = e.gmpo(o, t)
	case kernels.DPPO:
		loss, slopes, clipped = e.dppo(o, t)
	case kernels.Distill:
		loss, slopes, clipped = e.distill(o, t)
	case kernels.DRO:
		loss, slopes = e.dro(o, t)
	case kernels.Reinforce:
		loss, slopes = e.reinforce(o, t)
	case kernels.CISPO:
		loss, slopes, clipped = e.cispo(o, t)
	case kernels.TOPR:
		loss, slopes, clipped = e.topr(t)
	case kernels.CrossEntropy:
		loss, slopes = -e.b.LogProbs[t], []slope{{t, -1}}
	default:
		err = fmt.Errorf("objective: the oracle has no %T", o)
	}
	return loss, slopes, clipped, err
}

// times are slopes multiplied by a factor.
func times(factor float64, slopes []slope) []slope {
	out := make([]slope, len(slopes))
	for i, s := range slopes {
		out[i] = slope{s.at, factor * s.by}
	}
	return out
}

// frozenRatio is sg[ρ]: the ratio with the log-probabilities of the start.
func (e *evaluation) frozenRatio(t int) float64 {
	still := *e
	still.b.LogProbs = e.frozen.LogProbs
	return still.ratio(t)
}

// sapo is the sigmoid gate.
//
//	L = −A·(4/τ)·σ(τ(ρ − 1)),  dL/dρ = −A·4·σ·(1 − σ);  τ = TauPositive where A > 0, else TauNegative
//
// SAPO, arXiv 2511.20347, eq. 5.
func (e *evaluation) sapo(o kernels.SAPO, t int) (loss float64, slopes []slope) {
	a, tau := e.b.Advantages[t], o.TauNegative
	if a > 0 {
		tau = o.TauPositive
	}
	gate := 1 / (1 + math.Exp(-tau*(e.ratio(t)-1)))
	return -a * 4 / tau * gate, times(-a*4*gate*(1-gate), e.ratioSlopes(t))
}

// gmpo is the geometric mean of clipped ratios. With s = sign(A) and the n tokens j of the sequence,
//
//	d̂_j = s_j·min(s_j·d_j, s_j·clip(d_j, −lo, hi)),  L = −A·e^{mean d̂}
//	∂L/∂log π_j = L/n where d̂_j = d_j, else 0
//
// GMPO, arXiv 2507.20673, eq. 4.
func (e *evaluation) gmpo(o kernels.GMPO, t int) (loss float64, slopes []slope, clipped bool) {
	var limited []float64
	var free []int
	tokens := e.sampledIn(e.in[t])
	for _, j := range tokens {
		a := e.b.Advantages[j]
		d, inside := e.limit(e.b.LogProbs[j]-e.anchor(j), kernels.LogRatioBound)
		switch {
		case a > 0 && e.less(o.ClipHigh, d):
			d, inside = o.ClipHigh, false
			clipped = clipped || j == t
		case a < 0 && e.less(d, -o.ClipLow):
			d, inside = -o.ClipLow, false
			clipped = clipped || j == t
		case a == 0:
			d, inside = 0, false
		}
		limited = append(limited, d)
		if inside {
			free = append(free, j)
		}
	}
	loss = -e.b.Advantages[t] * math.Exp(mean(limited))
	for _, j := range free {
		slopes = append(slopes, slope{j, loss / float64(len(tokens))})
	}
	return loss, slopes, clipped
}

// moved is Δ = π − π_anchor, a constant.
func (e *evaluation) moved(t int) float64 {
	return math.Exp(e.frozen.LogProbs[t]) - math.Exp(e.anchor(t))
}

// dppo drops tokens whose probability has moved too far.
//
//	L = −keep·A·ρ,  dL/dρ = −keep·A
//	keep = 0 where A > 0 and Δ > High, or A ≤ 0 and Δ < −Low; symmetric: where |Δ| > High
//
// prime-rl trainer/rl/loss.py.
func (e *evaluation) dppo(o kernels.DPPO, t int) (loss float64, slopes []slope, dropped bool) {
	a, moved := e.b.Advantages[t], e.moved(t)
	switch {
	case o.Symmetric:
		dropped = e.below(o.High, math.Abs(moved))
	case a > 0:
		dropped = e.below(o.High, moved)
	default:
		dropped = e.below(moved, -o.Low)
	}
	if dropped {
		return 0, nil, true
	}
	return -a * e.ratio(t), times(-a, e.ratioSlopes(t)), false
}

// distill moves towards the reference policy.
//
//	L = −keep·sg[log π_ref − log π]·ρ,  dL/dρ = −keep·(log π_ref − log π);  keep = 0 where Δ < −DropBelow
//
// prime-rl trainer/rl/loss.py, ref_kl.
func (e *evaluation) distill(o kernels.Distill, t int) (loss float64, slopes []slope, dropped bool) {
	if e.below(e.moved(t), -o.DropBelow) {
		return 0, nil, true
	}
	a := e.b.Reference[t] - e.frozen.LogProbs[t]
	return -a * e.ratio(t), times(-a, e.ratioSlopes(t)), false
}

// dro fits the log-ratio to the advantage. With d = log π − log π_anchor,
//
//	L = −A·log π + Beta/2·d²,  dL/dlog π = −A + Beta·d
//
// DRO, arXiv 2405.19107; verl core_algos.py.
func (e *evaluation) dro(o kernels.DRO, t int) (loss float64, slopes []slope) {
	a, d := e.b.Advantages[t], e.b.LogProbs[t]-e.anchor(t)
	return -a*e.b.LogProbs[t] + o.Beta/2*d*d, []slope{{t, -a + o.Beta*d}}
}
