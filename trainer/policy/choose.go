package policy

import (
	"errors"

	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
)

var errNotANumber = errors.New("the logits are not numbers: the weights have diverged")

// choose samples from one row of raw logits. The random number depends on the request's seed and the
// token's index in the request alone, and the inverse of the distribution function is searched in
// order of token ids.
func (d *decoder) choose(s *slot, w *scratch, z []float32) {
	request := &s.running.request
	inverse := float32(1)
	if request.Temperature > 0 {
		inverse = 1 / float32(request.Temperature)
	}
	chances := logitsRow(z, d.net.ones, inverse)
	token := 0
	if request.Temperature > 0 {
		cpu.Exp(w.exps, z)
		token = invert(w.exps, uniform(request.Seed, uint64(len(s.running.result.Tokens))))
	} else {
		token = argmax(z)
	}
	logProb := chances.logProb(z[token])
	s.sampled = sampledToken{token: int32(token), logProb: logProb, entropy: chances.entropy, valid: logProb == logProb}
}

// invert returns the first token at which the cumulative share of the weights exceeds u in [0, 1).
// Rounding may leave the total below u; the last token with any weight is then the answer.
func invert(weights []float32, u float64) int {
	threshold := u * float64(cpu.Sum(weights))
	total, last := 0.0, 0
	for i, e := range weights {
		if e == 0 {
			continue
		}
		total += float64(e)
		last = i
		if total > threshold {
			break
		}
	}
	return last
}

// argmax is the first of the largest entries.
func argmax(z []float32) int {
	best := 0
	for i, v := range z {
		if v > z[best] {
			best = i
		}
	}
	return best
}

// uniform is the n-th number in [0, 1) of a seed's stream, from SplitMix64's finaliser over both.
func uniform(seed, n uint64) float64 {
	const golden = 0x9e3779b97f4a7c15
	return float64(mix(mix(seed+golden)+(n+1)*golden)>>11) * 0x1p-53
}

func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
