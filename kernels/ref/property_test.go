package ref

import (
	"math"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/internal/randombatch"

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

// evaluated is a result and whether its comparisons are all clear enough for rounding not to matter.
func evaluated(t *rapid.T, p kernels.Program, b kernels.Batch[float64], totals kernels.Totals) (result kernels.Result[float64], clear bool) {
	margin, err := Margin(p, b, totals)
	if err != nil {
		t.Fatal(err)
	}
	if result, err = Evaluate(p, b, totals); err != nil {
		t.Fatal(err)
	}
	return result, margin >= 1e-9
}

// gather are the values at positions; nil stays nil.
func gather(values []float64, positions []int) []float64 {
	if values == nil {
		return nil
	}
	out := []float64{}
	for _, at := range positions {
		out = append(out, values[at])
	}
	return out
}

func TestObservationsAndPaddingNeverMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, b := randombatch.Program(t), randombatch.Batch(t)
		before, err := Evaluate(p, b, kernels.Count(b))
		if err != nil {
			t.Fatal(err)
		}
		junk := randombatch.Junk(b, rapid.SampledFrom([]float64{0, -7, 1e300, math.Inf(1), math.Inf(-1)}).Draw(t, "junk"))
		padded, positions := randombatch.Padded(junk, rapid.IntRange(0, 3).Draw(t, "padding"))
		after, err := Evaluate(p, padded, kernels.Count(padded))
		if err != nil {
			t.Fatal(err)
		}
		after.DLogProbs, after.DEntropy, after.DValues = gather(after.DLogProbs, positions), gather(after.DEntropy, positions), gather(after.DValues, positions)
		if diff := cmp.Diff(before, after, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%s (-before +after):\n%s", p, diff)
		}
	})
}

func TestMicroBatchesAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, b := randombatch.Draw{OneSequence: true}.Program(t), randombatch.Batch(t)
		b.Pair, b.Chosen = nil, nil // pairs belong together
		totals := kernels.Count(b)
		whole, clear := evaluated(t, p, b, totals)
		if !clear {
			return
		}
		var sum kernels.Result[float64]
		for i := range b.Sequences() {
			part, err := Evaluate(p, randombatch.Sequence(b, i), totals)
			if err != nil {
				t.Fatal(err)
			}
			sum.Loss += part.Loss
			sum.DLogProbs, sum.DEntropy, sum.DValues = append(sum.DLogProbs, part.DLogProbs...), append(sum.DEntropy, part.DEntropy...), append(sum.DValues, part.DValues...)
			sum.Metrics.Add(part.Metrics)
		}
		if diff := cmp.Diff(whole, sum, relative(1e-12)); diff != "" {
			t.Fatalf("%s (-whole +sum of micro-batches):\n%s", p, diff)
		}
	})
}

// The order of sequences in an update is arbitrary. Where it breaks ties, or draws lots, it may matter.
func TestOrderOfSequencesNeverMatters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, b := randombatch.Program(t), randombatch.Batch(t)
		for i := range b.RankScores {
			b.RankScores[i] += float64(i) / 64 // of equally good sequences the first is the best
		}
		before, clear := evaluated(t, p, b, kernels.Count(b))
		if _, drawsLots := p.Objective.(kernels.ClipCov); drawsLots || !clear || tied(b.RankScores) {
			return
		}
		var order []int
		for i := range b.Sequences() {
			order = append(order, i)
		}
		order = rapid.Permutation(order).Draw(t, "order")
		var pieces []kernels.Batch[float64]
		var positions []int
		for _, i := range order {
			pieces = append(pieces, randombatch.Sequence(b, i))
			for at := int(b.Offsets[i]); at < int(b.Offsets[i+1]); at++ {
				positions = append(positions, at)
			}
		}
		permuted := randombatch.Joined(pieces...)
		after, _ := evaluated(t, p, permuted, kernels.Count(permuted))
		before.DLogProbs, before.DEntropy, before.DValues = gather(before.DLogProbs, positions), gather(before.DEntropy, positions), gather(before.DValues, positions)
		if diff := cmp.Diff(before, after, relative(1e-9)); diff != "" {
			t.Fatalf("%s (-before +after):\n%s", p, diff)
		}
	})
}

func tied(scores []float64) bool {
	sorted := slices.Sorted(slices.Values(scores))
	return len(slices.Compact(sorted)) < len(scores)
}

// Before the first update every ratio is 1, and bounds of the ratio have no effect on the gradient.
func TestRatioOneMakesClippedAndUnclippedGradientsEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"clip", "clip_keep", "cispo", "gmpo", "sapo", "dppo"}).Draw(t, "objective")
		p, b := randombatch.Draw{Objectives: []string{name}}.Program(t), randombatch.Batch(t)
		b.Proximal, b.Behavior = b.LogProbs, b.LogProbs
		// An anchor between two policies that are the same is the same but for rounding.
		p.Regularizers, p.RatioGradient, p.Anchor = nil, kernels.GradientOwn, kernels.AnchorProximal
		bounded, err := Evaluate(p, b, kernels.Count(b))
		if err != nil {
			t.Fatal(err)
		}
		if bounded.Metrics.Clipped != 0 {
			t.Fatalf("%s: %v tokens are clipped", p, bounded.Metrics.Clipped)
		}
		if name == "gmpo" {
			return // each token's advantage moves the whole sequence
		}
		p.Objective, p.Ratio = kernels.Reinforce{}, kernels.RatioOne
		plain, err := Evaluate(p, b, kernels.Count(b))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(plain.DLogProbs, bounded.DLogProbs, relative(1e-12)); diff != "" {
			t.Fatalf("%s (-unbounded +bounded):\n%s", p, diff)
		}
	})
}
