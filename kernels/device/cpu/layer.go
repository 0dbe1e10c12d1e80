package cpu

import "math"

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
