package ref

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels"
)

// regularize adds one regularizer. Those that are aggregated like the objective count all sampled tokens.
//
//	entropy: −Coef·Σ share·H, dH: −Coef·share
//	squared_log_ratio: Coef·Σ share·(log π − log μ)², derivative 2·Coef·share·(log π − log μ)
//	cross_entropy: Coef·Σ w(−log π)/Σ w, derivative −Coef·w/Σ w
//	kl: Coef·Σ share·k; reference_kl: Coef·Σ w·k/Σ w
func (e *evaluation) regularize(term kernels.Regularizer) error {
	shares := e.shares(false)
	for _, t := range e.sampled() {
		l := e.b.LogProbs[t]
		switch r := term.(type) {
		case kernels.Entropy:
			e.result.Loss -= shares[t] * r.Coef * e.b.Entropy[t]
			e.result.DEntropy[t] -= shares[t] * r.Coef
		case kernels.SquaredLogRatio:
			d := l - e.b.Behavior[t]
			e.add(shares[t]*r.Coef, d*d, []slope{{t, 2 * d}})
		case kernels.AuxiliaryCE:
			e.add(r.Coef*over(e.b.CEWeights[t], e.totals.CEWeight), -l, []slope{{t, -1}})
		case kernels.KL:
			k, derivative := e.divergence(r, l-e.b.Reference[t], e.frozen.LogProbs[t]-e.b.Reference[t])
			e.add(shares[t]*r.Coef, k, []slope{{t, derivative}})
			e.result.Metrics.ReferenceKLSum += k
		case kernels.ReferenceKL:
			limits := kernels.NewKL()
			limits.Estimator = r.Estimator
			k, derivative := e.divergence(limits, l-e.b.Reference[t], e.frozen.LogProbs[t]-e.b.Reference[t])
			e.add(r.Coef*over(e.b.ReferenceKLWeights[t], e.totals.ReferenceKLWeight), k, []slope{{t, derivative}})
			e.result.Metrics.ReferenceKLSum += e.b.ReferenceKLWeights[t] * k
		case kernels.Value:
			e.value(r, t)
		default:
			return fmt.Errorf("regularizers: the oracle has no %T", r)
		}
	}
	return nil
}

// over is x/total, 0 when the total is 0.
func over(x, total float64) float64 {
	if total == 0 {
		return 0
	}
	return x / total
}

// divergence is an estimate of KL from d = log π − log r, and its derivative with respect to log π.
//
//	k1: d, 1    k2: d²/2, d    abs: |d|, sign d
//	k3: e^−d + d − 1, 1 − e^−d    with d limited to ±Clamp and k3 to ±Bound, derivative 0 beyond
//	with a plus: the value sg[k] + k2 − sg[k2], the derivative d
//
// still is d with the log-probabilities of the start. Schulman, "Approximating KL divergence"; verl core_algos.py.
func (e *evaluation) divergence(r kernels.KL, d, still float64) (value, derivative float64) {
	base := r
	switch r.Estimator {
	case kernels.KLK1:
		return d, 1
	case kernels.KLK2:
		return d * d / 2, d
	case kernels.KLAbs:
		return math.Abs(d), e.sign(d)
	case kernels.KLK1Plus:
		base.Estimator = kernels.KLK1
	case kernels.KLK3Plus:
		base.Estimator = kernels.KLK3
	case kernels.KLAbsPlus:
		base.Estimator = kernels.KLAbs
	case kernels.KLK3:
		return e.k3(r, d)
	}
	value, _ = e.divergence(base, still, still)
	return value + d*d/2 - still*still/2, d
}

func (e *evaluation) k3(r kernels.KL, d float64) (value, derivative float64) {
	inside := true
	if r.Clamp > 0 {
		d, inside = e.limit(d, r.Clamp)
	}
	value, derivative = math.Exp(-d)+d-1, 1-math.Exp(-d)
	if r.Bound > 0 && e.less(r.Bound, value) {
		value, inside = r.Bound, false
	}
	if !inside {
		return value, 0
	}
	return value, derivative
}

// value is the critic's loss of a token, averaged over the update's tokens. With e = v − G and ê = clip(v, v_old ± Clip) − G,
//
//	squared: Coef·½·max(e², ê²)    huber: Coef·max(h(e), h(ê)), h(e) = e²/2 up to Delta, Delta(|e| − Delta/2) beyond
//	derivative: that of the larger one; 0 when that is ê and v is beyond the clip
//
// PPO2; verl core_algos.py, compute_value_loss; Huber as in AReaL.
func (e *evaluation) value(r kernels.Value, t int) {
	v, target := e.b.Values[t], e.b.Returns[t]
	loss, derivative := criticLoss(r, v-target)
	if r.Clip > 0 {
		old := e.b.OldValues[t]
		if moved, inside := e.limit(v-old, r.Clip); !inside {
			if clipped, _ := criticLoss(r, old+moved-target); e.less(loss, clipped) {
				loss, derivative = clipped, 0
			}
		}
	}
	share := r.Coef / float64(e.totals.Tokens)
	e.result.Loss += share * loss
	e.result.DValues[t] += share * derivative
	e.result.Metrics.ValueErrorSum += (v - target) * (v - target)
}

func criticLoss(r kernels.Value, miss float64) (loss, derivative float64) {
	if r.Loss == kernels.ValueHuber && math.Abs(miss) > r.Delta {
		return r.Delta * (math.Abs(miss) - r.Delta/2), math.Copysign(r.Delta, miss)
	}
	return miss * miss / 2, miss
}
