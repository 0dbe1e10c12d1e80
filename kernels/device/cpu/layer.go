package cpu

import (
	"fmt"
	"math"
)

// SiLUMul computes dst = silu(gate)·up with silu(x) = x·sigmoid(x), the activation of SwiGLU.
func SiLUMul(dst, gate, up []float32) {
	sameLength("SiLUMul", len(dst), len(gate), len(up))
	if len(dst) > 0 {
		running().siluMul(dst, gate, up)
	}
}

// SiLUMulBackward computes the gradients of SiLUMul from that of its result: with s = sigmoid(gate),
// dUp = dOut·gate·s and dGate = dOut·up·(s + gate·s·(1-s)). What dGate and dUp held is lost.
func SiLUMulBackward(dGate, dUp, dOut, gate, up []float32) {
	sameLength("SiLUMulBackward", len(dGate), len(dUp), len(dOut), len(gate), len(up))
	if len(dGate) > 0 {
		running().siluMulBackward(dGate, dUp, dOut, gate, up)
	}
}

// RMSNorm computes dst = (x·invRMS)·weight with invRMS = 1/√(mean(x²) + eps), and returns invRMS for
// the backward pass.
func RMSNorm(dst, x, weight []float32, eps float32) (invRMS float32) {
	sameLength("RMSNorm", len(dst), len(x), len(weight))
	if len(dst) == 0 {
		return float32(1 / math.Sqrt(float64(eps)))
	}
	i := running()
	mean := float64(i.dot(x, x)) / float64(len(x))
	invRMS = float32(1 / math.Sqrt(mean+float64(eps)))
	i.scaleBy(dst, x, weight, invRMS)
	return invRMS
}

// RMSNormBackward adds the gradients of RMSNorm to dx and dWeight: with r = invRMS and n values,
// dx += r·dy·weight - x·r³·Σ(dy·weight·x)/n and dWeight += dy·x·r.
func RMSNormBackward(dx, dWeight, dy, x, weight []float32, invRMS float32) {
	sameLength("RMSNormBackward", len(dx), len(dWeight), len(dy), len(x), len(weight))
	if len(dx) == 0 {
		return
	}
	i, r := running(), float64(invRMS)
	slope := r * r * r * float64(i.dot3(dy, weight, x)) / float64(len(x))
	i.rmsNormBackward(dx, dWeight, dy, x, weight, invRMS, float32(slope))
}

// Rotate applies the rotary embedding (Su et al., arXiv:2104.09864, with the halves of Llama and Qwen) to
// consecutive heads of one token, each of 2·len(cos) values: the pair (a, b) = (x[j], x[j+len(cos)]) of a
// head becomes (a·cos[j] - b·sin[j], b·cos[j] + a·sin[j]).
func Rotate(x, cos, sin []float32) {
	if heads := rotatedHeads("Rotate", x, cos, sin); heads > 0 {
		running().rotate(x, cos, sin, heads)
	}
}

// RotateBackward replaces the gradient of Rotate's result by that of its argument: the rotation by the
// opposite angles.
func RotateBackward(dx, cos, sin []float32) {
	if heads := rotatedHeads("RotateBackward", dx, cos, sin); heads > 0 {
		running().rotateBackward(dx, cos, sin, heads)
	}
}

// rotatedHeads is the number of heads in x; it panics where they do not fit.
func rotatedHeads(function string, x, cos, sin []float32) int {
	sameLength(function, len(cos), len(sin))
	if len(x) == 0 {
		return 0
	}
	if len(cos) == 0 || len(x)%(2*len(cos)) != 0 {
		panic(fmt.Sprintf("cpu: %s: %d values are no whole number of heads of 2·%d", function, len(x), len(cos)))
	}
	return len(x) / (2 * len(cos))
}

// HeadRow replaces a row of logits by inverseTemperature·logits less their maximum and returns the log of the
// sum of the exponentials of these, logSum, and the entropy of their softmax in nats. The log-probability
// of element i is z[i] - logSum, which is exact for likely elements and never positive, because the
// maximum is taken off first. The inverse temperature must be positive. Logits of -Inf have probability 0;
// of an empty row logSum is -Inf and the entropy 0, and a row of nothing but -Inf becomes NaN.
func HeadRow(z []float32, inverseTemperature float32) (logSum, entropy float32) {
	if len(z) == 0 {
		return float32(math.Inf(-1)), 0
	}
	i := running()
	total, weighted := i.headRow(z, inverseTemperature, inverseTemperature*i.largest(z))
	log := math.Log(float64(total))
	return float32(log), float32(log - float64(weighted)/float64(total))
}

// HeadRowBackward replaces what HeadRow left in z by the gradient of the raw logits, given its results and
// the gradients dLogProb of the target's log-probability and dEntropy of the entropy H: with
// p = exp(z - logSum),
//
//	dz_i = inverseTemperature·(dLogProb·(1[i = target] - p_i) - dEntropy·p_i·(log p_i + H))
//
// Elements whose probability is too small for a float32 count as impossible.
func HeadRowBackward(z []float32, logSum, entropy float32, target int, dLogProb, dEntropy, inverseTemperature float32) {
	constant := -(dLogProb + dEntropy*entropy) * inverseTemperature
	running().headRowBackward(z, logSum, constant, -dEntropy*inverseTemperature)
	z[target] += dLogProb * inverseTemperature
}

// AdamW takes one optimizer step (Loshchilov & Hutter, arXiv:1711.05101, as PyTorch computes it):
//
//	m = beta1·m + (1-beta1)·grad
//	v = beta2·v + (1-beta2)·grad²
//	param = (1-lr·weightDecay)·param - lr·(m/biasCorrection1) / (√(v/biasCorrection2) + eps)
//
// with biasCorrection1 = 1-beta1ᵗ and biasCorrection2 = 1-beta2ᵗ at step t, counted from 1.
// Every element is on its own, so callers may cut a tensor anywhere.
func AdamW(param, grad, m, v []float32, lr, beta1, beta2, eps, weightDecay, biasCorrection1, biasCorrection2 float32) {
	sameLength("AdamW", len(param), len(grad), len(m), len(v))
	if len(param) == 0 {
		return
	}
	running().adamW(param, grad, m, v, adamWFactors{
		beta1: beta1, rest1: float32(1 - float64(beta1)),
		beta2: beta2, rest2: float32(1 - float64(beta2)),
		keep: float32(1 - float64(lr)*float64(weightDecay)),
		step: float32(float64(lr) / float64(biasCorrection1)),
		root: float32(1 / math.Sqrt(float64(biasCorrection2))),
		eps:  eps,
	})
}

// adamWFactors are the constants of one optimizer step: m = beta1·m + rest1·grad,
// v = beta2·v + rest2·grad², param = keep·param - step·m/(root·√v + eps).
type adamWFactors struct{ beta1, rest1, beta2, rest2, keep, step, root, eps float32 }
