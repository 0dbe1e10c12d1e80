package cpu

import (
	"fmt"
	"math"
)

// The functions of this file and of layer.go work on one row, on the calling goroutine. Their results
// depend on the values and their number only, never on alignment; sums run over fixed lanes and are
// then combined in a fixed order. Rows of one call have equal lengths. A destination may be one of the
// sources, but must not overlap one in part.

// sameLength panics unless all rows have n values.
func sameLength(function string, n int, rows ...int) {
	for _, row := range rows {
		if row != n {
			panic(fmt.Sprintf("cpu: %s: rows of %d and %d values", function, n, row))
		}
	}
}

// Exp computes dst = exp(src), to within one unit in the last place. What is below the smallest
// subnormal number becomes 0, what is above the largest number +Inf, and NaN stays NaN.
func Exp(dst, src []float32) {
	sameLength("Exp", len(dst), len(src))
	if len(dst) > 0 {
		running().expRow(dst, src, 1, 0)
	}
}

// Dot is the sum of the products of x and y; 0 for empty rows.
func Dot(x, y []float32) float32 {
	sameLength("Dot", len(x), len(y))
	if len(x) == 0 {
		return 0
	}
	return running().dot(x, y)
}

// Axpy computes y = y + alpha·x.
func Axpy(alpha float32, x, y []float32) {
	sameLength("Axpy", len(x), len(y))
	if len(x) > 0 {
		running().axpy(alpha, x, y)
	}
}

// Sum adds the values of x; 0 for an empty row.
func Sum(x []float32) float32 {
	if len(x) == 0 {
		return 0
	}
	return running().sum(x)
}

// Max is the largest value of x: NaN where x has one, -Inf for an empty row.
func Max(x []float32) float32 {
	if len(x) == 0 {
		return float32(math.Inf(-1))
	}
	return running().largest(x)
}

// Scale computes x = alpha·x.
func Scale(alpha float32, x []float32) {
	if len(x) > 0 {
		running().scale(alpha, x)
	}
}

// SoftmaxScaled replaces x by softmax(scale·x), which is what a row of attention needs, and returns the
// largest value x had and the sum of exp(scale·(x - max)), which is 0 for an empty row. The scale must be
// positive. Values of -Inf get probability 0; a row of nothing else becomes NaN.
func SoftmaxScaled(x []float32, scale float32) (max, sumExp float32) {
	if len(x) == 0 {
		return float32(math.Inf(-1)), 0
	}
	return running().softmax(x, scale)
}

// SoftmaxBackward replaces d, the gradient of p = softmax(scale·x), by that of x: scale·p·(d - total), where
// total is Σ p·d. In attention, total is also the dot product of a row's output and the output's gradient.
func SoftmaxBackward(d, p []float32, total, scale float32) {
	sameLength("SoftmaxBackward", len(d), len(p))
	if len(d) > 0 {
		running().softmaxBackward(d, p, total, scale)
	}
}

// SquaredNorm is Σ x², summed in float64, in an order that depends on the length alone; 0 for an empty row.
// It is infinite or NaN exactly where x has such a value, since no square of a float32 overflows.
func SquaredNorm(x []float32) float64 {
	if len(x) == 0 {
		return 0
	}
	return running().squaredNorm(x)
}
