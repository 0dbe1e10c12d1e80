package ref

import (
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
			randombatch.Damage(t, &b)
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
