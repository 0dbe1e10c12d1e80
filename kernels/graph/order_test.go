package graph

import (
	"cmp"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Tokens come in the order that a stable sort gives them.
func TestDescendingIsAStableSort(t *testing.T) {
	special := []float64{0, math.Copysign(0, -1), 1, -1, math.Inf(1), math.Inf(-1), math.NaN(), math.MaxFloat64, math.SmallestNonzeroFloat64}
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.SliceOfN(rapid.OneOf(rapid.Float64(), rapid.SampledFrom(special)), 0, 300).Draw(t, "x")
		narrow := make([]float32, len(x))
		for i, v := range x {
			narrow[i] = float32(v)
		}
		expectOrder(t, x, descending(x))
		expectOrder(t, narrow, descending(narrow))
	})
}

func expectOrder[T element](t *rapid.T, x []T, got []int32) {
	t.Helper()
	want := make([]int32, len(x))
	for i := range want {
		want[i] = int32(i)
	}
	slices.SortStableFunc(want, func(i, j int32) int { return cmp.Compare(x[j], x[i]) })
	if !slices.Equal(got, want) {
		t.Fatalf("%v: got %v, want %v", x, got, want)
	}
}
