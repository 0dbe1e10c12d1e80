package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// exp(x) = 2ⁿ·exp(r) with n = round(x/ln 2) and |r| ≤ ln 2 / 2, and exp(r) = 1 + r + r²·p(r). ln 2 is
// split in two, so that r is nearly exact. The coefficients of p are those of Cephes' expf.
var (
	expCoefficients = [...]float32{1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1}

	negativeInfinity = float32(math.Inf(-1))
	log2e            = float32(math.Log2E)
	ln2High          = float32(math.Ln2)
	ln2Low           = float32(math.Ln2 - float64(ln2High))
)

// Beyond these bounds exp is zero and infinite in float32.
const (
	expLowest  = -104
	expHighest = 89
)

// exponential holds the constants of exp in one kernel.
type exponential struct {
	isa             isa
	lowest, highest reg.VecVirtual
	log2e           Op
	ln2High, ln2Low Op
	coefficients    []Op
	one             Op
}

func newExponential(i isa) exponential {
	e := exponential{isa: i, lowest: i.constantRegister(expLowest), highest: i.constantRegister(expHighest),
		log2e: i.constant(log2e), ln2High: i.constant(ln2High), ln2Low: i.constant(ln2Low), one: i.constant(1)}
	for _, c := range expCoefficients {
		e.coefficients = append(e.coefficients, i.constant(c))
	}
	return e
}

// of clamps x to the bounds and returns exp(x); NaN stays NaN.
func (e exponential) of(x reg.VecVirtual) reg.VecVirtual {
	VMAXPS(x, e.lowest, x)
	VMINPS(x, e.highest, x)
	n, r, p, square := e.isa.vector(), e.isa.vector(), e.isa.vector(), e.isa.vector()
	VMULPS(e.log2e, x, n)
	if e.isa == avx512 {
		VRNDSCALEPS(Imm(8), n, n)
	} else {
		VROUNDPS(Imm(8), n, n)
	}
	VMOVAPS(x, r)
	VFNMADD231PS(e.ln2High, n, r)
	VFNMADD231PS(e.ln2Low, n, r)
	VMULPS(r, r, square)
	if first, ok := e.coefficients[0].(reg.Register); ok {
		VMOVAPS(first, p)
	} else {
		VMOVUPS(e.coefficients[0], p)
	}
	for _, c := range e.coefficients[1:] {
		VFMADD213PS(c, r, p)
	}
	VFMADD213PS(r, square, p)
	VADDPS(e.one, p, p)
	e.timesPowerOfTwo(p, n)
	return p
}

// timesPowerOfTwo computes p = p·2ⁿ for n within what exp produces, results below the smallest normal
// number included.
func (e exponential) timesPowerOfTwo(p, n reg.VecVirtual) {
	if e.isa == avx512 {
		VSCALEFPS(n, p, p)
		return
	}
	// 2ⁿ itself may not be a float32, its two halves are.
	half := YMM()
	VCVTPS2DQ(n, n)
	VPSRAD(Imm(1), n, half)
	VPSUBD(half, n, n)
	for _, exponent := range []reg.VecVirtual{half, n} {
		VPSLLD(Imm(23), exponent, exponent)
		VPADDD(e.one, exponent, exponent) // the bits of 1 are the exponent's bias
		VMULPS(exponent, p, p)
	}
}

// exponentials emits the kernels with exponentials.
func exponentials(i isa) {
	expRow(i)
	expStats(i, false)
	expStats(i, true)
	softmax(i)
	headRow(i)
	headRowBackward(i)
	siluMul(i)
	siluMulBackward(i)
}

func expRow(i isa) {
	rowFunction(i, "expRow", "func(dst, src *float32, n int, scale, shift float32) (total float32)",
		"computes dst = exp(scale·src - shift) and adds it up.")
	dst, src := pointer("dst"), pointer("src")
	scale, shift, sum := i.parameter("scale"), i.parameter("shift"), i.zeros(1)
	e := newExponential(i)
	walk(i, 1, func(l lanes) {
		v := l.load(src)
		VFMSUB213PS(shift, scale, v)
		y := e.of(v)
		l.store(y, dst)
		l.zeroAbsent(y)
		VADDPS(y, sum[0], sum[0])
	})
	returnLane(i.combine(sum, add), "total")
	finish()
}

// expStats emits the sums that describe a distribution; keep stores the exponentials, too.
func expStats(i isa, keep bool) {
	var dst reg.Register
	if keep {
		rowFunction(i, "expWeights", "func(dst, src *float32, n int, scale, shift float32) (total, weighted float32)",
			"computes dst = exp(t) and adds exp(t) and t·exp(t) for t = scale·src - shift.")
		dst = pointer("dst")
	} else {
		rowFunction(i, "expStats", "func(src *float32, n int, scale, shift float32) (total, weighted float32)",
			"adds exp(t) and t·exp(t) for t = scale·src - shift.")
	}
	src := pointer("src")
	scale, shift, sums := i.parameter("scale"), i.parameter("shift"), i.zeros(2)
	e := newExponential(i)
	walk(i, 1, func(l lanes) {
		v := l.load(src)
		VFMSUB213PS(shift, scale, v)
		y := e.of(v)
		if keep {
			l.store(y, dst)
		}
		l.zeroAbsent(y)
		VADDPS(y, sums[0], sums[0])
		VFMADD231PS(v, y, sums[1])
	})
	returnLane(i.combine(sums[:1], add), "total")
	returnLane(i.combine(sums[1:], add), "weighted")
	finish()
}

func softmax(i isa) {
	rowFunction(i, "softmax", "func(x *float32, n int, scale float32) (top, total float32)",
		"replaces x by softmax(scale·x) and is the maximum of x and the sum of exp(scale·(x - top)).")
	x := pointer("x")
	top := i.largestOf(x)
	returnLane(top, "top")
	scale, shift, sum := i.parameter("scale"), i.everywhere(top), i.zeros(1)
	VMULPS(scale, shift, shift)
	e := newExponential(i)
	walkAgain(i, "Exp", 1, func(l lanes) {
		v := l.load(x)
		VFMSUB213PS(shift, scale, v)
		y := e.of(v)
		l.store(y, x)
		l.zeroAbsent(y)
		VADDPS(y, sum[0], sum[0])
	})
	total := i.combine(sum, add)
	returnLane(total, "total")
	inverse := XMM()
	VMOVUPS(constants[math.Float32bits(1)], inverse)
	VDIVSS(total.AsX(), inverse, inverse)
	factor := i.vector()
	VBROADCASTSS(inverse, factor)
	walkAgain(i, "Scale", 2, func(l lanes) {
		v := l.load(x)
		VMULPS(factor, v, v)
		l.store(v, x)
	})
	finish()
}

func headRow(i isa) {
	rowFunction(i, "headRow", "func(z *float32, n int, scale, shift float32) (total, weighted float32)",
		"computes z = t and adds exp(t) and t·exp(t) for t = scale·z - shift, rounded after the product.")
	z := pointer("z")
	scale, shift, sums := i.parameter("scale"), i.parameter("shift"), i.zeros(2)
	e := newExponential(i)
	walk(i, 1, func(l lanes) {
		v := l.load(z)
		VMULPS(scale, v, v)
		VSUBPS(shift, v, v)
		l.store(v, z)
		y := e.of(v)
		l.zeroAbsent(y)
		VADDPS(y, sums[0], sums[0])
		VFMADD231PS(v, y, sums[1])
	})
	returnLane(i.combine(sums[:1], add), "total")
	returnLane(i.combine(sums[1:], add), "weighted")
	finish()
}

func headRowBackward(i isa) {
	rowFunction(i, "headRowBackward", "func(z *float32, n int, logSum, constant, slope float32)",
		"computes z = exp(t)·(constant + slope·t) for t = z - logSum.")
	z := pointer("z")
	logSum, constant, slope := i.parameter("logSum"), i.parameter("constant"), i.parameter("slope")
	e := newExponential(i)
	walk(i, 1, func(l lanes) {
		v := l.load(z)
		VSUBPS(logSum, v, v)
		y := e.of(v)
		VFMADD213PS(constant, slope, v)
		VMULPS(v, y, y)
		l.store(y, z)
	})
	finish()
}

// sigmoid is 1/(1+exp(-x)).
func (e exponential) sigmoid(x reg.VecVirtual) reg.VecVirtual {
	negative, s := e.isa.vector(), e.isa.vector()
	VXORPS(negative, negative, negative)
	VSUBPS(x, negative, negative)
	y := e.of(negative)
	VADDPS(e.one, y, y)
	VMOVUPS(constants[math.Float32bits(1)], s)
	VDIVPS(y, s, s)
	return s
}

func siluMul(i isa) {
	rowFunction(i, "siluMul", "func(dst, gate, up *float32, n int)", "computes dst = gate·sigmoid(gate)·up.")
	dst, gate, up := pointer("dst"), pointer("gate"), pointer("up")
	e := newExponential(i)
	walk(i, 1, func(l lanes) {
		g := l.load(gate)
		s := e.sigmoid(g)
		VMULPS(g, s, s)
		VMULPS(l.load(up), s, s)
		l.store(s, dst)
	})
	finish()
}

func siluMulBackward(i isa) {
	rowFunction(i, "siluMulBackward", "func(dGate, dUp, dOut, gate, up *float32, n int)",
		"computes dUp = dOut·gate·s and dGate = dOut·up·(s + gate·s·(1-s)) for s = sigmoid(gate).")
	dGate, dUp, dOut, gate, up := pointer("dGate"), pointer("dUp"), pointer("dOut"), pointer("gate"), pointer("up")
	e := newExponential(i)
	walk(i, 1, func(l lanes) {
		g := l.load(gate)
		s := e.sigmoid(g)
		d, u, silu, slope := l.load(dOut), l.load(up), i.vector(), i.vector()
		VMULPS(g, s, silu)
		VADDPS(s, silu, slope)
		VFNMADD231PS(s, silu, slope) // s + silu - silu·s
		VMULPS(d, u, u)
		VMULPS(slope, u, u)
		VMULPS(silu, d, d)
		l.store(u, dGate)
		l.store(d, dUp)
	})
	finish()
}
