package ref

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/internal/randombatch"

	"pgregory.net/rapid"
)

// Whatever is wrong with a batch, it is an error or it does not matter: nothing panics, and what passes gives finite
// numbers, one per token.
func TestDamagedBatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, b := randombatch.Program(t), randombatch.Batch(t)
		totals := kernels.Count(b)
		for range rapid.IntRange(1, 3).Draw(t, "damages") {
			damage(t, &b)
		}
		if rapid.Bool().Draw(t, "count again") && b.CheckLayout(p) == nil {
			totals = kernels.Count(b)
		}
		got, err := Evaluate(p, b, totals)
		if err != nil {
			return
		}
		if len(got.DLogProbs) != b.Tokens() {
			t.Fatalf("%s: %d gradients for %d tokens", p, len(got.DLogProbs), b.Tokens())
		}
		for _, values := range [][]float64{{got.Loss}, got.DLogProbs, got.DEntropy, got.DValues} {
			for _, v := range values {
				if v-v != 0 {
					t.Fatalf("%s: a result is %v: %+v", p, v, got)
				}
			}
		}
	})
}

// damage breaks one thing.
func damage(t *rapid.T, b *kernels.Batch[float64]) {
	streams := []*[]float64{
		&b.LogProbs, &b.Proximal, &b.Behavior, &b.Reference, &b.Entropy, &b.Values, &b.OldValues, &b.Returns, &b.Advantages, &b.LossWeights,
		&b.CEWeights, &b.ReferenceKLWeights, &b.RankScores, &b.Outcomes, &b.ClipHigh,
	}
	floats := rapid.SampledFrom(streams).Draw(t, "stream")
	integers := rapid.SampledFrom([]*[]int32{&b.Turn, &b.Versions, &b.Pair, &b.Group, &b.Offsets}).Draw(t, "integers")
	booleans := rapid.SampledFrom([]*[]bool{&b.Sampled, &b.Chosen}).Draw(t, "booleans")
	number := int32(rapid.IntRange(-2, 12).Draw(t, "number"))
	value := rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), -1, 0}).Draw(t, "value")
	switch rapid.IntRange(0, 7).Draw(t, "damage") {
	case 0:
		*floats = nil
	case 1:
		*integers = nil
	case 2:
		*floats = append([]float64(nil), (*floats)[:len(*floats)/2]...)
	case 3:
		*integers = append([]int32(nil), (*integers)[:len(*integers)/2]...)
	case 4:
		*booleans = append([]bool(nil), (*booleans)[:len(*booleans)/2]...)
	case 5:
		if n := len(*floats); n > 0 {
			(*floats)[rapid.IntRange(0, n-1).Draw(t, "at")] = value
		}
	case 6:
		if n := len(*integers); n > 0 {
			(*integers)[rapid.IntRange(0, n-1).Draw(t, "at")] = number
		}
	case 7:
		if n := len(*booleans); n > 0 {
			at := rapid.IntRange(0, n-1).Draw(t, "at")
			(*booleans)[at] = !(*booleans)[at]
		}
	}
}
