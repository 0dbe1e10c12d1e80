//go:build slim

package main

import (
	"math"
	"testing"
)

// The expected bounds come from integrating the density of Beta(k + ½, n − k + ½) numerically, in
// 400,000 steps.
func TestIntervalIsJeffreys(t *testing.T) {
	for _, test := range []struct {
		successes, n int
		low, high    float64
	}{
		{2, 10, 0.0441, 0.5028},
		{5, 10, 0.2235, 0.7765},
		{3, 30, 0.0290, 0.2434},
	} {
		low, high := interval(float64(test.successes)/float64(test.n), test.n)
		if math.Abs(low-test.low) > 1e-4 || math.Abs(high-test.high) > 1e-4 {
			t.Errorf("%d of %d: %.4f to %.4f, want %.3f to %.3f", test.successes, test.n, low, high, test.low, test.high)
		}
	}
}
