package footprint

import (
	"fmt"
	"strconv"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/trainer/decode"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// sampler estimates a role that samples; swaps says that new weights come while it does.
func (p *plan) sampler(swaps bool) Estimate {
	var e Estimate
	s := p.sizes
	whole, own := number*int64(s.Parameters), s.Direct.Bytes(p.compute)+p.forms(false)
	loading := whole
	if p.stored == device.BF16 { // the same memory is filled from the file and sampled with
		own = p.weights()
		loading = number * int64(s.Direct.Float32)
	}
	cache, work, logits := p.cache(), p.decoding(), p.choosing()
	e.add(Weights, false, own, fmt.Sprintf("%s weights, matrices in %s as products read them", count(s.Parameters), p.compute))
	e.add(Cache, false, cache, p.cacheFrom())
	e.add(Workspace, false, work, plural(p.machine.Cores, "part")+" of a pass under way at once")
	e.add(Logits, false, logits, fmt.Sprintf("rows of %s logits to choose from, for each part under way", count(p.shape.VocabSize)))
	if swaps {
		e.add(NewWeights, false, loading+own, "the next version, as published and as products read it, beside the one in use")
	} else {
		e.add(NewWeights, false, loading-cache-work-logits, "the version as published, before there is a cache: what the rest has no room for")
	}
	e.add(Copies, true, whole+2*piece, "one copy of a version's file")
	e.add(Experience, true, p.episodes(), fmt.Sprintf("%d episodes in flight and as many on their way into groups", p.run.Sampling.Slots))
	p.addContext(&e)
	e.add(Program, true, program, "the program itself, before it computes")
	return e
}

func pagesFor(tokens int) int { return (tokens + device.PageTokens - 1) / device.PageTokens }

// cache is the memory of cached keys and values.
func (p *plan) cache() int64 {
	sampling := p.run.Sampling
	shape := device.PageShape{DType: p.compute, Layers: p.shape.Layers, KVHeads: p.shape.KVHeads, Dim: p.shape.HeadDim, Pages: 1}
	if sampling.CacheBytes > 0 {
		return sampling.CacheBytes / shape.Bytes() * shape.Bytes()
	}
	return product(int64(sampling.Slots), int64(pagesFor(min(sampling.MaxTokens, p.shape.MaxPositions))), shape.Bytes())
}

func (p *plan) cacheFrom() string {
	if p.run.Sampling.CacheBytes > 0 {
		return "sampling.cache_bytes, in whole pages"
	}
	return fmt.Sprintf("keys and values of sampling.slots %d × sampling.max_tokens %d", p.run.Sampling.Slots, p.run.Sampling.MaxTokens)
}

// endlessRows is more rows than a pass ever has.
const endlessRows = 1 << 30

// passRows bounds the rows of a decoding pass, partRows those of one part of it: parts are cut behind a whole
// sequence.
func (p *plan) passRows() int {
	most := min(max(p.machine.PassRows, decode.FewestPassTokens), decode.MostPassTokens)
	inFlight := int(min(product(int64(p.run.Sampling.Slots), int64(p.run.Sampling.MaxTokens)), endlessRows))
	return min(max(most, min(p.run.Sampling.Slots, endlessRows)), inFlight) + device.PageTokens
}

func (p *plan) partRows() int {
	rows := p.passRows()
	aim := min(p.machine.PassRows, max(4, (rows+p.machine.Cores-1)/p.machine.Cores))
	return min(rows, aim+min(rows, p.run.Sampling.MaxTokens))
}

// decoding is the work of passes that decode.
func (p *plan) decoding() int64 {
	cores, rows := int64(p.machine.Cores), int64(p.partRows())
	// The last block computes the last row of each sequence alone.
	perRow := p.sizes.DecodeRow.Bytes(p.compute) + p.sizes.LastRow.Bytes(p.compute) + 4*number
	scores := number * int64(tileRows) * int64(p.run.Sampling.MaxTokens)
	if p.onGPU() {
		scores = p.splits()
	}
	return cores*(rows*perRow+scores) + number*p.rotations(p.run.Sampling.MaxTokens)
}

// splitTokens is how many tokens of a sequence that is decoded a part of a GPU's attention takes.
const splitTokens = 256

// splits is what a GPU's attention of decoded tokens leaves to be joined: the result of each part of each sequence, in
// each head, with two numbers beside it.
func (p *plan) splits() int64 {
	longest := p.run.Sampling.MaxTokens
	return product(number, int64(p.run.Sampling.Slots), int64((longest+splitTokens-1)/splitTokens), int64(p.shape.Heads), int64(p.shape.HeadDim+2))
}

// samplingBytes is what a GPU is told of how a row's token is chosen, and answers; binsBytes is what tokens that are cut weigh, of each
// part of partLogits. There is room for a multiple of so many rows.
const samplingBytes, binsBytes, drawnRows = 64, 384, 4

// choosing is the logits that tokens are drawn from, and the work of drawing.
func (p *plan) choosing() int64 {
	vocabulary := p.shape.VocabSize
	rows := min(p.run.Sampling.Slots, p.partRows(), policy.LogitRows(p.machine.PassRows, vocabulary))
	if p.onGPU() {
		parts, room := (vocabulary+partLogits-1)/partLogits, (rows+drawnRows-1)/drawnRows*drawnRows
		return product(number, int64(rows), int64(vocabulary)) + product(int64(room), samplingBytes+(2*partBytes+binsBytes)*int64(parts))
	}
	return number * int64(p.machine.Cores) * (int64(rows)*int64(vocabulary) + 2*spare(vocabulary))
}

// episodes is what trajectories in flight take on the host.
func (p *plan) episodes() int64 {
	return product(2*tokenBytes, int64(p.run.Sampling.Slots), int64(p.run.Sampling.MaxTokens))
}

// plural is "1 part" or "2 parts".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// count is a number with its thousands parted.
func count(n int) string {
	text := strconv.Itoa(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
