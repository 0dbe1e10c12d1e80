package cpu

// elementKernels are the kernels of the two instruction sets.
var elementKernels = [Elements]struct {
	avx512, avx2 func(dst, a, b *float32, n int, c0, c1 float32)
}{
	ElementNeg:     {elementNegAVX512, elementNegAVX2},
	ElementAbs:     {elementAbsAVX512, elementAbsAVX2},
	ElementScale:   {elementScaleAVX512, elementScaleAVX2},
	ElementShift:   {elementShiftAVX512, elementShiftAVX2},
	ElementClip:    {elementClipAVX512, elementClipAVX2},
	ElementInside:  {elementInsideAVX512, elementInsideAVX2},
	ElementSign:    {elementSignAVX512, elementSignAVX2},
	ElementSigmoid: {elementSigmoidAVX512, elementSigmoidAVX2},
	ElementSqrt:    {elementSqrtAVX512, elementSqrtAVX2},
	ElementInvert:  {elementInvertAVX512, elementInvertAVX2},
	ElementAdd:     {elementAddAVX512, elementAddAVX2},
	ElementSub:     {elementSubAVX512, elementSubAVX2},
	ElementMul:     {elementMulAVX512, elementMulAVX2},
	ElementDiv:     {elementDivAVX512, elementDivAVX2},
	ElementMin:     {elementMinAVX512, elementMinAVX2},
	ElementMax:     {elementMaxAVX512, elementMaxAVX2},
	ElementLess:    {elementLessAVX512, elementLessAVX2},
	ElementLessEq:  {elementLessEqAVX512, elementLessEqAVX2},
	ElementDiffers: {elementDiffersAVX512, elementDiffersAVX2},
}

func (i isa) element(e Element, dst, a, b []float32, c0, c1 float32) bool {
	switch i {
	case isaAVX512:
		elementKernels[e].avx512(&dst[0], &a[0], &b[0], len(dst), c0, c1)
	case isaAVX2:
		elementKernels[e].avx2(&dst[0], &a[0], &b[0], len(dst), c0, c1)
	default:
		return false
	}
	return true
}

func (i isa) sumDouble(x []float32) float64 {
	switch i {
	case isaAVX512:
		return sumDoubleAVX512(&x[0], len(x))
	case isaAVX2:
		return sumDoubleAVX2(&x[0], len(x))
	default:
		return sumDoubleGo(x)
	}
}

func (i isa) excess(x []float32) float32 {
	switch i {
	case isaAVX512:
		return excessAVX512(&x[0], len(x))
	case isaAVX2:
		return excessAVX2(&x[0], len(x))
	default:
		return excessGo(x)
	}
}
