package policy

import "math"

// Row operations. Each sums in ascending order of the index, so that a row's result depends on that
// row alone.

// rmsNormRow writes dst = w ⊙ x / sqrt(mean(x²) + eps) and returns the reciprocal root.
func rmsNormRow(dst, x, w []float32, eps float32) float32 {
	var sum float32
	for _, v := range x {
		sum += v * v
	}
	r := float32(1 / math.Sqrt(float64(sum/float32(len(x))+eps)))
	for i, v := range x {
		dst[i] = v * r * w[i]
	}
	return r
}

// rmsNormBackRow adds the derivative through rmsNormRow to dx and dw. With x̂ = x·r:
// dw += dy ⊙ x̂, dx += r·(dy ⊙ w − x̂·mean(dy ⊙ w ⊙ x̂)).
func rmsNormBackRow(dx, dw, dy, x, w []float32, r float32) {
	var sum float32
	for i, v := range x {
		normed := v * r
		dw[i] += dy[i] * normed
		sum += dy[i] * w[i] * normed
	}
	mean := sum / float32(len(x))
	for i, v := range x {
		dx[i] += r * (dy[i]*w[i] - v*r*mean)
	}
}

// rotateRow rotates the pairs (x[i], x[i+half]) by the angles whose cosines and sines are given.
func rotateRow(x, cos, sin []float32) {
	half := len(x) / 2
	low, high := x[:half], x[half:]
	for i := range low {
		a, b := low[i], high[i]
		low[i] = a*cos[i] - b*sin[i]
		high[i] = b*cos[i] + a*sin[i]
	}
}

// rotateBackRow is the derivative through rotateRow: the rotation by the opposite angles.
func rotateBackRow(dx, cos, sin []float32) {
	half := len(dx) / 2
	low, high := dx[:half], dx[half:]
	for i := range low {
		a, b := low[i], high[i]
		low[i] = a*cos[i] + b*sin[i]
		high[i] = b*cos[i] - a*sin[i]
	}
}

// siluMulRow writes dst = silu(gate) ⊙ up with silu(g) = g/(1+exp(−g)).
func siluMulRow(dst, gate, up []float32) {
	for i, g := range gate {
		dst[i] = g * sigmoid(g) * up[i]
	}
}

// siluMulBackRow writes the derivatives with respect to gate and up.
func siluMulBackRow(dGate, dUp, dy, gate, up []float32) {
	for i, g := range gate {
		s := sigmoid(g)
		dUp[i] = dy[i] * g * s
		dGate[i] = dy[i] * up[i] * s * (1 + g*(1-s))
	}
}

func sigmoid(x float32) float32 { return 1 / (1 + exp32(-x)) }

func exp32(x float32) float32 { return float32(math.Exp(float64(x))) }

// softmaxRow replaces s by exp(scale·s − max)/Σ.
func softmaxRow(s []float32, scale float32) {
	top := float32(math.Inf(-1))
	for i, v := range s {
		s[i] = v * scale
		top = max(top, s[i])
	}
	var sum float32
	for i, v := range s {
		s[i] = exp32(v - top)
		sum += s[i]
	}
	inverse := 1 / sum
	for i := range s {
		s[i] *= inverse
	}
}

// distribution describes softmax(logits/temperature) of one row.
type distribution struct {
	max     float32 // of the scaled logits
	sum     float32 // Σ exp(scaled − max)
	logSum  float32 // log(sum)
	entropy float32 // in nats
}

// logitsRow scales the logits in place by 1/temperature and describes their softmax.
// The entropy is log Σe^{z−m} − Σ e^{z−m}(z−m) / Σe^{z−m}.
func logitsRow(z []float32, inverseTemperature float32) distribution {
	top := float32(math.Inf(-1))
	for i, v := range z {
		z[i] = v * inverseTemperature
		top = max(top, z[i])
	}
	var sum, weighted float32
	for _, v := range z {
		d := v - top
		e := exp32(d)
		sum += e
		weighted += e * d
	}
	logSum := float32(math.Log(float64(sum)))
	return distribution{max: top, sum: sum, logSum: logSum, entropy: logSum - weighted/sum}
}

// logProb is the log-probability of one entry of the row the distribution describes.
func (d distribution) logProb(scaled float32) float32 { return scaled - d.max - d.logSum }

// logitsBackRow replaces scaled logits by the derivative with respect to the raw logits, given the
// derivatives of the loss with respect to the target's log-probability and to the entropy:
// dz_i = (dl·(1[i=target] − p_i) − dh·p_i·(log p_i + H)) / temperature.
func logitsBackRow(z []float32, d distribution, target int, dLogProb, dEntropy, inverseTemperature float32) {
	for i, v := range z {
		lp := v - d.max - d.logSum
		p := exp32(lp)
		z[i] = -p * (dLogProb + dEntropy*(lp+d.entropy)) * inverseTemperature
	}
	z[target] += dLogProb * inverseTemperature
}

func dot(a, b []float32) float32 {
	var sum float32
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}

// axpy adds s·x to y.
func axpy(y, x []float32, s float32) {
	for i, v := range x {
		y[i] += s * v
	}
}
