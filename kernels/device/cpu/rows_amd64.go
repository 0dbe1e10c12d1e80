package cpu

// Each method runs one row kernel of the instruction set. Rows are not empty and equally long, which
// callers have checked.

func (i isa) sum(x []float32) float32 {
	switch i {
	case isaAVX512:
		return sumAVX512(&x[0], len(x))
	case isaAVX2:
		return sumAVX2(&x[0], len(x))
	default:
		return sumGo(x)
	}
}

func (i isa) dot(x, y []float32) float32 {
	switch i {
	case isaAVX512:
		return dotAVX512(&x[0], &y[0], len(x))
	case isaAVX2:
		return dotAVX2(&x[0], &y[0], len(x))
	default:
		return dotGo(x, y)
	}
}

func (i isa) dot3(x, y, z []float32) float32 {
	switch i {
	case isaAVX512:
		return dot3AVX512(&x[0], &y[0], &z[0], len(x))
	case isaAVX2:
		return dot3AVX2(&x[0], &y[0], &z[0], len(x))
	default:
		return dot3Go(x, y, z)
	}
}

func (i isa) largest(x []float32) float32 {
	switch i {
	case isaAVX512:
		return largestAVX512(&x[0], len(x))
	case isaAVX2:
		return largestAVX2(&x[0], len(x))
	default:
		return largestGo(x)
	}
}

func (i isa) scale(alpha float32, x []float32) {
	switch i {
	case isaAVX512:
		scaleAVX512(&x[0], len(x), alpha)
	case isaAVX2:
		scaleAVX2(&x[0], len(x), alpha)
	default:
		scaleGo(alpha, x)
	}
}

func (i isa) axpy(alpha float32, x, y []float32) {
	switch i {
	case isaAVX512:
		axpyAVX512(&y[0], &x[0], len(x), alpha)
	case isaAVX2:
		axpyAVX2(&y[0], &x[0], len(x), alpha)
	default:
		axpyGo(alpha, x, y)
	}
}

func (i isa) scaleBy(dst, x, weight []float32, alpha float32) {
	switch i {
	case isaAVX512:
		scaleByAVX512(&dst[0], &x[0], &weight[0], len(x), alpha)
	case isaAVX2:
		scaleByAVX2(&dst[0], &x[0], &weight[0], len(x), alpha)
	default:
		scaleByGo(dst, x, weight, alpha)
	}
}

func (i isa) expRow(dst, src []float32, scale, shift float32) float32 {
	switch i {
	case isaAVX512:
		return expRowAVX512(&dst[0], &src[0], len(src), scale, shift)
	case isaAVX2:
		return expRowAVX2(&dst[0], &src[0], len(src), scale, shift)
	default:
		return expRowGo(dst, src, scale, shift)
	}
}

func (i isa) expStats(src []float32, scale, shift float32) (total, weighted float32) {
	switch i {
	case isaAVX512:
		return expStatsAVX512(&src[0], len(src), scale, shift)
	case isaAVX2:
		return expStatsAVX2(&src[0], len(src), scale, shift)
	default:
		return expStatsGo(src, scale, shift)
	}
}

func (i isa) expWeights(dst, src []float32, scale, shift float32) (total, weighted float32) {
	switch i {
	case isaAVX512:
		return expWeightsAVX512(&dst[0], &src[0], len(src), scale, shift)
	case isaAVX2:
		return expWeightsAVX2(&dst[0], &src[0], len(src), scale, shift)
	default:
		return expWeightsGo(dst, src, scale, shift)
	}
}

func (i isa) siluMul(dst, gate, up []float32) {
	switch i {
	case isaAVX512:
		siluMulAVX512(&dst[0], &gate[0], &up[0], len(dst))
	case isaAVX2:
		siluMulAVX2(&dst[0], &gate[0], &up[0], len(dst))
	default:
		siluMulGo(dst, gate, up)
	}
}

func (i isa) siluMulBackward(dGate, dUp, dOut, gate, up []float32) {
	switch i {
	case isaAVX512:
		siluMulBackwardAVX512(&dGate[0], &dUp[0], &dOut[0], &gate[0], &up[0], len(gate))
	case isaAVX2:
		siluMulBackwardAVX2(&dGate[0], &dUp[0], &dOut[0], &gate[0], &up[0], len(gate))
	default:
		siluMulBackwardGo(dGate, dUp, dOut, gate, up)
	}
}

func (i isa) rmsNormBackward(dx, dWeight, dy, x, weight []float32, inv, slope float32) {
	switch i {
	case isaAVX512:
		rmsNormBackwardAVX512(&dx[0], &dWeight[0], &dy[0], &x[0], &weight[0], len(x), inv, slope)
	case isaAVX2:
		rmsNormBackwardAVX2(&dx[0], &dWeight[0], &dy[0], &x[0], &weight[0], len(x), inv, slope)
	default:
		rmsNormBackwardGo(dx, dWeight, dy, x, weight, inv, slope)
	}
}

func (i isa) adamW(param, grad, m, v []float32, f adamWFactors) {
	switch i {
	case isaAVX512:
		adamWAVX512(&param[0], &grad[0], &m[0], &v[0], len(param),
			f.beta1, f.rest1, f.beta2, f.rest2, f.keep, f.step, f.root, f.eps)
	case isaAVX2:
		adamWAVX2(&param[0], &grad[0], &m[0], &v[0], len(param),
			f.beta1, f.rest1, f.beta2, f.rest2, f.keep, f.step, f.root, f.eps)
	default:
		adamWGo(param, grad, m, v, f)
	}
}

func (i isa) squaredNorm(x []float32) float64 {
	switch i {
	case isaAVX512:
		return squaredNormAVX512(&x[0], len(x))
	case isaAVX2:
		return squaredNormAVX2(&x[0], len(x))
	default:
		return squaredNormGo(x)
	}
}

func (i isa) softmax(x []float32, scale float32) (top, total float32) {
	switch i {
	case isaAVX512:
		return softmaxAVX512(&x[0], len(x), scale)
	case isaAVX2:
		return softmaxAVX2(&x[0], len(x), scale)
	default:
		return softmaxGo(x, scale)
	}
}

func (i isa) softmaxBackward(d, p []float32, total, scale float32) {
	switch i {
	case isaAVX512:
		softmaxBackwardAVX512(&d[0], &p[0], len(d), total, scale)
	case isaAVX2:
		softmaxBackwardAVX2(&d[0], &p[0], len(d), total, scale)
	default:
		softmaxBackwardGo(d, p, total, scale)
	}
}

func (i isa) headRow(z []float32, scale, shift float32) (total, weighted float32) {
	switch i {
	case isaAVX512:
		return headRowAVX512(&z[0], len(z), scale, shift)
	case isaAVX2:
		return headRowAVX2(&z[0], len(z), scale, shift)
	default:
		return headRowGo(z, scale, shift)
	}
}

func (i isa) headRowBackward(z []float32, logSum, constant, slope float32) {
	switch i {
	case isaAVX512:
		headRowBackwardAVX512(&z[0], len(z), logSum, constant, slope)
	case isaAVX2:
		headRowBackwardAVX2(&z[0], len(z), logSum, constant, slope)
	default:
		headRowBackwardGo(z, logSum, constant, slope)
	}
}

func (i isa) rotate(x, cos, sin []float32, heads int) {
	switch i {
	case isaAVX512:
		rotateAVX512(&x[0], len(cos), &cos[0], &sin[0], heads)
	case isaAVX2:
		rotateAVX2(&x[0], len(cos), &cos[0], &sin[0], heads)
	default:
		rotateGo(x, cos, sin, 1)
	}
}

func (i isa) rotateBackward(x, cos, sin []float32, heads int) {
	switch i {
	case isaAVX512:
		rotateBackwardAVX512(&x[0], len(cos), &cos[0], &sin[0], heads)
	case isaAVX2:
		rotateBackwardAVX2(&x[0], len(cos), &cos[0], &sin[0], heads)
	default:
		rotateGo(x, cos, sin, -1)
	}
}
