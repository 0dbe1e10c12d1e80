package cpu

import (
	"math"
	"slices"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// samplingScratch is what the choice of one token needs.
type samplingScratch struct {
	weights []float32 // exp(logit/temperature), up to a factor
	blocks  []float64 // sums of weights
	bins    [binCount]bin
	tokens  []int32 // those of one bin
}

// Sample chooses a token for each row of logits. A row whose logits are not numbers, or have no largest
// finite one, has no distribution: its Token is −1 and its other fields are NaN. The error is always nil.
func (d *Device) Sample(dst []device.Sampled, logits device.Rows, vocabulary int, how []device.Sampling) error {
	device.CheckSample(dst, logits, vocabulary, how)
	w := sampleWork{d, dst, view(logits), vocabulary, how}
	if len(how) > 0 {
		overRows(w, len(how), 2*vocabulary)
	}
	return nil
}

type sampleWork struct {
	device     *Device
	dst        []device.Sampled
	logits     matrix
	vocabulary int
	how        []device.Sampling
}

func (w sampleWork) run(lo, hi int) {
	s := w.device.sampling.take()
	defer w.device.sampling.give(s)
	for i := lo; i < hi; i++ {
		w.dst[i] = s.choose(w.logits.row(i, w.vocabulary), w.how[i])
	}
}

// choose picks one token.
func (s *samplingScratch) choose(z []float32, how device.Sampling) device.Sampled {
	plain := describe(z, 1)
	about := plain
	if inverse := 1 / how.Temperature; how.Temperature > 0 && inverse != 1 {
		about = describe(z, inverse)
	}
	if plain.logSum != plain.logSum || about.logSum != about.logSum {
		nan := float32(math.NaN())
		return device.Sampled{Token: -1, LogProb: nan, SamplingLogProb: nan, UntemperedLogProb: nan, Entropy: nan}
	}
	chosen := device.Sampled{Entropy: about.entropy}
	token, logSum := 0, 0.0
	if how.Temperature == 0 {
		token = slices.Index(z, float32(plain.top))
	} else {
		s.weights = grown(s.weights, len(z))
		running().expRow(s.weights, z, float32(about.scale), about.shift)
		logSum = about.logSum
		if s.cut(z, about, how) {
			logSum = math.Log(float64(Sum(s.weights))) - about.rest
		}
		token = s.invert(how.Uniform)
		chosen.SamplingLogProb = float32(min(about.centred(z[token])-logSum, 0))
	}
	chosen.Token, chosen.LogProb, chosen.UntemperedLogProb = int32(token), about.logProb(z[token]), plain.logProb(z[token])
	return chosen
}

// invert returns the first token at which the cumulative share of the weights exceeds u in [0, 1).
// Rounding may leave the total below u; the last token with any weight is then the answer.
func (s *samplingScratch) invert(u float64) int {
	const width = 128
	s.blocks = s.blocks[:0]
	total := 0.0
	for from := 0; from < len(s.weights); from += width {
		sum := float64(Sum(s.weights[from:min(from+width, len(s.weights))]))
		s.blocks = append(s.blocks, sum)
		total += sum
	}
	threshold, before, last := u*total, 0.0, 0
	for b, sum := range s.blocks {
		if sum == 0 {
			continue
		}
		last = b
		if before+sum > threshold {
			break
		}
		before += sum
	}
	before = 0
	for _, sum := range s.blocks[:last] {
		before += sum
	}
	token := last * width
	for i, w := range s.weights[last*width : min((last+1)*width, len(s.weights))] {
		if w == 0 {
			continue
		}
		token = last*width + i
		if before += float64(w); before > threshold {
			break
		}
	}
	return token
}
