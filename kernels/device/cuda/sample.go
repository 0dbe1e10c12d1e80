package cuda

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

const (
	// samplingWords and sampledWords are the sizes of the structs of sample.cu.
	samplingWords = 8
	sampledWords  = 5
	// mostTokens is how many weights the sums of sample.cu hold.
	mostTokens = 1 << 23
)

// Sample chooses a token for each row of logits, which stay as they are. A row whose logits are not numbers, or have no
// largest finite one, has no distribution: its Token is −1 and its other fields are NaN.
func (d *Device) Sample(dst []device.Sampled, logits device.Rows, vocabulary int, how []device.Sampling) error {
	device.CheckSample(dst, logits, vocabulary, how)
	if vocabulary > mostTokens {
		panic(fmt.Sprintf("cuda: Sample: a vocabulary of %d tokens, want at most %d", vocabulary, mostTokens))
	}
	rows := d.operand("Sample", logits)
	words := make([]int32, sampledWords*len(how))
	err := d.ask("Sample", func() {
		if len(how) > 0 {
			d.sample(words, rows, vocabulary, how)
		}
	})
	if err != nil {
		return err
	}
	for i := range dst {
		w := words[sampledWords*i:]
		dst[i] = device.Sampled{Token: w[0], LogProb: number(w[1]), SamplingLogProb: number(w[2]), UntemperedLogProb: number(w[3]), Entropy: number(w[4])}
	}
	return nil
}

// sample queues the choices and waits for them. The caller holds mu, by enter.
func (d *Device) sample(words []int32, logits operand, vocabulary int, how []device.Sampling) {
	rows, count := len(how), blocks(vocabulary, partLogits)
	m, err := d.reserve(device.ForWorkspace, int64(rows)*int64(4*samplingWords+2*partBytes*count+4*sampledWords))
	if err != nil {
		d.fail("Sample", err)
		return
	}
	defer d.give(m)
	asked := m.address
	parts := asked + pointer(4*samplingWords*rows)
	out := parts + pointer(2*partBytes*count*rows)
	d.upload("Sample", asked, bytesOf(samplingOf(how, vocabulary)))
	launch(d, "sample_parts", grid{rows, count, 1}, rowThreads(vocabulary),
		samplePartsArgs{logits.at, asked, parts, int64(logits.stride), int32(count), int32(vocabulary)})
	launch(d, "sample_rows", line(rows), rowThreads(vocabulary),
		sampleRowsArgs{logits.at, asked, parts, out, int64(logits.stride), int32(count), int32(vocabulary)})
	d.download("Sample", bytesOf(words), out)
}

// samplingOf is how rows' tokens are chosen in the words of struct sampling.
func samplingOf(how []device.Sampling, vocabulary int) []int32 {
	words := make([]int32, 0, samplingWords*len(how))
	for _, h := range how {
		inverse, greedy, topK := float32(1), int32(1), int32(0)
		if h.Temperature > 0 {
			inverse, greedy = 1/h.Temperature, 0
		}
		if h.TopK < vocabulary {
			topK = int32(h.TopK)
		}
		uniform := math.Float64bits(h.Uniform)
		words = append(words, int32(uint32(uniform)), int32(uint32(uniform>>32)), word(inverse), word(h.TopP), word(h.MinP), topK, greedy, 0)
	}
	return words
}

func word(x float32) int32   { return int32(math.Float32bits(x)) }
func number(w int32) float32 { return math.Float32frombits(uint32(w)) }

type samplePartsArgs struct {
	logits, how, parts pointer
	stride             int64
	count, vocabulary  int32
}

type sampleRowsArgs struct {
	logits, how, parts, out pointer
	stride                  int64
	count, vocabulary       int32
}
