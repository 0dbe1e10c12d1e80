package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// accumulators is the number of independent sums of a reduction: enough to hide an addition's latency.
const accumulators = 4

func add(a, b, dst Op) { VADDPS(a, b, dst) }

func biggest(a, b, dst Op) { VMAXPS(a, b, dst) }

// reductions emits the kernels that turn rows into one number.
func reductions(i isa) {
	rowFunction(i, "sum", "func(x *float32, n int) (total float32)", "adds the values of x.")
	x, sums := pointer("x"), i.zeros(accumulators)
	walk(i, accumulators, func(l lanes) { VADDPS(l.load(x), sums[l.unroll], sums[l.unroll]) })
	returnLane(i.combine(sums, add), "total")
	finish()

	rowFunction(i, "dot", "func(x, y *float32, n int) (total float32)", "adds the products of x and y.")
	x, sums = pointer("x"), i.zeros(accumulators)
	y := pointer("y")
	walk(i, accumulators, func(l lanes) { VFMADD231PS(l.load(x), l.load(y), sums[l.unroll]) })
	returnLane(i.combine(sums, add), "total")
	finish()

	rowFunction(i, "dot3", "func(x, y, z *float32, n int) (total float32)", "adds the products of x, y and z.")
	x, y, sums = pointer("x"), pointer("y"), i.zeros(accumulators)
	z := pointer("z")
	walk(i, accumulators, func(l lanes) {
		v := l.load(x)
		VMULPS(l.load(y), v, v)
		VFMADD231PS(l.load(z), v, sums[l.unroll])
	})
	returnLane(i.combine(sums, add), "total")
	finish()

	largest(i)
	squaredNorm(i)
}

// squaredNorm emits the sum of squares in float64.
func squaredNorm(i isa) {
	sumWide(i, "squaredNorm", "adds the squares of x in float64.", func(v, sum reg.VecVirtual) { VFMADD231PD(v, v, sum) })
}

// sumDouble emits the sum in float64.
func sumDouble(i isa) {
	sumWide(i, "sumDouble", "adds the values of x in float64.", func(v, sum reg.VecVirtual) { VADDPD(v, sum, sum) })
}

// sumWide emits a sum in float64, to which accumulate adds a vector of float64 at a time.
func sumWide(i isa, name, doc string, accumulate func(v, sum reg.VecVirtual)) {
	rowFunction(i, name, "func(x *float32, n int) (total float64)", doc)
	x, sums := pointer("x"), i.zeros(2*accumulators)
	walk(i, accumulators, func(l lanes) {
		v := l.load(x)
		low, high := i.vector(), i.vector()
		if i == avx512 {
			half := YMM()
			VEXTRACTF64X4(Imm(1), v, half)
			VCVTPS2PD(v.AsY(), low)
			VCVTPS2PD(half, high)
		} else {
			half := XMM()
			VEXTRACTF128(Imm(1), v, half)
			VCVTPS2PD(v.AsX(), low)
			VCVTPS2PD(half, high)
		}
		accumulate(low, sums[2*l.unroll])
		accumulate(high, sums[2*l.unroll+1])
	})
	for n := accumulators; n > 0; n /= 2 {
		for j := range n {
			VADDPD(sums[j+n], sums[j], sums[j])
		}
	}
	if i == avx512 {
		high := YMM()
		VEXTRACTF64X4(Imm(1), sums[0], high)
		VADDPD(high, sums[0].AsY(), sums[0].AsY())
	}
	total, t := sums[0].AsX(), XMM()
	VEXTRACTF128(Imm(1), sums[0].AsY(), t)
	VADDPD(t, total, total)
	VPERMILPD(Imm(1), total, t)
	VADDSD(t, total, total)
	Store(total, Return("total"))
	finish()
}

// largest emits the maximum. The maximum instruction forgets NaN, so NaN is collected on the side:
// what is added at the end is zero or NaN.
func largest(i isa) {
	rowFunction(i, "largest", "func(x *float32, n int) (value float32)", "is the maximum of x, or NaN where x has one.")
	returnLane(i.largestOf(pointer("x")), "value")
	finish()
}

// largestOf emits the walk that finds the maximum of a row, and leaves it in lane 0.
func (i isa) largestOf(x reg.Register) reg.VecVirtual {
	nan := i.zeros(accumulators)
	low := i.constantRegister(negativeInfinity)
	top := make([]reg.VecVirtual, accumulators)
	for j := range top {
		top[j] = i.vector()
		VMOVAPS(low, top[j])
	}
	walkAgain(i, "Largest", accumulators, func(l lanes) {
		v := l.load(x)
		l.fillAbsent(v, low)
		if i == avx512 {
			unordered := K()
			VCMPPS(Imm(3), v, v, unordered)
			VMOVAPS(v, unordered, nan[l.unroll])
		} else {
			unordered := YMM()
			VCMPPS(Imm(3), v, v, unordered)
			VBLENDVPS(unordered, v, nan[l.unroll], nan[l.unroll])
		}
		VMAXPS(top[l.unroll], v, top[l.unroll])
	})
	result, side := i.combine(top, biggest), i.combine(nan, add)
	VADDSS(side.AsX(), result.AsX(), result.AsX())
	return result
}

// elementwise emits the kernels without exponentials that turn rows into rows.
func elementwise(i isa) {
	rowFunction(i, "scale", "func(x *float32, n int, alpha float32)", "computes x = alpha·x.")
	x, alpha := pointer("x"), i.parameter("alpha")
	walk(i, 2, func(l lanes) {
		v := l.load(x)
		VMULPS(alpha, v, v)
		l.store(v, x)
	})
	finish()

	rowFunction(i, "axpy", "func(y, x *float32, n int, alpha float32)", "computes y = y + alpha·x.")
	x, alpha = pointer("x"), i.parameter("alpha")
	y := pointer("y")
	walk(i, 2, func(l lanes) {
		v := l.load(y)
		VFMADD231PS(l.load(x), alpha, v)
		l.store(v, y)
	})
	finish()

	rowFunction(i, "scaleBy", "func(dst, x, weight *float32, n int, alpha float32)", "computes dst = (alpha·x)·weight.")
	x, alpha = pointer("x"), i.parameter("alpha")
	dst, weight := pointer("dst"), pointer("weight")
	walk(i, 2, func(l lanes) {
		v := l.load(x)
		VMULPS(alpha, v, v)
		VMULPS(l.load(weight), v, v)
		l.store(v, dst)
	})
	finish()

	rowFunction(i, "softmaxBackward", "func(d, p *float32, n int, total, scale float32)", "computes d = (d - total)·p·scale.")
	d, p := pointer("d"), pointer("p")
	total, scale := i.parameter("total"), i.parameter("scale")
	walk(i, 2, func(l lanes) {
		v := l.load(d)
		VSUBPS(total, v, v)
		VMULPS(l.load(p), v, v)
		VMULPS(scale, v, v)
		l.store(v, d)
	})
	finish()

	rotate(i, "rotate", false)
	rotate(i, "rotateBackward", true)
	rmsNormBackward(i)
	adamW(i)
}

// rotate emits the rotation of pairs (a, b), n apart, by angles that consecutive heads of 2n values share:
// (a·cos - b·sin, b·cos + a·sin), or the rotation by the opposite angle.
func rotate(i isa, name string, backward bool) {
	doc := "rotates the pairs (x[j], x[j+n]) of each head of 2n values by the angle of (cos[j], sin[j])."
	if backward {
		doc = "rotates the pairs (x[j], x[j+n]) of each head of 2n values by the opposite of the angle of (cos[j], sin[j])."
	}
	rowFunction(i, name, "func(x *float32, n int, cos, sin *float32, heads int)", doc)
	x, cos, sin := pointer("x"), pointer("cos"), pointer("sin")
	half := Load(Param("n"), GP64())
	SHLQ(Imm(2), half)
	walk(i, 1, func(l lanes) {
		c, s := l.load(cos), l.load(sin)
		at, heads := GP64(), Load(Param("heads"), GP64())
		LEAQ(Mem{Base: x, Index: l.index, Scale: 4}, at)
		label := "head"
		if l.masked {
			label = "headMasked"
		}
		Label(label)
		low, high := Mem{Base: at}, Mem{Base: at, Index: half, Scale: 1}
		a, b, t := l.loadAt(low), l.loadAt(high), i.vector()
		if backward {
			VMULPS(b, s, t)
			VMULPS(b, c, b)
			VFNMADD231PS(a, s, b)
			VFMADD231PS(a, c, t)
		} else {
			VMULPS(a, s, t)
			VMULPS(a, c, a)
			VFNMADD231PS(b, s, a)
			VFMADD231PS(b, c, t)
			a, b, t = b, t, a
		}
		l.storeAt(t, low)
		l.storeAt(b, high)
		LEAQ(Mem{Base: at, Index: half, Scale: 2}, at)
		DECQ(heads)
		JNZ(LabelRef(label))
	})
	finish()
}

func rmsNormBackward(i isa) {
	rowFunction(i, "rmsNormBackward", "func(dx, dWeight, dy, x, weight *float32, n int, inv, slope float32)",
		"computes dx += inv·(dy·weight) - slope·x and dWeight += dy·(inv·x).")
	dx, dWeight, dy, x, weight := pointer("dx"), pointer("dWeight"), pointer("dy"), pointer("x"), pointer("weight")
	inv, slope := i.parameter("inv"), i.parameter("slope")
	walk(i, 1, func(l lanes) {
		xv, g := l.load(x), l.load(dy)
		w, out, scaled := l.load(dWeight), l.load(dx), i.vector()
		VMULPS(xv, inv, scaled)
		VFMADD231PS(scaled, g, w)
		l.store(w, dWeight)
		VMULPS(l.load(weight), g, g)
		VFMADD231PS(g, inv, out)
		VFNMADD231PS(xv, slope, out)
		l.store(out, dx)
	})
	finish()
}

func adamW(i isa) {
	rowFunction(i, "adamW", "func(param, grad, m, v *float32, n int, beta1, rest1, beta2, rest2, keep, step, root, eps float32)",
		"computes m = beta1·m + rest1·grad, v = beta2·v + rest2·grad², param = keep·param - step·m/(root·√v + eps).")
	param, grad, m, v := pointer("param"), pointer("grad"), pointer("m"), pointer("v")
	beta1, rest1, beta2, rest2 := i.parameter("beta1"), i.parameter("rest1"), i.parameter("beta2"), i.parameter("rest2")
	keep, step, root, eps := i.parameter("keep"), i.parameter("step"), i.parameter("root"), i.parameter("eps")
	walk(i, 1, func(l lanes) {
		g, first, second := l.load(grad), l.load(m), l.load(v)
		t := i.vector()
		VMULPS(g, rest1, t)
		VFMADD213PS(t, beta1, first)
		l.store(first, m)
		VMULPS(g, g, t)
		VMULPS(t, rest2, t)
		VFMADD213PS(t, beta2, second)
		l.store(second, v)
		VSQRTPS(second, t)
		VFMADD213PS(eps, root, t)
		VMULPS(first, step, first)
		VDIVPS(t, first, first)
		p := l.load(param)
		VFMSUB213PS(first, keep, p)
		l.store(p, param)
	})
	finish()
}
