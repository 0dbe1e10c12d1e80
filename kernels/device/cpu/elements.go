package cpu

// Element is an operation that computes each value of a row from the values at the same place of one or two others.
type Element uint8

const (
	ElementNeg     Element = iota // −a
	ElementAbs                    // |a|
	ElementScale                  // c0·a
	ElementShift                  // a + c0
	ElementClip                   // a limited to [c0, c1]
	ElementInside                 // 1 where c0 ≤ a ≤ c1, else 0
	ElementSign                   // −1, 0 or 1
	ElementSigmoid                // 1/(1 + e^−a)
	ElementSqrt                   // √a
	ElementInvert                 // 1/a, 0 where a is 0
	ElementAdd                    // a + b
	ElementSub                    // a − b
	ElementMul                    // a·b
	ElementDiv                    // a/b
	ElementMin                    // the smaller one; NaN where either is
	ElementMax                    // the larger one; NaN where either is
	ElementLess                   // 1 where a < b, else 0
	ElementLessEq                 // 1 where a ≤ b, else 0
	ElementDiffers                // 1 where a ≠ b, else 0
	Elements                      // how many there are
)

// Run computes dst from a and b, which is unused by operations of one operand, and reports whether the instruction set
// has a kernel for it; where it has none, nothing is done. Sums, products, comparisons and the like are those of Go to
// the last bit, but for the sign of zeros and NaN; the sigmoid is right to within a few units in the last place.
func (e Element) Run(dst, a, b []float32, c0, c1 float32) bool {
	sameLength("Element", len(dst), len(a))
	second := a
	if e.Operands() == 2 {
		sameLength("Element", len(dst), len(b))
		second = b
	}
	if len(dst) == 0 {
		return true
	}
	return running().element(e, dst, a, second, c0, c1)
}

// Operands is how many rows the operation reads.
func (e Element) Operands() int {
	if e >= ElementAdd {
		return 2
	}
	return 1
}

// SumDouble adds the values of x in float64; 0 for an empty row.
func SumDouble(x []float32) float64 {
	if len(x) == 0 {
		return 0
	}
	return running().sumDouble(x)
}

// Finite is false where x has a value that is NaN or infinite.
func Finite(x []float32) bool { return len(x) == 0 || running().excess(x) == 0 }
