//go:build !amd64

package cpu

// Each method runs one row kernel. Rows are not empty and equally long, which callers have checked.

func (i isa) sum(x []float32) float32 { return sumGo(x) }

func (i isa) dot(x, y []float32) float32 { return dotGo(x, y) }

func (i isa) dot3(x, y, z []float32) float32 { return dot3Go(x, y, z) }

func (i isa) largest(x []float32) float32 { return largestGo(x) }

func (i isa) scale(alpha float32, x []float32) { scaleGo(alpha, x) }

func (i isa) axpy(alpha float32, x, y []float32) { axpyGo(alpha, x, y) }

func (i isa) scaleBy(dst, x, weight []float32, alpha float32) { scaleByGo(dst, x, weight, alpha) }

func (i isa) expRow(dst, src []float32, scale, shift float32) float32 {
	return expRowGo(dst, src, scale, shift)
}

func (i isa) expStats(src []float32, scale, shift float32) (total, weighted float32) {
	return expStatsGo(src, scale, shift)
}

func (i isa) expWeights(dst, src []float32, scale, shift float32) (total, weighted float32) {
	return expWeightsGo(dst, src, scale, shift)
}

func (i isa) siluMul(dst, gate, up []float32) { siluMulGo(dst, gate, up) }

func (i isa) siluMulBackward(dGate, dUp, dOut, gate, up []float32) {
	siluMulBackwardGo(dGate, dUp, dOut, gate, up)
}

func (i isa) rmsNormBackward(dx, dWeight, dy, x, weight []float32, inv, slope float32) {
	rmsNormBackwardGo(dx, dWeight, dy, x, weight, inv, slope)
}

func (i isa) adamW(param, grad, m, v []float32, f adamWFactors) { adamWGo(param, grad, m, v, f) }

func (i isa) squaredNorm(x []float32) float64 { return squaredNormGo(x) }

func (i isa) softmax(x []float32, scale float32) (top, total float32) { return softmaxGo(x, scale) }

func (i isa) softmaxBackward(d, p []float32, total, scale float32) {
	softmaxBackwardGo(d, p, total, scale)
}

func (i isa) headRow(z []float32, scale, shift float32) (total, weighted float32) {
	return headRowGo(z, scale, shift)
}

func (i isa) headRowBackward(z []float32, logSum, constant, slope float32) {
	headRowBackwardGo(z, logSum, constant, slope)
}

func (i isa) rotate(x, cos, sin []float32, heads int) { rotateGo(x, cos, sin, 1) }

func (i isa) rotateBackward(x, cos, sin []float32, heads int) { rotateGo(x, cos, sin, -1) }
