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
}

// largest emits the maximum. The maximum instruction forgets NaN, so NaN is collected on the side:
// what is added at the end is zero or NaN.
func largest(i isa) {
	rowFunction(i, "largest", "func(x *float32, n int) (value float32)", "is the maximum of x, or NaN where x has one.")
	x, nan := pointer("x"), i.zeros(accumulators)
	low := i.constantRegister(negativeInfinity)
	top := make([]reg.VecVirtual, accumulators)
	for j := range top {
		top[j] = i.vector()
		VMOVAPS(low, top[j])
	}
	walk(i, accumulators, func(l lanes) {
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
	returnLane(result, "value")
	finish()
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

	rmsNormBackward(i)
	adamW(i)
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
