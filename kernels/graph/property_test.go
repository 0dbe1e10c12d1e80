package graph

import (
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/internal/randombatch"
	"github.com/turnwise-rl/turnwise/kernels/ref"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// relative compares floats at tolerance·max(1, |x|, |y|).
func relative(tolerance float64) cmp.Option {
	return cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(func(x, y float64) bool {
		return math.Abs(x-y) <= tolerance*max(1, math.Abs(x), math.Abs(y))
	})}
}

// resultOf is the result of an evaluator, which must not fail.
func resultOf[T kernels.Float](t rapid.TB, e *Evaluator[T], p kernels.Program, b kernels.Batch[T], totals kernels.Totals) kernels.Result[T] {
	t.Helper()
	r, err := e.Evaluate(p, b, totals)
	if err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	return r
}

// margin is how far the nearest comparison of an evaluation is from the other outcome.
func margin(t rapid.TB, p kernels.Program, b kernels.Batch[float64]) float64 {
	t.Helper()
	m, err := ref.Margin(p, b, kernels.Count(b))
	if err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	return m
}

func TestGraphAgreesWithOracle(t *testing.T) {
	for _, variant := range kernels.ObjectiveTable {
		t.Run(variant.Name, func(t *testing.T) {
			double := New[float64]()
			rapid.Check(t, func(t *rapid.T) {
				p, b := randombatch.Draw{Objectives: []string{variant.Name}}.Program(t), randombatch.Batch(t)
				totals := kernels.Count(b)
				if p.Scope() == kernels.OneSequence {
					totals.Tokens += rapid.IntRange(0, 5).Draw(t, "tokens elsewhere")
					totals.Sequences += rapid.IntRange(0, 5).Draw(t, "sequences elsewhere")
				}
				if margin(t, p, b) < 1e-9 {
					return // a comparison that rounding decides
				}
				want, err := ref.Evaluate(p, b, totals)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, resultOf(t, double, p, b, totals), relative(1e-9)); diff != "" {
					t.Fatalf("%s (-ref +graph):\n%s", p, diff)
				}
			})
		})
	}
}

func TestSinglePrecisionAgreesWithDouble(t *testing.T) {
	single, double := New[float32](), New[float64]()
	rapid.Check(t, func(t *rapid.T) {
		p := randombatch.Program(t)
		narrow, wide := randombatch.Rounded(randombatch.Batch(t))
		totals := kernels.Count(wide)
		if margin(t, p, wide) < 1e-5 || steep(wide, 2) {
			return // a comparison that rounding decides, or a log-ratio that amplifies it
		}
		want, got := resultOf(t, double, p, wide, totals), resultOf(t, single, p, narrow, totals)
		if diff := cmp.Diff(want.Loss, got.Loss, relative(1e-5)); diff != "" {
			t.Fatalf("%s: loss (-double +single):\n%s", p, diff)
		}
		for _, gradient := range []struct {
			name      string
			want, got []float64
		}{
			{"log-probabilities", want.DLogProbs, widened(got.DLogProbs)}, {"entropy", want.DEntropy, widened(got.DEntropy)},
			{"values", want.DValues, widened(got.DValues)},
		} {
			if diff := cmp.Diff(gradient.want, gradient.got, relative(1e-5)); diff != "" {
				t.Fatalf("%s: gradient by %s (-double +single):\n%s", p, gradient.name, diff)
			}
		}
	})
}

func widened(values []float32) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = float64(v)
	}
	return out
}

// steep is true where a sampled token's log-ratio is more than bound.
func steep(b kernels.Batch[float64], bound float64) bool {
	for t, sampled := range b.Sampled {
		for _, other := range [][]float64{b.Proximal, b.Behavior, b.Reference} {
			if sampled && math.Abs(b.LogProbs[t]-other[t]) > bound {
				return true
			}
		}
	}
	return false
}

func TestObservationTokensNeverMatter(t *testing.T) {
	evaluator := New[float64]()
	rapid.Check(t, func(t *rapid.T) {
		p, b := randombatch.Program(t), randombatch.Batch(t)
		before := resultOf(t, evaluator, p, b, kernels.Count(b))
		changed := randombatch.Junk(b, rapid.SampledFrom([]float64{0, math.Inf(1), -7, math.NaN()}).Draw(t, "junk"))
		changed.Turn, changed.Versions = slices.Clone(b.Turn), slices.Clone(b.Versions)
		for i, sampled := range b.Sampled {
			if !sampled {
				changed.Turn[i] = int32(rapid.IntRange(-1, 9).Draw(t, "turn"))
				changed.Versions[i] = 99
			}
		}
		after := resultOf(t, evaluator, p, changed, kernels.Count(b))
		if diff := cmp.Diff(before, after); diff != "" {
			t.Fatalf("%s: observation tokens changed the result:\n%s", p, diff)
		}
		for i, sampled := range b.Sampled {
			for _, gradient := range [][]float64{after.DLogProbs, after.DEntropy, after.DValues} {
				if gradient != nil && !sampled && gradient[i] != 0 {
					t.Fatalf("%s: token %d is not sampled and has gradient %v", p, i, gradient[i])
				}
			}
		}
	})
}

// Cutting a batch at any sequence, in any order, does not change the loss, the gradient or the metrics.
func TestMicroBatchesAddUp(t *testing.T) {
	evaluator := New[float64]()
	rapid.Check(t, func(t *rapid.T) {
		p, b := randombatch.Draw{OneSequence: true}.Program(t), randombatch.Batch(t)
		b.Pair, b.Chosen = nil, nil // which may be in different micro-batches
		totals := kernels.Count(b)
		whole := resultOf(t, evaluator, p, b, totals)
		sum := kernels.Result[float64]{DLogProbs: make([]float64, b.Tokens())}
		if whole.DEntropy != nil {
			sum.DEntropy = make([]float64, b.Tokens())
		}
		if whole.DValues != nil {
			sum.DValues = make([]float64, b.Tokens())
		}
		for _, i := range rapid.Permutation(indices(b.Sequences())).Draw(t, "order") {
			part := resultOf(t, evaluator, p, randombatch.Sequence(b, i), totals)
			sum.Loss += part.Loss
			copy(sum.DLogProbs[b.Offsets[i]:], part.DLogProbs)
			if sum.DEntropy != nil {
				copy(sum.DEntropy[b.Offsets[i]:], part.DEntropy)
			}
			if sum.DValues != nil {
				copy(sum.DValues[b.Offsets[i]:], part.DValues)
			}
			sum.Metrics.Add(part.Metrics)
		}
		if diff := cmp.Diff(whole, sum, relative(1e-12)); diff != "" {
			t.Fatalf("%s (-whole +sum of micro-batches):\n%s", p, diff)
		}
	})
}

// The order of the sequences does not matter, and neither does padding behind, before or between them.
func TestPermutationAndPaddingInvariance(t *testing.T) {
	evaluator := New[float64]()
	rapid.Check(t, func(t *rapid.T) {
		p, b := randombatch.Program(t), randombatch.Batch(t)
		if _, lots := p.Objective.(kernels.ClipCov); lots || b.Tokens() == 0 || margin(t, p, b) < 1e-9 {
			return // a choice by place in the update, or one that rounding decides
		}
		for i := range b.RankScores {
			b.RankScores[i] += float64(i) / 64 // of equally good sequences the first is the best
		}
		order := rapid.Permutation(indices(b.Sequences())).Draw(t, "order")
		moved, from := arranged(t, b, order)
		want, got := resultOf(t, evaluator, p, b, kernels.Count(b)), resultOf(t, evaluator, p, moved, kernels.Count(moved))
		back := kernels.Result[float64]{Loss: got.Loss, Metrics: got.Metrics}
		for _, gradient := range []struct {
			want, got []float64
			into      *[]float64
		}{{want.DLogProbs, got.DLogProbs, &back.DLogProbs}, {want.DEntropy, got.DEntropy, &back.DEntropy}, {want.DValues, got.DValues, &back.DValues}} {
			if gradient.want == nil {
				continue
			}
			*gradient.into = make([]float64, b.Tokens())
			for position, at := range from {
				if at >= 0 {
					(*gradient.into)[at] = gradient.got[position]
				}
			}
		}
		if diff := cmp.Diff(want, back, relative(1e-9)); diff != "" {
			t.Fatalf("%s, sequences in order %v (-before +after):\n%s", p, order, diff)
		}
	})
}

func indices(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// Before the first update current and anchor agree, every ratio is exactly 1, and clipping, at any
// granularity, has no effect on the gradient.
func TestRatioOneMakesClippedAndUnclippedGradientsEqual(t *testing.T) {
	evaluator := New[float32]()
	rapid.Check(t, func(t *rapid.T) {
		p := randombatch.Draw{Objectives: []string{"clip", "clip_keep"}}.Program(t)
		b, _ := randombatch.Rounded(randombatch.Batch(t))
		if o, ok := p.Objective.(kernels.Clip); ok {
			o.DualClip = 0
			p.Objective = o
		}
		p.RatioGradient = kernels.GradientOwn
		b.Proximal, b.Behavior = b.LogProbs, b.LogProbs
		clipped := resultOf(t, evaluator, p, b, kernels.Count(b))
		if clipped.Metrics.RatioSum != clipped.Metrics.Tokens || clipped.Metrics.Clipped != 0 {
			t.Fatalf("%s: ratios are not exactly 1: %+v", p, clipped.Metrics)
		}
		p.Objective, p.Ratio = kernels.Reinforce{}, kernels.RatioOne
		plain := resultOf(t, evaluator, p, b, kernels.Count(b))
		if diff := cmp.Diff(plain.DLogProbs, clipped.DLogProbs, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%s (-unclipped +clipped):\n%s", p, diff)
		}
	})
}

// One evaluator serves several goroutines, and graphs of different evaluators do not disturb each other.
func TestConcurrentEvaluations(t *testing.T) {
	shared := New[float64]()
	b := oneTurn(kernels.Batch[float64]{Offsets: []int32{0, 2}, LogProbs: []float64{-1, -1.1}, Proximal: []float64{-1.1, -1}, Advantages: []float64{.5, .5}})
	var wg sync.WaitGroup
	for i := range 4 {
		evaluator := shared
		if i%2 == 1 {
			evaluator = New[float64]()
		}
		wg.Go(func() {
			for range 5 {
				if r, err := evaluator.Evaluate(ppo(), b, kernels.Count(b)); err != nil || math.Abs(r.Loss+0.502502) > 1e-6 {
					t.Errorf("loss %v, error %v", r.Loss, err)
				}
			}
		})
	}
	wg.Wait()
}
