package policy

import (
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
)

// rotateRow rotates the pairs (x[i], x[i+half]) by the angles whose cosines and sines are given.
func rotateRow(x, cos, sin []float32) {
	half := len(x) / 2
	low, high := x[:half], x[half:half+half]
	cos, sin = cos[:half], sin[:half]
	for i, a := range low {
		b := high[i]
		low[i] = a*cos[i] - b*sin[i]
		high[i] = b*cos[i] + a*sin[i]
	}
}

// rotateBackRow is the derivative through rotateRow: the rotation by the opposite angles.
func rotateBackRow(dx, cos, sin []float32) {
	half := len(dx) / 2
	low, high := dx[:half], dx[half:half+half]
	cos, sin = cos[:half], sin[:half]
	for i, a := range low {
		b := high[i]
		low[i] = a*cos[i] + b*sin[i]
		high[i] = b*cos[i] - a*sin[i]
	}
}

// softmaxRow replaces s by softmax(scale·s).
func softmaxRow(s []float32, scale float32) {
	cpu.Scale(scale, s)
	cpu.SoftmaxRow(s)
}

// softmaxBackRow replaces d, the derivative with respect to the probabilities p of softmax(scale·s), by
// that with respect to s: scale·p ⊙ (d − total) with total = Σ p·d.
func softmaxBackRow(d, p []float32, total, scale float32) {
	d = d[:len(p)]
	for i, v := range p {
		d[i] = v * (d[i] - total) * scale
	}
}

// distribution describes softmax(logits/temperature) of one row.
type distribution struct {
	logSum  float32 // log Σ exp(centred)
	entropy float32 // in nats
}

// logitsRow replaces logits by logits/temperature less their maximum and describes their softmax.
// Taking the maximum off first keeps the log-probabilities of likely tokens exact and never positive.
// ones is as long as the row and holds 1 everywhere.
func logitsRow(z, ones []float32, inverseTemperature float32) distribution {
	cpu.Scale(inverseTemperature, z)
	top := cpu.Max(z)
	cpu.Axpy(-top, ones, z)
	logSum, entropy := cpu.LogSoftmaxStats(z, 1)
	return distribution{logSum: logSum, entropy: entropy}
}

// logProb is the log-probability of a centred entry of the row the distribution describes.
func (d distribution) logProb(centred float32) float32 { return centred - d.logSum }

// logitsBackRow replaces centred logits by the derivative with respect to the raw logits, given the
// derivatives of the loss with respect to the target's log-probability and to the entropy:
// dz_i = (dl·(1[i=target] − p_i) − dh·p_i·(log p_i + H)) / temperature. work is as long as the row.
func logitsBackRow(z, work []float32, d distribution, target int, dLogProb, dEntropy, inverseTemperature float32) {
	if dEntropy == 0 {
		cpu.SoftmaxRow(z)
		cpu.Scale(-dLogProb*inverseTemperature, z)
	} else {
		cpu.Exp(work, z)
		inverse := float32(math.Exp(-float64(d.logSum)))
		for i, e := range work {
			z[i] = -e * inverse * (dLogProb + dEntropy*(z[i]-d.logSum+d.entropy)) * inverseTemperature
		}
	}
	z[target] += dLogProb * inverseTemperature
}
