// Package randombatch draws loss programs and batches for property tests.
package randombatch

import (
	"math"

	"github.com/turnwise-rl/turnwise/kernels"

	"pgregory.net/rapid"
)

// Program draws a valid program: any combination of ratio, anchor, objective, aggregation and
// regularisers.
func Program(t *rapid.T) kernels.Program {
	p := kernels.Program{
		Ratio:         rapid.SampledFrom(kernels.Ratios).Draw(t, "ratio"),
		RatioGradient: kernels.GradientOwn,
		Anchor:        rapid.SampledFrom([]kernels.Anchor{kernels.AnchorProximal, kernels.AnchorBehavior}).Draw(t, "anchor"),
		Objective:     kernels.Reinforce{},
		Rejected:      kernels.RejectedStay,
		Aggregate:     rapid.SampledFrom([]kernels.Aggregation{kernels.TokenMean, kernels.SequenceMeanTokenSum, kernels.SequenceMeanTokenAvg, kernels.SequenceSumConst, kernels.StepMean}).Draw(t, "aggregate"),
	}
	if p.Ratio != kernels.RatioOne && rapid.Bool().Draw(t, "clip") {
		p.Objective = kernels.Clip{
			ClipLow:  rapid.SampledFrom([]float64{0, 3e-4, 0.2, 1}).Draw(t, "clip_low"),
			ClipHigh: rapid.SampledFrom([]float64{0, 4e-4, 0.2, 0.28, 5}).Draw(t, "clip_high"),
			DualClip: rapid.SampledFrom([]float64{0, 1.5, 3}).Draw(t, "dual_clip"),
		}
	}
	if p.Aggregate == kernels.SequenceSumConst {
		p.AggregateConst = rapid.SampledFrom([]float64{1, 37.5}).Draw(t, "aggregate_const")
	}
	if rapid.Bool().Draw(t, "kl") {
		kl := kernels.NewKL()
		kl.Estimator = rapid.SampledFrom([]kernels.Divergence{kernels.KLK1, kernels.KLK2, kernels.KLK3}).Draw(t, "estimator")
		kl.Coef = rapid.SampledFrom([]float64{0, 0.001, 1}).Draw(t, "kl_coef")
		p.Regularizers = append(p.Regularizers, kl)
	}
	if rapid.Bool().Draw(t, "entropy bonus") {
		p.Regularizers = append(p.Regularizers, kernels.Entropy{Coef: rapid.SampledFrom([]float64{0, 0.01, -0.5}).Draw(t, "entropy_coef")})
	}
	return p
}

// Batch draws a batch with every stream. Tokens that are not sampled hold NaN. Sequences may be empty
// or have no sampled token. One batch in five has
// log-ratios beyond the clamp.
func Batch(t *rapid.T) kernels.Batch[float64] {
	b := kernels.Batch[float64]{Offsets: []int32{0}}
	for range rapid.IntRange(0, 6).Draw(t, "sequences") {
		n := rapid.IntRange(0, 9).Draw(t, "tokens")
		turn, before := int32(-1), false
		for range n {
			sampled := rapid.IntRange(0, 3).Draw(t, "sampled") > 0
			b.Sampled = append(b.Sampled, sampled)
			if sampled && !before {
				turn++
			}
			before = sampled
			if sampled {
				b.Turn = append(b.Turn, turn)
			} else {
				b.Turn = append(b.Turn, -1)
			}
		}
		b.Offsets = append(b.Offsets, int32(len(b.Sampled)))
	}
	logProb := rapid.Float64Range(-6, 0)
	b.LogProbs = stream(t, b, "logprob", logProb)
	drift := rapid.Float64Range(-0.6, 0.6)
	if rapid.IntRange(0, 4).Draw(t, "wild") == 0 {
		drift = rapid.Float64Range(-25, 25)
	}
	near := func(label string) []float64 {
		values := stream(t, b, label, drift)
		for i := range values {
			values[i] += b.LogProbs[i]
		}
		return values
	}
	b.Proximal, b.Behavior, b.Reference = near("proximal"), near("behavior"), near("reference")
	b.Entropy = stream(t, b, "entropy", rapid.Float64Range(0, 4))
	b.Advantages = stream(t, b, "advantage", rapid.Float64Range(-3, 3))
	b.LossWeights = stream(t, b, "weight", rapid.Float64Range(0, 2))
	return b
}

func stream(t *rapid.T, b kernels.Batch[float64], label string, values *rapid.Generator[float64]) []float64 {
	out := make([]float64, len(b.Sampled))
	for i := range out {
		out[i] = math.NaN()
		if b.Sampled[i] {
			out[i] = values.Draw(t, label)
		}
	}
	return out
}
