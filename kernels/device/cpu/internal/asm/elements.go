package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Bits that make and remove a sign.
var (
	signBit  = math.Float32frombits(1 << 31)
	otherBit = math.Float32frombits(1<<31 - 1)
)

// Predicates of comparisons.
const (
	unordered   = 3
	lessOrdered = 17
	atMost      = 18
	differs     = 4 // or unordered
)

// elements emits the kernels that compute each value of a row from the same values of one or two others. All
// have one signature, so that a table can hold them.
func elements(i isa) {
	const signature = "func(dst, a, b *float32, n int, c0, c1 float32)"
	var constant Op // the one of the kernel being emitted
	one := func(name, doc string, value float32, body func(l lanes, a, c0, c1 reg.VecVirtual) reg.VecVirtual) {
		rowFunction(i, name, signature, doc)
		dst, a, c0, c1 := pointer("dst"), pointer("a"), i.parameter("c0"), i.parameter("c1")
		constant = i.constant(value)
		walk(i, 4, func(l lanes) { l.store(body(l, l.load(a), c0, c1), dst) })
		finish()
	}
	two := func(name, doc string, body func(l lanes, a, b reg.VecVirtual) reg.VecVirtual) {
		rowFunction(i, name, signature, doc)
		dst, a, b := pointer("dst"), pointer("a"), pointer("b")
		constant = i.constant(1)
		walk(i, 4, func(l lanes) { l.store(body(l, l.load(a), l.load(b)), dst) })
		finish()
	}
	one("elementNeg", "computes dst = -a.", signBit, func(_ lanes, a, _, _ reg.VecVirtual) reg.VecVirtual {
		VXORPS(constant, a, a)
		return a
	})
	one("elementAbs", "computes dst = |a|.", otherBit, func(_ lanes, a, _, _ reg.VecVirtual) reg.VecVirtual {
		VANDPS(constant, a, a)
		return a
	})
	one("elementScale", "computes dst = c0·a.", 1, func(_ lanes, a, c0, _ reg.VecVirtual) reg.VecVirtual {
		VMULPS(c0, a, a)
		return a
	})
	one("elementShift", "computes dst = a + c0.", 1, func(_ lanes, a, c0, _ reg.VecVirtual) reg.VecVirtual {
		VADDPS(c0, a, a)
		return a
	})
	one("elementClip", "computes dst = a limited to [c0, c1]; NaN stays NaN.", 1, func(_ lanes, a, c0, c1 reg.VecVirtual) reg.VecVirtual {
		VMAXPS(a, c0, a) // the maximum of NaN and a number is the operand named first here
		VMINPS(a, c1, a)
		return a
	})
	one("elementInside", "computes dst = 1 where c0 ≤ a ≤ c1, else 0.", 1, func(l lanes, a, c0, c1 reg.VecVirtual) reg.VecVirtual {
		return l.indicator(atMost, c0, a, l.indicator(atMost, a, c1, constant))
	})
	one("elementSign", "computes dst = -1, 0 or 1.", 1, func(l lanes, a, _, _ reg.VecVirtual) reg.VecVirtual {
		zero := i.zeros(1)[0]
		up, down := l.indicator(lessOrdered, zero, a, constant), l.indicator(lessOrdered, a, zero, constant)
		VSUBPS(down, up, up)
		return up
	})
	one("elementSqrt", "computes dst = √a.", 1, func(_ lanes, a, _, _ reg.VecVirtual) reg.VecVirtual {
		VSQRTPS(a, a)
		return a
	})
	one("elementInvert", "computes dst = 1/a, 0 where a is 0.", 1, func(l lanes, a, _, _ reg.VecVirtual) reg.VecVirtual {
		zero, inverse := i.zeros(1)[0], i.constantRegister(1)
		VDIVPS(a, inverse, inverse)
		if i == avx512 {
			other := K()
			VCMPPS(Imm(differs), zero, a, other)
			VMOVAPS_Z(inverse, other, inverse)
			return inverse
		}
		VCMPPS(Imm(differs), zero, a, a)
		VANDPS(a, inverse, inverse)
		return inverse
	})
	two("elementAdd", "computes dst = a + b.", func(_ lanes, a, b reg.VecVirtual) reg.VecVirtual {
		VADDPS(b, a, a)
		return a
	})
	two("elementSub", "computes dst = a - b.", func(_ lanes, a, b reg.VecVirtual) reg.VecVirtual {
		VSUBPS(b, a, a)
		return a
	})
	two("elementMul", "computes dst = a·b.", func(_ lanes, a, b reg.VecVirtual) reg.VecVirtual {
		VMULPS(b, a, a)
		return a
	})
	two("elementDiv", "computes dst = a/b.", func(_ lanes, a, b reg.VecVirtual) reg.VecVirtual {
		VDIVPS(b, a, a)
		return a
	})
	two("elementMin", "computes dst = min(a, b), NaN where either is.", func(l lanes, a, b reg.VecVirtual) reg.VecVirtual {
		v := i.vector()
		VMINPS(b, a, v)
		return l.orNaN(v, a, b)
	})
	two("elementMax", "computes dst = max(a, b), NaN where either is.", func(l lanes, a, b reg.VecVirtual) reg.VecVirtual {
		v := i.vector()
		VMAXPS(b, a, v)
		return l.orNaN(v, a, b)
	})
	two("elementLess", "computes dst = 1 where a < b, else 0.", func(l lanes, a, b reg.VecVirtual) reg.VecVirtual {
		return l.indicator(lessOrdered, a, b, constant)
	})
	two("elementLessEq", "computes dst = 1 where a ≤ b, else 0.", func(l lanes, a, b reg.VecVirtual) reg.VecVirtual {
		return l.indicator(atMost, a, b, constant)
	})
	two("elementDiffers", "computes dst = 1 where a ≠ b, else 0.", func(l lanes, a, b reg.VecVirtual) reg.VecVirtual {
		return l.indicator(differs, a, b, constant)
	})
	elementSigmoid(i, signature)
	sumDouble(i)
	excess(i)
}

// indicator is value where the predicate holds for a and b, and 0 elsewhere.
func (l lanes) indicator(predicate uint64, a, b reg.VecVirtual, value Op) reg.VecVirtual {
	v := l.isa.vector()
	if l.isa == avx512 {
		holds := K()
		VCMPPS(Imm(predicate), b, a, holds)
		VMOVAPS_Z(value, holds, v)
		return v
	}
	VCMPPS(Imm(predicate), b, a, v)
	VANDPS(value, v, v)
	return v
}

// orNaN is v, or NaN where a or b is: the extremum instructions forget one of them.
func (l lanes) orNaN(v, a, b reg.VecVirtual) reg.VecVirtual {
	if l.isa == avx512 {
		either := K()
		VCMPPS(Imm(unordered), b, a, either)
		VADDPS(b, a, either, v)
		return v
	}
	either, sum := l.isa.vector(), l.isa.vector()
	VCMPPS(Imm(unordered), b, a, either)
	VADDPS(b, a, sum)
	VBLENDVPS(either, sum, v, v)
	return v
}

func elementSigmoid(i isa, signature string) {
	rowFunction(i, "elementSigmoid", signature, "computes dst = 1/(1 + exp(-a)).")
	dst, a := pointer("dst"), pointer("a")
	e := newExponential(i)
	walk(i, 1, func(l lanes) { l.store(e.sigmoid(l.load(a)), dst) })
	finish()
}

// excess emits the sum of what each value differs from itself by.
func excess(i isa) {
	rowFunction(i, "excess", "func(x *float32, n int) (total float32)", "is 0, or NaN where x has a value that is not finite.")
	x, sums := pointer("x"), i.zeros(accumulators)
	walk(i, accumulators, func(l lanes) {
		v := l.load(x)
		VSUBPS(v, v, v)
		VADDPS(v, sums[l.unroll], sums[l.unroll])
	})
	returnLane(i.combine(sums, add), "total")
	finish()
}
