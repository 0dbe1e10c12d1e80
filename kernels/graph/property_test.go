package graph

import (
	"math"
	"strings"
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

func TestGraphAgreesWithOracle(t *testing.T) {
	double := New[float64]()
	rapid.Check(t, func(t *rapid.T) {
		p, b := randombatch.Program(t), randombatch.Batch(t)
		totals := kernels.Count(b)
		totals.Tokens += rapid.IntRange(0, 5).Draw(t, "tokens elsewhere")
		totals.Sequences += rapid.IntRange(0, 5).Draw(t, "sequences elsewhere")
		want, err := ref.Evaluate(p, b, totals)
		if err != nil {
			t.Fatal(err)
		}
		got, err := double.Evaluate(p, b, totals)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, relative(1e-9)); diff != "" {
			t.Fatalf("%s (-ref +graph):\n%s", p, diff)
		}
	})
}

func TestSinglePrecisionAgreesWithOracle(t *testing.T) {
	single := New[float32]()
	rapid.Check(t, func(t *rapid.T) {
		p, b := randombatch.Program(t), randombatch.Batch(t)
		narrow, b := rounded(b)
		totals := kernels.Count(b)
		want, err := ref.Evaluate(p, b, totals)
		if err != nil {
			t.Fatal(err)
		}
		if extreme(p, b) {
			t.Skip("a log-ratio beyond 8 amplifies the rounding of its operands")
		}
		got, err := single.Evaluate(p, narrow, totals)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.Loss, got.Loss, relative(1e-5)); diff != "" {
			t.Fatalf("%s: loss (-ref +graph):\n%s", p, diff)
		}
		if diff := cmp.Diff(want.DLogProbs, widened(got.DLogProbs), relative(2e-5)); diff != "" {
			t.Fatalf("%s: gradient (-ref +graph):\n%s", p, diff)
		}
	})
}

// rounded is the batch in single precision and the same numbers in double.
func rounded(b kernels.Batch[float64]) (kernels.Batch[float32], kernels.Batch[float64]) {
	n := kernels.Batch[float32]{Offsets: b.Offsets, Sampled: b.Sampled, Turn: b.Turn}
	for _, stream := range []struct {
		wide   *[]float64
		narrow *[]float32
	}{
		{&b.LogProbs, &n.LogProbs}, {&b.Proximal, &n.Proximal}, {&b.Behavior, &n.Behavior}, {&b.Reference, &n.Reference},
		{&b.Entropy, &n.Entropy}, {&b.Advantages, &n.Advantages}, {&b.LossWeights, &n.LossWeights},
	} {
		*stream.narrow = make([]float32, len(*stream.wide))
		for i, v := range *stream.wide {
			(*stream.narrow)[i] = float32(v)
		}
		*stream.wide = widened(*stream.narrow)
	}
	return n, b
}

func widened(values []float32) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = float64(v)
	}
	return out
}

// extreme is true where a reference log-ratio or a drawn drift leaves the range in which single
// precision can be held to 1e-5, or a ratio sits on a clipping bound.
func extreme(p kernels.Program, b kernels.Batch[float64]) bool {
	for i, sampled := range b.Sampled {
		if !sampled {
			continue
		}
		for _, anchor := range [][]float64{b.Proximal, b.Behavior, b.Reference} {
			if math.Abs(b.LogProbs[i]-anchor[i]) > 2 {
				return true
			}
		}
	}
	return p.ClipLow < 0.01 || p.ClipHigh < 0.01 || p.Ratio == kernels.RatioSequenceProduct
}

func TestObservationTokensNeverMatter(t *testing.T) {
	evaluator := New[float64]()
	rapid.Check(t, func(t *rapid.T) {
		p, b := randombatch.Program(t), randombatch.Batch(t)
		before, err := evaluator.Evaluate(p, b, kernels.Count(b))
		if err != nil {
			t.Fatal(err)
		}
		for i, sampled := range b.Sampled {
			if !sampled {
				junk := rapid.SampledFrom([]float64{0, math.Inf(1), -7, math.NaN()}).Draw(t, "junk")
				b.LogProbs[i], b.Proximal[i], b.Advantages[i], b.Entropy[i], b.LossWeights[i] = junk, -junk, junk, junk, junk
				b.Turn[i] = int32(rapid.IntRange(-1, 9).Draw(t, "turn"))
			}
		}
		after, err := evaluator.Evaluate(p, b, kernels.Count(b))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Fatalf("%s: observation tokens changed the result:\n%s", p, diff)
		}
		for i, sampled := range b.Sampled {
			if !sampled && after.DLogProbs[i] != 0 {
				t.Fatalf("%s: token %d is not sampled and has gradient %v", p, i, after.DLogProbs[i])
			}
		}
	})
}

// Cutting a batch at any sequence, in any order, does not change the loss, the gradient or the metrics.
func TestMicroBatchesAddUp(t *testing.T) {
	evaluator := New[float64]()
	rapid.Check(t, func(t *rapid.T) {
		p, b := randombatch.Program(t), randombatch.Batch(t)
		totals := kernels.Count(b)
		whole, err := evaluator.Evaluate(p, b, totals)
		if err != nil {
			t.Fatal(err)
		}
		var sum kernels.Result[float64]
		sum.DLogProbs = make([]float64, b.Tokens())
		for _, i := range rapid.Permutation(indices(b.Sequences())).Draw(t, "order") {
			part, err := evaluator.Evaluate(p, cut(b, i), totals)
			if err != nil {
				t.Fatal(err)
			}
			sum.Loss += part.Loss
			copy(sum.DLogProbs[b.Offsets[i]:], part.DLogProbs)
			addMetrics(&sum.Metrics, part.Metrics)
		}
		sum.DEntropy, whole.DEntropy = nil, nil
		if diff := cmp.Diff(whole, sum, relative(1e-12)); diff != "" {
			t.Fatalf("%s (-whole +sum of micro-batches):\n%s", p, diff)
		}
	})
}

func addMetrics(sum *kernels.Metrics, m kernels.Metrics) {
	sum.Tokens += m.Tokens
	sum.Clipped += m.Clipped
	sum.RatioSum += m.RatioSum
	sum.BehaviorK3Sum += m.BehaviorK3Sum
	sum.ReferenceKLSum += m.ReferenceKLSum
	sum.EntropySum += m.EntropySum
}

func indices(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// cut is sequence i of a batch as a batch.
func cut(b kernels.Batch[float64], i int) kernels.Batch[float64] {
	from, to := b.Offsets[i], b.Offsets[i+1]
	return kernels.Batch[float64]{
		Offsets: []int32{0, to - from}, LogProbs: b.LogProbs[from:to], Proximal: b.Proximal[from:to], Behavior: b.Behavior[from:to],
		Reference: b.Reference[from:to], Entropy: b.Entropy[from:to], Advantages: b.Advantages[from:to],
		LossWeights: b.LossWeights[from:to], Sampled: b.Sampled[from:to], Turn: b.Turn[from:to],
	}
}

// Before the first update current and anchor agree, every ratio is exactly 1, and clipping, at any
// granularity, has no effect on the gradient.
func TestRatioOneMakesClippedAndUnclippedGradientsEqual(t *testing.T) {
	evaluator := New[float32]()
	rapid.Check(t, func(t *rapid.T) {
		p, wide := randombatch.Program(t), randombatch.Batch(t)
		b, _ := rounded(wide)
		p.Objective, p.DualClip = kernels.ObjectiveClip, 0
		b.Proximal, b.Behavior = b.LogProbs, b.LogProbs
		clipped, err := evaluator.Evaluate(p, b, kernels.Count(b))
		if err != nil {
			t.Fatal(err)
		}
		if clipped.Metrics.RatioSum != clipped.Metrics.Tokens || clipped.Metrics.Clipped != 0 {
			t.Fatalf("%s: ratios are not exactly 1: %+v", p, clipped.Metrics)
		}
		p.Objective, p.Ratio = kernels.ObjectiveReinforce, kernels.RatioOne
		plain, err := evaluator.Evaluate(p, b, kernels.Count(b))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(plain.DLogProbs, clipped.DLogProbs, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%s (-unclipped +clipped):\n%s", p, diff)
		}
	})
}

func TestEmptyBatches(t *testing.T) {
	evaluator := New[float64]()
	p := clip
	p.EntropyCoef = 1
	for name, b := range map[string]kernels.Batch[float64]{
		"no sequences": {},
		"nothing sampled": {
			Offsets: []int32{0, 2}, Sampled: make([]bool, 2), LogProbs: make([]float64, 2), Proximal: make([]float64, 2),
			Advantages: make([]float64, 2), Entropy: make([]float64, 2),
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := evaluator.Evaluate(p, b, kernels.Count(b))
			if err != nil {
				t.Fatal(err)
			}
			want := kernels.Result[float64]{DLogProbs: make([]float64, b.Tokens()), DEntropy: make([]float64, b.Tokens())}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}

func TestInputErrorsNameThePlace(t *testing.T) {
	good := func() kernels.Batch[float64] {
		return kernels.Batch[float64]{
			Offsets: []int32{0, 1, 3}, LogProbs: []float64{-1, -1, -1}, Proximal: []float64{-1, -1, -1}, Advantages: []float64{1, 1, 1},
			Sampled: []bool{true, false, true}, Turn: []int32{0, -1, 0},
		}
	}
	for name, test := range map[string]struct {
		edit func(*kernels.Program, *kernels.Batch[float64])
		want string
	}{
		"missing stream": {func(p *kernels.Program, b *kernels.Batch[float64]) { p.KL, p.KLCoef = kernels.KLK3, 1 },
			"batch: reference log-probabilities (Reference) is nil, and the program needs it (kl k3)"},
		"missing anchor": {func(p *kernels.Program, b *kernels.Batch[float64]) { p.Anchor = kernels.AnchorBehavior },
			"batch: behavior log-probabilities (Behavior) is nil, and the program needs it (anchor behavior)"},
		"NaN": {func(p *kernels.Program, b *kernels.Batch[float64]) { b.Advantages[2] = math.NaN() },
			"batch: sequence 1, token 1: advantages (Advantages) is NaN where the policy sampled"},
		"infinite": {func(p *kernels.Program, b *kernels.Batch[float64]) { b.LogProbs[0] = math.Inf(-1) },
			"batch: sequence 0, token 0: log-probabilities (LogProbs) is -Inf where the policy sampled"},
		"length": {func(p *kernels.Program, b *kernels.Batch[float64]) { b.Proximal = b.Proximal[:2] },
			"batch: proximal log-probabilities (Proximal) has 2 values for 3 tokens"},
		"turn": {func(p *kernels.Program, b *kernels.Batch[float64]) { b.Turn[2] = -1 },
			"batch: sequence 1, token 1: turn -1 after turn -1"},
		"program": {func(p *kernels.Program, b *kernels.Batch[float64]) { p.DualClip = 0.5 },
			"loss program: dual_clip: 0.5 must be greater than 1"},
	} {
		t.Run(name, func(t *testing.T) {
			p, b := clip, good()
			test.edit(&p, &b)
			_, err := New[float64]().Evaluate(p, b, kernels.Totals{Tokens: 2, Sequences: 2})
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("error %v\nwant  %s…", err, test.want)
			}
		})
	}
	b := good()
	_, err := New[float64]().Evaluate(clip, b, kernels.Totals{Tokens: 1, Sequences: 2})
	if err == nil || !strings.Contains(err.Error(), "totals count 1 tokens in 2 sequences, the batch alone has 2 in 2") {
		t.Errorf("totals smaller than the batch: %v", err)
	}
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
				if r, err := evaluator.Evaluate(clip, b, kernels.Count(b)); err != nil || math.Abs(r.Loss+0.502502) > 1e-6 {
					t.Errorf("loss %v, error %v", r.Loss, err)
				}
			}
		})
	}
	wg.Wait()
}
