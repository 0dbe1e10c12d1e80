package cuda

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

const (
	// samplingWords is the size of struct sampling of sample.h.
	samplingWords = 8
	// sampledNumbers is how many numbers are told of a token: the fields of device.Sampled behind Token.
	sampledNumbers = 4
	// binsBytes is the size of struct bins of sample.h.
	binsBytes = 384
	// drawThreads is how many threads a block that chooses a token has, at most.
	drawThreads = 512
	// binThreads is how many threads a block of sample_bins has.
	binThreads = 128
	// mostTokens is how many weights the sums of sample.cu hold: one more of the largest, 2⁴⁰ units, would be 2⁶³.
	mostTokens = 1<<23 - 1
)

// draws are the addresses of what the device keeps of choices, one after the other, with room for so many rows.
type draws struct {
	tokens, numbers, how, parts, bins pointer
	// capacity is how many rows there is room for, a multiple of 4; count how many parts a row has.
	capacity, count int
}

// drawWords is how many words a row takes.
func drawWords(vocabulary int) int {
	return 1 + sampledNumbers + samplingWords + (2*partBytes+binsBytes)/4*blocks(vocabulary, partLogits)
}

// drawsOf lays choices over memory of so many words.
func drawsOf(at pointer, words, vocabulary int) draws {
	w := draws{capacity: words / drawWords(vocabulary) &^ 3, count: blocks(vocabulary, partLogits)}
	w.tokens = at
	w.numbers = w.tokens + pointer(4*w.capacity)
	w.how = w.numbers + pointer(4*sampledNumbers*w.capacity)
	w.parts = w.how + pointer(4*samplingWords*w.capacity)
	w.bins = w.parts + pointer(2*partBytes*w.count*w.capacity)
	return w
}

// PlaceSampling brings to the device how rows' tokens are chosen.
func (d *Device) PlaceSampling(to *device.Draws, how []device.Sampling, vocabulary int) error {
	const name = "PlaceSampling"
	device.CheckPlaceSampling(how, vocabulary)
	if vocabulary > mostTokens {
		panic(fmt.Sprintf("cuda: PlaceSampling: a vocabulary of %d tokens, want at most %d", vocabulary, mostTokens))
	}
	if !to.Memory.Absent() {
		d.at(name, to.Memory) // it is this device's
	}
	return d.ask(name, func() {
		if drawsOf(0, to.Memory.Len(), vocabulary).capacity < len(how) && !d.moreDraws(to, len(how), vocabulary) {
			return
		}
		to.How, to.Vocabulary, to.Tokens = append(to.How[:0], how...), vocabulary, to.Memory.Slice(0, len(how))
		if len(how) > 0 {
			d.upload(name, d.draws(name, to).how, bytesOf(samplingOf(how, vocabulary)))
		}
	})
}

// moreDraws gives choices room for so many rows. The caller holds mu, by enter.
func (d *Device) moreDraws(to *device.Draws, rows, vocabulary int) bool {
	if !to.Memory.Absent() {
		d.give(d.owned("PlaceSampling", to.Memory))
	}
	*to = device.Draws{How: to.How[:0], Fetched: to.Fetched}
	words := (rows + 3) &^ 3 * drawWords(vocabulary)
	m, err := d.reserve(device.ForWorkspace, 4*int64(words))
	if err != nil {
		d.fail("PlaceSampling", err)
		return false
	}
	to.Memory = device.NewBuffer(m, device.I32, words)
	return true
}

// draws are the choices on the device.
func (d *Device) draws(operation string, of *device.Draws) draws {
	return drawsOf(d.at(operation, of.Memory), of.Memory.Len(), of.Vocabulary)
}

// Draw chooses a token for each row of logits, which stay as they are. A row whose logits are not numbers, or have no
// largest finite one, has no distribution.
func (d *Device) Draw(of *device.Draws, logits device.Rows) {
	const name = "Draw"
	device.CheckDraw(of, logits)
	if of.Rows() == 0 {
		return
	}
	from, w, vocabulary := d.operand(name, logits), d.draws(name, of), int32(of.Vocabulary)
	if !d.enter(name) {
		return
	}
	defer d.leave()
	launch(d, "sample_parts", grid{of.Rows(), w.count, 1}, rowThreads(of.Vocabulary),
		samplePartsArgs{from.at, w.how, w.parts, int64(from.stride), int32(w.count), vocabulary})
	launch(d, "sample_bins", grid{of.Rows(), w.count, 1}, binThreads,
		sampleBinsArgs{from.at, w.how, w.parts, w.bins, int64(from.stride), int32(w.count), vocabulary})
	launch(d, "sample_rows", line(of.Rows()), min(drawThreads, 32*blocks(of.Vocabulary, 32)),
		sampleRowsArgs{from.at, w.how, w.parts, w.bins, w.tokens, w.numbers, int64(from.stride), int32(w.count), vocabulary})
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

type sampleBinsArgs struct {
	logits, how, parts, bins pointer
	stride                   int64
	count, vocabulary        int32
}

type sampleRowsArgs struct {
	logits, how, parts, bins, tokens, numbers pointer
	stride                                    int64
	count, vocabulary                         int32
}
