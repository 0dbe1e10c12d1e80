package cpu

import "math"

// The portable kernels. Conversions to float32 keep compilers from fusing multiplications and
// additions, which some architectures would do and others not.

func sumGo(x []float32) (total float32) {
	for _, v := range x {
		total += v
	}
	return total
}

func dotGo(x, y []float32) (total float32) {
	y = y[:len(x)]
	for i, v := range x {
		total += float32(v * y[i])
	}
	return total
}

func dot3Go(x, y, z []float32) (total float32) {
	y, z = y[:len(x)], z[:len(x)]
	for i, v := range x {
		total += float32(v * y[i] * z[i])
	}
	return total
}

func largestGo(x []float32) float32 {
	top := x[0]
	for _, v := range x[1:] {
		top = max(top, v) // NaN wins
	}
	return top
}

func scaleGo(alpha float32, x []float32) {
	for i := range x {
		x[i] *= alpha
	}
}

func axpyGo(alpha float32, x, y []float32) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] += float32(alpha * v)
	}
}

func scaleByGo(dst, x, weight []float32, alpha float32) {
	for i, v := range x {
		dst[i] = alpha * v * weight[i]
	}
}

func expGo(x float32) float32 { return float32(math.Exp(float64(x))) }

func expRowGo(dst, src []float32, scale, shift float32) (total float32) {
	for i, v := range src {
		dst[i] = expGo(float32(scale*v) - shift)
		total += dst[i]
	}
	return total
}

func expStatsGo(src []float32, scale, shift float32) (total, weighted float32) {
	for _, v := range src {
		t := float32(scale*v) - shift
		if e := expGo(t); e != 0 { // -Inf has no weight
			total += e
			weighted += float32(t * e)
		}
	}
	return total, weighted
}

func expWeightsGo(dst, src []float32, scale, shift float32) (total, weighted float32) {
	total, weighted = expStatsGo(src, scale, shift)
	expRowGo(dst, src, scale, shift)
	return total, weighted
}

func siluMulGo(dst, gate, up []float32) {
	for i, g := range gate {
		dst[i] = g * (1 / (1 + expGo(-g))) * up[i]
	}
}

func siluMulBackwardGo(dGate, dUp, dOut, gate, up []float32) {
	for i, g := range gate {
		d, u := dOut[i], up[i]
		s := 1 / (1 + expGo(-g))
		silu := g * s
		dGate[i] = d * u * (s + silu - float32(silu*s))
		dUp[i] = d * silu
	}
}

func rmsNormBackwardGo(dx, dWeight, dy, x, weight []float32, inv, slope float32) {
	for i, v := range x {
		dWeight[i] += float32(dy[i] * (inv * v))
		dx[i] += float32(inv*(dy[i]*weight[i])) - float32(slope*v)
	}
}

func adamWGo(param, grad, m, v []float32, f adamWFactors) {
	for i, g := range grad {
		m[i] = float32(f.beta1*m[i]) + float32(f.rest1*g)
		v[i] = float32(f.beta2*v[i]) + float32(f.rest2*g*g)
		root := float32(math.Sqrt(float64(v[i])))
		param[i] = float32(f.keep*param[i]) - f.step*m[i]/(float32(f.root*root)+f.eps)
	}
}

func squaredNormGo(x []float32) (total float64) {
	for _, v := range x {
		total += float64(float64(v) * float64(v))
	}
	return total
}

func softmaxGo(x []float32, scale float32) (top, total float32) {
	top = largestGo(x)
	total = expRowGo(x, x, scale, scale*top)
	scaleGo(1/total, x)
	return top, total
}

func softmaxBackwardGo(d, p []float32, total, scale float32) {
	p = p[:len(d)]
	for i, v := range d {
		d[i] = (v - total) * p[i] * scale
	}
}

func headRowGo(z []float32, scale, shift float32) (total, weighted float32) {
	for i, v := range z {
		t := float32(scale*v) - shift
		z[i] = t
		if e := expGo(t); e != 0 { // -Inf has no weight
			total += e
			weighted += float32(t * e)
		}
	}
	return total, weighted
}

func headRowBackwardGo(z []float32, logSum, constant, slope float32) {
	for i, v := range z {
		t := v - logSum
		e := expGo(t)
		if e == 0 { // -Inf has no gradient
			z[i] = 0
			continue
		}
		z[i] = e * (constant + float32(slope*t))
	}
}

// rotateGo rotates by the angle, or with sign -1 by its opposite.
func rotateGo(x, cos, sin []float32, sign float32) {
	half := len(cos)
	sin = sin[:half]
	for ; len(x) > 0; x = x[2*half:] {
		low, high := x[:half], x[half:2*half]
		for j, c := range cos {
			a, b, s := low[j], high[j], sign*sin[j]
			low[j] = float32(a*c) - float32(b*s)
			high[j] = float32(b*c) + float32(a*s)
		}
	}
}
