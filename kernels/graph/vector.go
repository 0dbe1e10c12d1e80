package graph

import "github.com/turnwise-rl/turnwise/kernels/device/cpu"

// rowKernels is arithmetic on one block of tokens. In float32 the SIMD kernels of kernels/device/cpu compute what they
// have an operation for, with the same exponential that the policy network uses; the rest, and float64, is plain Go.
type rowKernels[T element] struct {
	// elementwise computes out[i] = c(a[i], b[i]); out may be a or b.
	elementwise func(c code, out, a, b []T, c0, c1 T)
	// sum adds in float64.
	sum func(a []T) float64
	// finite is false where a value is NaN or infinite.
	finite func(a []T) bool
}

// kernelsOf are the kernels of an element type.
func kernelsOf[T element]() rowKernels[T] {
	if single, ok := any(rowKernels[float32]{elementwiseSingle, cpu.SumDouble, cpu.Finite}).(rowKernels[T]); ok {
		return single
	}
	return rowKernels[T]{elementwise[T], sumOf[T], finite[T]}
}

// simd is a SIMD kernel that an operation may have.
type simd struct {
	element cpu.Element
	has     bool
}

// simdOf are the operations that have one.
var simdOf = [codes]simd{
	opNeg: {cpu.ElementNeg, true}, opAbs: {cpu.ElementAbs, true}, opScale: {cpu.ElementScale, true}, opShift: {cpu.ElementShift, true},
	opClip: {cpu.ElementClip, true}, opInside: {cpu.ElementInside, true}, opSign: {cpu.ElementSign, true},
	opSigmoid: {cpu.ElementSigmoid, true}, opAdd: {cpu.ElementAdd, true}, opSub: {cpu.ElementSub, true}, opMul: {cpu.ElementMul, true},
	opSqrt: {cpu.ElementSqrt, true}, opInvert: {cpu.ElementInvert, true}, opDiffers: {cpu.ElementDiffers, true},
	opMin: {cpu.ElementMin, true}, opMax: {cpu.ElementMax, true}, opLess: {cpu.ElementLess, true}, opLessEq: {cpu.ElementLessEq, true},
}

func elementwiseSingle(c code, out, a, b []float32, c0, c1 float32) {
	switch {
	case c == opExp:
		cpu.Exp(out, a)
	case c == opSquare:
		elementwiseSingle(opMul, out, a, a, 0, 0)
	case simdOf[c].has && simdOf[c].element.Run(out, a, b, c0, c1):
	default:
		elementwise(c, out, a, b, c0, c1)
	}
}

func sumOf[T element](a []T) float64 {
	sum := 0.0
	for _, v := range a {
		sum += float64(v)
	}
	return sum
}

// finite is false where a value is NaN or infinite: those alone do not cancel.
func finite[T element](a []T) bool {
	for _, v := range a {
		if v-v != 0 {
			return false
		}
	}
	return true
}
