// Package ref is the float64 oracle of the loss programs: one token after another, in the order of
// the equations, with gradients derived by hand. It is what kernels/graph is tested against and shares
// no arithmetic with it. Speed is not its business.
package ref

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels"
)

// Evaluate returns the batch's share of the loss of p, its gradient and metrics, under the contract
// of graph.Evaluator.Evaluate.
func Evaluate(p kernels.Program, b kernels.Batch[float64], totals kernels.Totals) (kernels.Result[float64], error) {
	if err := p.Validate(); err != nil {
		return kernels.Result[float64]{}, fmt.Errorf("loss program: %w", err)
	}
	if err := b.Check(p, totals); err != nil {
		return kernels.Result[float64]{}, err
	}
	result := kernels.Result[float64]{DLogProbs: make([]float64, b.Tokens())}
	if p.Reads().Has(kernels.ReadsEntropy) {
		result.DEntropy = make([]float64, b.Tokens())
	}
	for i := range b.Sequences() {
		s := sequence{p: p, b: b, from: int(b.Offsets[i]), to: int(b.Offsets[i+1])}
		for t := s.from; t < s.to; t++ {
			if b.Sampled[t] {
				s.token(t, s.share(t, totals), &result)
			}
		}
	}
	return result, nil
}

// sequence is one sequence of a batch under a program.
type sequence struct {
	p        kernels.Program
	b        kernels.Batch[float64]
	from, to int
}

// token adds token t's part of the loss, its gradient and its metrics; share is its weight in the
// aggregate:
//
//	share·( w·L + kl_coef·KL − entropy_coef·H )
func (s sequence) token(t int, share float64, result *kernels.Result[float64]) {
	weight := 1.0
	if s.b.LossWeights != nil {
		weight = s.b.LossWeights[t]
	}
	ratio, dRatio := s.ratio(t)
	loss, dLoss, clipped := s.objective(t, ratio, dRatio)
	result.Loss += share * weight * loss
	result.DLogProbs[t] += share * weight * dLoss
	m := &result.Metrics
	m.Tokens++
	m.RatioSum += ratio
	if clipped {
		m.Clipped++
	}
	for _, term := range s.p.Regularizers {
		switch r := term.(type) {
		case kernels.KL:
			kl, dKL := divergence(r.Estimator, s.b.LogProbs[t]-s.b.Reference[t])
			result.Loss += share * r.Coef * kl
			result.DLogProbs[t] += share * r.Coef * dKL
			m.ReferenceKLSum += kl
		case kernels.Entropy:
			result.Loss -= share * r.Coef * s.b.Entropy[t]
			result.DEntropy[t] -= share * r.Coef
		}
	}
	if s.b.Entropy != nil {
		m.EntropySum += s.b.Entropy[t]
	}
	if s.b.Behavior != nil {
		k3, _ := divergence(kernels.KLK3, s.b.Behavior[t]-s.b.LogProbs[t])
		m.BehaviorK3Sum += k3
	}
}

// ratio is ρ at token t and its derivative with respect to log π_t:
//
//	ρ = exp(clamp(reduce d, ±20)),  dρ/dlog π_t = ρ inside the clamp, 0 outside
//
// d = log π − log anchor, reduced over the token's segment. A segment's ratio is a constant but for
// the token's own log π, which enters once as log π_t − sg[log π_t] whatever the reduction.
func (s sequence) ratio(t int) (ratio, derivative float64) {
	d := 0.0
	switch s.p.Ratio {
	case kernels.RatioToken:
		d = s.logRatio(t)
	case kernels.RatioTurn:
		d = s.meanOver(func(j int) bool { return s.b.Turn[j] == s.b.Turn[t] })
	case kernels.RatioSequenceGeometric:
		d = s.meanOver(func(int) bool { return true })
	case kernels.RatioSequenceProduct:
		for j := s.from; j < s.to; j++ {
			if s.b.Sampled[j] {
				d += s.logRatio(j)
			}
		}
	}
	ratio = math.Exp(math.Min(math.Max(d, -kernels.LogRatioBound), kernels.LogRatioBound))
	if math.Abs(d) > kernels.LogRatioBound {
		return ratio, 0
	}
	return ratio, ratio
}

func (s sequence) logRatio(t int) float64 {
	if s.p.Anchor == kernels.AnchorBehavior {
		return s.b.LogProbs[t] - s.b.Behavior[t]
	}
	return s.b.LogProbs[t] - s.b.Proximal[t]
}

func (s sequence) meanOver(member func(int) bool) float64 {
	sum, n := 0.0, 0.0
	for j := s.from; j < s.to; j++ {
		if s.b.Sampled[j] && member(j) {
			sum += s.logRatio(j)
			n++
		}
	}
	return sum / n
}

// objective is the token's loss, its derivative and whether the surrogate is clipped.
//
//	clip:      L = max(−Aρ, −A·clip(ρ)); A < 0 and c > 0: L = min(L, −A·c)
//	           dL = −A·dρ where L is −Aρ, 0 where it is a bound
//	reinforce: L = −sg[ρ]·A·log π,  dL = −ρA
func (s sequence) objective(t int, ratio, dRatio float64) (loss, derivative float64, clipped bool) {
	a := s.b.Advantages[t]
	o, ok := s.p.Objective.(kernels.Clip)
	if !ok {
		if s.p.Ratio == kernels.RatioOne {
			ratio = 1
		}
		return -ratio * a * s.b.LogProbs[t], -ratio * a, false
	}
	plain := -a * ratio
	switch {
	case a > 0 && ratio > 1+o.ClipHigh:
		return -a * (1 + o.ClipHigh), 0, true
	case a < 0 && ratio < 1-o.ClipLow:
		return -a * (1 - o.ClipLow), 0, true
	case a < 0 && o.DualClip > 0 && ratio > o.DualClip:
		return -a * o.DualClip, 0, true
	}
	return plain, -a * dRatio, false
}

// divergence is an estimate of KL from d = log π − log r, and its derivative with respect to log π.
//
//	k1: d, 1    k2: d²/2, d    k3: e^−d + d − 1, 1 − e^−d    with d limited to ±20 and k3 to ±10
func divergence(estimator kernels.Divergence, d float64) (value, derivative float64) {
	switch estimator {
	case kernels.KLK1:
		return d, 1
	case kernels.KLK2:
		return d * d / 2, d
	}
	inside := math.Abs(d) <= kernels.LogRatioBound
	d = math.Min(math.Max(d, -kernels.LogRatioBound), kernels.LogRatioBound)
	value, derivative = math.Exp(-d)+d-1, 1-math.Exp(-d)
	if value > 10 || !inside {
		return math.Min(value, 10), 0
	}
	return value, derivative
}

// share is token t's weight in the aggregated loss.
func (s sequence) share(t int, totals kernels.Totals) float64 {
	switch s.p.Aggregate {
	case kernels.SequenceMeanTokenSum:
		return 1 / float64(totals.Sequences)
	case kernels.SequenceMeanTokenAvg:
		return 1 / float64(totals.Sequences) / s.count(func(int) bool { return true })
	case kernels.SequenceSumConst:
		return 1 / s.p.AggregateConst
	case kernels.StepMean:
		own := s.count(func(j int) bool { return s.b.Turn[j] == s.b.Turn[t] })
		return 1 / float64(totals.Sequences) / s.turns() / own
	}
	return 1 / float64(totals.Tokens)
}

func (s sequence) count(member func(int) bool) float64 {
	n := 0.0
	for j := s.from; j < s.to; j++ {
		if s.b.Sampled[j] && member(j) {
			n++
		}
	}
	return n
}

func (s sequence) turns() float64 {
	seen := map[int32]bool{}
	for j := s.from; j < s.to; j++ {
		if s.b.Sampled[j] {
			seen[s.b.Turn[j]] = true
		}
	}
	return float64(len(seen))
}
