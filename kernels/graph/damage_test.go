package graph

import (
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/internal/randombatch"
	"github.com/turnwise-rl/turnwise/kernels/ref"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Whatever is wrong with a batch, the graph says of it what the oracle says.
func TestDamagedBatchesAsTheOracleSeesThem(t *testing.T) {
	evaluator := New[float64]()
	rapid.Check(t, func(t *rapid.T) {
		p, b := randombatch.Program(t), randombatch.Batch(t)
		totals := kernels.Count(b)
		for range rapid.IntRange(1, 3).Draw(t, "damages") {
			randombatch.Damage(t, &b)
		}
		if rapid.Bool().Draw(t, "count again") && b.CheckLayout(p) == nil {
			totals = kernels.Count(b)
		}
		want, wantErr := ref.Evaluate(p, b, totals)
		got, err := evaluator.Evaluate(p, b, totals)
		switch {
		case wantErr != nil && err != nil && wantErr.Error() == err.Error():
		case wantErr != nil || err != nil:
			t.Fatalf("%s: the graph says %v, the oracle %v", p, err, wantErr)
		default:
			m, err := ref.Margin(p, b, totals)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, relative(1e-9)); m > 1e-9 && diff != "" {
				t.Fatalf("%s (-ref +graph):\n%s", p, diff)
			}
		}
	})
}
