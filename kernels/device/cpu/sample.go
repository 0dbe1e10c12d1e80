package cpu

import (
	"math"
	"slices"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// samplingScratch is what the choice of one token needs.
type samplingScratch struct {
	weights []float32 // exp(logit/temperature), up to a factor
	blocks  []float64 // sums of blocks of weights
	bins    [binCount]bin
	tokens  []int32 // those of one bin
}

// PlaceSampling keeps how the tokens of rows are chosen, and makes room for them.
func (d *Device) PlaceSampling(draws *device.Draws, how []device.Sampling, vocabulary int) error {
	device.CheckPlaceSampling(how, vocabulary)
	if rows := len(how); draws.Memory.Len() < rows {
		d.FreeDraws(draws)
		m, err := d.Allocate(device.ForWorkspace, device.I32, rows)
		if err != nil {
			return err
		}
		draws.Memory = m
	}
	draws.How = append(draws.How[:0], how...)
	draws.Chosen = grown(draws.Chosen, len(how))
	draws.Vocabulary, draws.Tokens = vocabulary, draws.Memory.Slice(0, len(how))
	return nil
}

// Draw chooses a token for each row of logits, which stay as they are. A row whose logits are not numbers, or have no
// largest finite one, has no distribution: its Token is −1 and its other fields are NaN.
func (d *Device) Draw(draws *device.Draws, logits device.Rows) {
	device.CheckDraw(draws, logits)
	w := sampleWork{d, draws.Chosen, ints(draws.Tokens), view(logits), draws.Vocabulary, draws.How}
	if len(w.how) > 0 {
		d.spreads.sample.overRows(w, len(w.how), 2*w.vocabulary)
	}
}

// Drawn returns the choices. The error is always nil.
func (d *Device) Drawn(dst []device.Sampled, draws *device.Draws) error {
	device.CheckDrawn(dst, draws)
	copy(dst, draws.Chosen)
	return nil
}

// FreeDraws gives the memory of choices back.
func (d *Device) FreeDraws(draws *device.Draws) {
	d.Free(draws.Memory)
	*draws = device.Draws{}
}

type sampleWork struct {
	device     *Device
	dst        []device.Sampled
	tokens     []int32
	logits     matrix
	vocabulary int
	how        []device.Sampling
}

func (w sampleWork) run(lo, hi int) {
	s := w.device.sampling.take()
	defer w.device.sampling.give(s)
	for i := lo; i < hi; i++ {
		w.dst[i] = s.choose(w.logits.row(i, w.vocabulary), w.how[i])
		w.tokens[i] = max(0, w.dst[i].Token)
	}
}

// choose picks one token.
func (s *samplingScratch) choose(z []float32, how device.Sampling) device.Sampled {
	inverse := float32(1)
	if how.Temperature > 0 {
		inverse = 1 / how.Temperature
	}
	s.weights = grown(s.weights, len(z))
	about := weigh(s.weights, z, inverse)
	plain := about
	if inverse != 1 {
		plain = describe(z, 1)
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
// Rounding may leave the total below u; the last token with any weight is then the answer. The weights
// are added up in blocks, then within one block in small ones, then within that one by one: the order, and
// with it the token, depends on the row alone.
func (s *samplingScratch) invert(u float64) int {
	const large, small = 128, 16
	s.blocks = grown(s.blocks, (len(s.weights)+large-1)/large)
	total := 0.0
	for b := range s.blocks {
		s.blocks[b] = float64(Sum(part(s.weights, b, large)))
		total += s.blocks[b]
	}
	threshold := u * total
	block, before := reached(s.blocks, 0, threshold)
	var sums [large / small]float64
	within := part(s.weights, block, large)
	for b := range (len(within) + small - 1) / small {
		sums[b] = float64(Sum(part(within, b, small)))
	}
	smallBlock, before := reached(sums[:], before, threshold)
	var weights [small]float64
	for i, w := range part(within, smallBlock, small) {
		weights[i] = float64(w)
	}
	token, _ := reached(weights[:], before, threshold)
	return block*large + smallBlock*small + token
}

// part is the b-th part of so many values, the last one shorter.
func part(x []float32, b, width int) []float32 { return x[b*width : min((b+1)*width, len(x))] }

// reached is the first of the weights with which their sum, begun at before, exceeds the threshold, or else
// the last one that is not zero; and the sum of those in front of it.
func reached(weights []float64, before, threshold float64) (at int, sum float64) {
	sum = before
	for i, w := range weights {
		if w == 0 {
			continue
		}
		at, before = i, sum
		if sum += w; sum > threshold {
			break
		}
	}
	return at, before
}
