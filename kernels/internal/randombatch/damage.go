package randombatch

import (
	"math"

	"github.com/turnwise-rl/turnwise/kernels"

	"pgregory.net/rapid"
)

// Damage breaks one thing of a batch: a stream is absent or too short, or one value of it is another.
func Damage(t *rapid.T, b *kernels.Batch[float64]) {
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
