package ref

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/internal/randombatch"

	"pgregory.net/rapid"
)

// The gradient of a program with stop-gradients is the gradient of a program without: what is stopped
// is a number. A segment's ratio is a token ratio to an anchor that puts the segment's reduced
// log-ratio at the token; a stopped ratio is a factor of the advantage. unstopped makes that program,
// whose value can then be differenced.
func unstopped(p kernels.Program, b kernels.Batch[float64]) (kernels.Program, kernels.Batch[float64]) {
	anchor, advantages := make([]float64, b.Tokens()), append([]float64(nil), b.Advantages...)
	for i := range b.Sequences() {
		s := sequence{p: p, b: b, from: int(b.Offsets[i]), to: int(b.Offsets[i+1])}
		for t := s.from; t < s.to; t++ {
			if !b.Sampled[t] {
				continue
			}
			ratio, _ := s.ratio(t)
			anchor[t] = b.LogProbs[t] - math.Log(ratio)
			if p.Objective == kernels.ObjectiveReinforce {
				advantages[t] *= ratio
			}
		}
	}
	p.Anchor, p.Ratio = kernels.AnchorProximal, kernels.RatioToken
	if p.Objective == kernels.ObjectiveReinforce {
		p.Ratio = kernels.RatioOne
	}
	b.Proximal, b.Advantages = anchor, advantages
	return p, b
}

func TestGradientsAgreeWithFiniteDifferences(t *testing.T) {
	compared := 0
	rapid.Check(t, func(t *rapid.T) {
		p, b := randombatch.Program(t), randombatch.Batch(t)
		totals := kernels.Count(b)
		at, err := Evaluate(p, b, totals)
		if err != nil {
			t.Fatal(err)
		}
		plain, plainBatch := unstopped(p, b)
		for position := range b.LogProbs {
			if !b.Sampled[position] || nearKink(p, b, plainBatch, position) {
				continue
			}
			difference := centralDifference(t, plain, plainBatch, plainBatch.LogProbs, position, totals)
			if got := at.DLogProbs[position]; !close(got, difference) {
				t.Fatalf("%s: token %d: gradient %v, finite difference %v", p, position, got, difference)
			}
			compared++
			if p.UsesEntropy() {
				difference = centralDifference(t, plain, plainBatch, plainBatch.Entropy, position, totals)
				if got := at.DEntropy[position]; !close(got, difference) {
					t.Fatalf("%s: token %d: entropy gradient %v, finite difference %v", p, position, got, difference)
				}
			}
		}
	})
	if compared < 100 {
		t.Errorf("only %d gradients compared: nearly all drawn tokens are near a kink", compared)
	}
}

const step = 1e-5

func centralDifference(t *rapid.T, p kernels.Program, b kernels.Batch[float64], values []float64, position int, totals kernels.Totals) float64 {
	at := values[position]
	defer func() { values[position] = at }()
	var loss [2]float64
	for i, sign := range []float64{1, -1} {
		values[position] = at + sign*step
		result, err := Evaluate(p, b, totals)
		if err != nil {
			t.Fatal(err)
		}
		loss[i] = result.Loss
	}
	return (loss[0] - loss[1]) / (2 * step)
}

// nearKink is true where the loss has no derivative or one that a difference cannot see: close to a
// clipping bound, and where a clamp makes the ratio so extreme that the other tokens' parts of the loss
// drown in its rounding.
func nearKink(p kernels.Program, b, plain kernels.Batch[float64], t int) bool {
	for i := range b.LogProbs {
		if b.Sampled[i] && math.Abs(plain.LogProbs[i]-plain.Proximal[i]) > 8 {
			return true
		}
		if b.Sampled[i] && p.UsesReference() && math.Abs(b.LogProbs[i]-b.Reference[i]) > 8 {
			return true
		}
	}
	ratio := math.Exp(plain.LogProbs[t] - plain.Proximal[t])
	kinks := []float64{1 - p.ClipLow, 1 + p.ClipHigh}
	if p.DualClip > 0 {
		kinks = append(kinks, p.DualClip)
	}
	for _, kink := range kinks {
		if p.Objective == kernels.ObjectiveClip && math.Abs(ratio-kink) < 10*step*max(1, ratio) {
			return true
		}
	}
	if p.KL == kernels.KLK3 {
		if value, _ := divergence(p.KL, b.LogProbs[t]-b.Reference[t]); math.Abs(value-10) < 0.1 {
			return true
		}
	}
	return false
}

func close(a, b float64) bool { return math.Abs(a-b) <= 1e-5*max(1, math.Abs(a), math.Abs(b)) }
