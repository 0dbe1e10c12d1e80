package decode

import (
	"fmt"
	"math"
	"slices"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// fakeDevice keeps, instead of keys and values, one number for each position: a hash of the weights and of
// all tokens up to it. It has nothing but the pages of the cache.
type fakeDevice struct {
	device.Device
	freed  bool
	copies int
	refuse error // of NewPages
	// queued is what the device will do, in order, when somebody waits for it.
	queued []func()
}

type fakePages struct {
	shape device.PageShape
	cells [][pageTokens]uint64
}

func (p *fakePages) Shape() device.PageShape { return p.shape }

func (d *fakeDevice) Name() string           { return "fake" }
func (d *fakeDevice) PassRows() int          { return 384 }
func (d *fakeDevice) Cores() int             { return 1 }
func (d *fakeDevice) Free(b device.Buffer)   {}
func (d *fakeDevice) FreePages(device.Pages) { d.freed = true }

func (d *fakeDevice) NewPages(shape device.PageShape) (device.Pages, error) {
	p := &fakePages{shape: shape, cells: make([][pageTokens]uint64, shape.Pages)}
	for i := range p.cells {
		for j := range p.cells[i] {
			p.cells[i][j] = 0xdead
		}
	}
	return p, d.refuse
}

func (d *fakeDevice) CopyPage(p device.Pages, to, from int) {
	d.copies++
	d.queued = append(d.queued, func() {
		cells := p.(*fakePages).cells
		cells[to] = cells[from]
	})
}

// work does what is queued.
func (d *fakeDevice) work() {
	for _, do := range d.queued {
		do()
	}
	d.queued = d.queued[:0]
}

// fakeNetwork is a network whose next-token distribution is a hash of what the pages hold for a sequence.
// So a wrong page, a stale one, or one that another sequence has written shows as a wrong token.
type fakeNetwork struct {
	device  *fakeDevice
	config  policy.Config
	weights uint64
	freed   bool
	fail    func(pass *policy.Pass) error // called before each pass when not nil
	spoils  int32                         // a token whose row is not a number, nor is any of the same sequence and pass; 0 is none
	logits  []float64
	order   []int32
}

func newFake(d *fakeDevice, weights uint64, positions, vocabulary int) *fakeNetwork {
	return &fakeNetwork{device: d, weights: weights, config: policy.Config{
		Layers: 1, KVHeads: 1, HeadDim: 2, MaxPositions: positions, VocabSize: vocabulary}}
}

func (n *fakeNetwork) Config() policy.Config { return n.config }
func (n *fakeNetwork) Device() device.Device { return n.device }
func (n *fakeNetwork) Free()                 { n.freed = true }

func (n *fakeNetwork) PageShape(pages int) device.PageShape {
	return device.PageShape{DType: device.F32, Layers: 1, KVHeads: 1, Dim: 2, Pages: pages}
}

func (n *fakeNetwork) Extend(pages device.Pages, pass *policy.Pass) error {
	if n.freed || n.device.freed {
		panic("a pass after Free")
	}
	n.device.work()
	if n.fail != nil {
		if err := n.fail(pass); err != nil {
			return err
		}
	}
	n.compute(pages, pass)
	return nil
}

// compute does a pass whose tokens are all known.
func (n *fakeNetwork) compute(pages device.Pages, pass *policy.Pass) {
	if got, want := len(pass.Tokens), int(pass.At.Offsets[len(pass.At.Offsets)-1]); got != want {
		panic(fmt.Sprintf("%d tokens, offsets end at %d", got, want))
	}
	cells := pages.(*fakePages).cells
	for i := range pass.At.Sequences() {
		from, to := pass.At.Offsets[i], pass.At.Offsets[i+1]
		position, table := int(pass.At.Cached[i]), pass.At.Tables[i]
		if from == to {
			panic("a sequence without a row")
		}
		before := uint64(0)
		if position > 0 {
			before = cells[table[(position-1)/pageTokens]][(position-1)%pageTokens]
		}
		for _, token := range pass.Tokens[from:to] {
			before = n.cell(before, token)
			cells[table[position/pageTokens]][position%pageTokens] = before
			position++
		}
	}
	// All rows are written before any is read, as in a layer.
	for i := range pass.At.Sequences() {
		all := uint64(0)
		rows := int(pass.At.Cached[i] + pass.At.Offsets[i+1] - pass.At.Offsets[i])
		for position := range rows {
			all = mix(all + cells[pass.At.Tables[i][position/pageTokens]][position%pageTokens])
		}
		pass.Chosen[i] = n.sample(all, pass.How[i])
		if n.spoils > 0 && slices.Contains(pass.Tokens[pass.At.Offsets[i]:pass.At.Offsets[i+1]], n.spoils) {
			for position := int(pass.At.Cached[i]); position < rows; position++ {
				cells[pass.At.Tables[i][position/pageTokens]][position%pageTokens]++
			}
			pass.Chosen[i] = device.Sampled{Token: -1}
		}
	}
}

func (n *fakeNetwork) cell(before uint64, token int32) uint64 {
	return mix(mix(before+n.weights*golden) + uint64(token) + 1)
}

// state is what the pages must amount to behind some tokens.
func (n *fakeNetwork) state(tokens []int32) uint64 {
	before, all := uint64(0), uint64(0)
	for _, t := range tokens {
		before = n.cell(before, t)
		all = mix(all + before)
	}
	return all
}

// sample draws from a distribution that the state determines, by the words of device.Sampling.
func (n *fakeNetwork) sample(state uint64, how device.Sampling) device.Sampled {
	v := n.config.VocabSize
	n.logits, n.order = slices.Grow(n.logits[:0], v)[:v], slices.Grow(n.order[:0], v)[:v]
	temperature := float64(how.Temperature)
	if temperature == 0 {
		temperature = 1
	}
	total, plain := 0.0, 0.0
	for i := range n.logits {
		z := 4 * uniform(state, uint64(i))
		n.logits[i] = math.Exp(z / temperature)
		total += n.logits[i]
		plain += math.Exp(z)
		n.order[i] = int32(i)
	}
	slices.SortStableFunc(n.order, func(a, b int32) int {
		switch {
		case n.logits[a] > n.logits[b]:
			return -1
		case n.logits[a] < n.logits[b]:
			return 1
		}
		return int(a - b)
	})
	keep := n.order
	if how.TopK > 0 {
		keep = keep[:min(how.TopK, v)]
	}
	if how.Temperature == 0 {
		keep = keep[:1]
	}
	sum := 0.0
	for _, id := range keep {
		sum += n.logits[id]
	}
	share := 0.0
	for i, id := range keep {
		if share += n.logits[id] / sum; share >= float64(how.TopP) {
			keep = keep[:i+1]
			break
		}
	}
	for len(keep) > 1 && n.logits[keep[len(keep)-1]] < float64(how.MinP)*n.logits[keep[0]] {
		keep = keep[:len(keep)-1]
	}
	sum = 0
	for _, id := range keep {
		sum += n.logits[id]
	}
	slices.Sort(keep)
	chosen, at := keep[len(keep)-1], 0.0
	for _, id := range keep {
		if at += n.logits[id]; at > how.Uniform*sum {
			chosen = id
			break
		}
	}
	entropy := 0.0
	for _, e := range n.logits {
		entropy -= e / total * math.Log(e/total)
	}
	p := n.logits[chosen]
	return device.Sampled{
		Token: chosen, LogProb: float32(math.Log(p / total)), SamplingLogProb: float32(math.Log(p / sum)),
		UntemperedLogProb: float32(temperature*math.Log(p) - math.Log(plain)), Entropy: float32(entropy),
	}
}

// alone is what a request yields by itself when token i is sampled by the network that weights gives.
func alone(r sampler.Request, weights func(i int) (*fakeNetwork, rollout.Version), text func(int32) []byte) sampler.Result {
	first, _ := weights(0)
	if len(r.Tokens) == first.config.MaxPositions {
		return sampler.Result{Finish: sampler.FinishLength}
	}
	g := newGeneration(r, min(r.MaxTokens, first.config.MaxPositions-len(r.Tokens)))
	for i := 0; ; i++ {
		n, version := weights(i)
		n = newFake(nil, n.weights, n.config.MaxPositions, n.config.VocabSize) // the engine may be using the other
		chosen := n.sample(n.state(g.sequence.tokens), g.how(0))
		var piece []byte
		if text != nil {
			piece = text(chosen.Token)
		}
		if g.take(chosen, version, piece) {
			return g.result
		}
	}
}
