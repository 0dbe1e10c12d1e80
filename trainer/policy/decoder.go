package policy

import (
	"slices"

	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
)

// slot is the cache of one sequence and, while it is being decoded, its generation.
type slot struct {
	sequence string
	named    bool         // in decoder.bySequence
	tokens   []int32      // the context, sampled tokens included
	cached   int          // keys and values of tokens[:cached] are valid
	keys     [][]float32  // per layer, kvDim × stride: row d holds element d of every key; nil until first used
	values   [][]float32  // per layer, MaxPositions × kvDim
	stride   int          // of keys; at least MaxPositions
	running  *generation  // nil while idle
	forget   bool         // released while running
	lastUse  uint64       // order of the last admission
	sampled  sampledToken // what the last pass chose
}

// sampledToken is the outcome of one pass for one slot.
type sampledToken struct {
	token            int32
	logProb, entropy float32
	valid            bool // false when the logits are not numbers
}

// decoder is the state of the engine's goroutine; nothing else touches it.
type decoder struct {
	config     Config
	net        *network
	version    rollout.Version
	slots      []*slot
	bySequence map[string]*slot
	queue      []*generation // admitted in order of arrival
	active     int           // slots with a running generation
	uses       uint64
	work       workspace
	parts      []part
	batch      []*slot
}

func newDecoder(c Config, slots int) *decoder {
	d := &decoder{config: c, slots: make([]*slot, slots), bySequence: map[string]*slot{}}
	for i := range d.slots {
		d.slots[i] = new(slot)
	}
	return d
}

// use switches to new weights; what older weights cached is worthless.
func (d *decoder) use(net *network, version rollout.Version) {
	d.version = version
	if d.net == net {
		return
	}
	d.net = net
	for _, s := range d.slots {
		s.cached = 0
	}
}

func (d *decoder) failAll(err error) {
	for _, g := range d.queue {
		g.finish(err)
	}
	d.queue = nil
	for _, s := range d.slots {
		if s.running != nil {
			d.end(s, err)
		}
	}
}

func (d *decoder) release(sequence string) {
	s := d.bySequence[sequence]
	switch {
	case s == nil:
	case s.running != nil:
		s.forget = true
	default:
		d.empty(s)
	}
}

// empty makes a slot free; its memory is kept for the next sequence.
func (d *decoder) empty(s *slot) {
	if s.named {
		delete(d.bySequence, s.sequence)
	}
	s.sequence, s.named, s.tokens, s.cached, s.forget = "", false, s.tokens[:0], 0, false
}

// end finishes a slot's generation.
func (d *decoder) end(s *slot, err error) {
	g := s.running
	s.running = nil
	d.active--
	if s.forget || !s.named {
		d.empty(s)
	}
	g.finish(err)
}

func (d *decoder) dropCancelled() {
	d.queue = slices.DeleteFunc(d.queue, func(g *generation) bool {
		if g.ctx.Err() == nil {
			return false
		}
		g.finish(g.ctx.Err())
		return true
	})
	for _, s := range d.slots {
		if s.running != nil && s.running.ctx.Err() != nil {
			d.end(s, s.running.ctx.Err())
		}
	}
}

// admit starts waiting generations, oldest first, while there are slots. One whose sequence is still
// running waits for it without holding up the others.
func (d *decoder) admit() {
	d.queue = slices.DeleteFunc(d.queue, func(g *generation) bool {
		if g.request.MaxTokens > 0 && len(g.request.Tokens) >= d.config.MaxPositions {
			g.result.Finish = sampler.FinishLength
			g.finish(nil)
			return true
		}
		s := d.slotFor(g.request.Sequence)
		if s == nil {
			return false
		}
		d.start(s, g)
		return true
	})
}

// slotFor picks the sequence's own slot, else a free one, else the idle one used longest ago; nil
// when none is idle or the sequence is running.
func (d *decoder) slotFor(sequence string) *slot {
	if sequence != "" {
		if own := d.bySequence[sequence]; own != nil {
			if own.running != nil {
				return nil
			}
			return own
		}
	}
	var best *slot
	for _, s := range d.slots {
		if s.running != nil {
			continue
		}
		if !s.named {
			return s
		}
		if best == nil || s.lastUse < best.lastUse {
			best = s
		}
	}
	return best
}

func (d *decoder) start(s *slot, g *generation) {
	sequence, tokens := g.request.Sequence, g.request.Tokens
	if s.sequence != sequence || !s.named {
		d.empty(s)
		if s.sequence, s.named = sequence, sequence != ""; s.named {
			d.bySequence[sequence] = s
		}
	}
	if s.keys == nil {
		s.allocate(d.config)
	}
	// The last token's pass is needed for its logits even when its keys are cached.
	common := 0
	for limit := min(s.cached, len(tokens)-1); common < limit && s.tokens[common] == tokens[common]; {
		common++
	}
	s.cached = common
	s.tokens = append(s.tokens[:0], tokens...)
	s.running = g
	d.uses++
	s.lastUse = d.uses
	d.active++
	room := min(g.request.MaxTokens, d.config.MaxPositions-len(tokens))
	g.result = sampler.Result{
		Tokens: make([]int32, 0, room), LogProbs: make([]float32, 0, room),
		Entropies: make([]float32, 0, room), Versions: make([]rollout.Version, 0, room),
	}
}

// keyPadding keeps rows of cached keys from starting at multiples of a power of two, which would make
// them compete for the same lines of a processor's cache.
const keyPadding = 16

func (s *slot) allocate(c Config) {
	s.keys, s.values = make([][]float32, c.Layers), make([][]float32, c.Layers)
	s.stride = c.MaxPositions + keyPadding
	for l := range c.Layers {
		s.keys[l] = make([]float32, s.stride*c.kvDim())
		s.values[l] = make([]float32, c.MaxPositions*c.kvDim())
	}
}

// part is the slots one worker computes in a pass.
type part struct {
	slots []*slot
	rows  int
}

// step computes one pass over everything not yet cached and takes one token for each slot.
func (d *decoder) step() {
	d.plan()
	d.work.parallel(len(d.parts), func(w *scratch, task int) { d.forward(d.parts[task], w) })
	for _, s := range d.batch {
		d.take(s)
	}
}

// plan splits the running slots into parts of about equal rows.
func (d *decoder) plan() {
	d.batch, d.parts = d.batch[:0], d.parts[:0]
	total := 0
	for _, s := range d.slots {
		if s.running != nil {
			d.batch = append(d.batch, s)
			total += len(s.tokens) - s.cached
		}
	}
	// Two parts for each thread, so that one that loses its core for a while does not hold up the pass.
	aim := min(chunkTokens, max(minPartRows, (total+2*cpu.Threads()-1)/(2*cpu.Threads())))
	from, rows := 0, 0
	for i, s := range d.batch {
		rows += len(s.tokens) - s.cached
		if rows >= aim || i == len(d.batch)-1 {
			d.parts = append(d.parts, part{slots: d.batch[from : i+1], rows: rows})
			from, rows = i+1, 0
		}
	}
}

// minPartRows is how few rows are worth another goroutine.
const minPartRows = 12

// forward computes the new rows of a part's slots, caches their keys and values and samples from the
// last row of each.
func (d *decoder) forward(p part, w *scratch) {
	w.acts.grow(d.config, p.rows)
	w.positions, w.headRows = w.positions[:0], w.headRows[:0]
	h := d.config.Hidden
	for _, s := range p.slots {
		at := len(w.positions)
		d.net.embed(w.acts.xIn[at*h:], s.tokens[s.cached:])
		for position := s.cached; position < len(s.tokens); position++ {
			w.positions = append(w.positions, int32(position))
		}
		w.headRows = append(w.headRows, int32(len(w.positions)-1))
	}
	for l := range d.config.Layers {
		d.net.forwardLayer(l, &w.acts, w.positions, w, func(l int, a *activations) { d.attend(l, a, p, w) }, w.acts.xIn)
	}
	slots := p.slots
	for rows := w.headRows; len(rows) > 0; {
		some := rows[:min(len(rows), headRowsAtOnce)]
		d.net.logits(w, w.acts.xIn, some)
		w.exps = grown(w.exps, d.config.VocabSize)
		for i := range some {
			d.choose(slots[i], w, w.logits[i*d.config.VocabSize:(i+1)*d.config.VocabSize])
		}
		rows, slots = rows[len(some):], slots[len(some):]
	}
}

// attend extends the caches of a part's slots by the new rows and attends over them.
func (d *decoder) attend(l int, a *activations, p part, w *scratch) {
	c := d.config
	row := 0
	for _, s := range p.slots {
		n := len(s.tokens) - s.cached
		for e := range c.kvDim() {
			column := s.keys[l][e*s.stride+s.cached:][:n]
			for i := range column {
				column[i] = a.k[(row+i)*c.kvDim()+e]
			}
		}
		for i := range n {
			at := (row+i)*c.qkvDim() + c.qDim() + c.kvDim()
			copy(s.values[l][(s.cached+i)*c.kvDim():], a.qkv[at:at+c.kvDim()])
		}
		d.net.attendCached(a, row, n, s.cached, l, s, w)
		row += n
	}
}

// take appends the token a pass chose and ends the generation when it is complete.
func (d *decoder) take(s *slot) {
	g, chosen := s.running, s.sampled
	s.cached = len(s.tokens)
	if !chosen.valid {
		s.cached = 0
		d.end(s, errNotANumber)
		return
	}
	s.tokens = append(s.tokens, chosen.token)
	r := &g.result
	r.Tokens = append(r.Tokens, chosen.token)
	r.LogProbs = append(r.LogProbs, chosen.logProb)
	r.Entropies = append(r.Entropies, chosen.entropy)
	r.Versions = append(r.Versions, d.version)
	switch {
	case slices.Contains(g.request.Stop, chosen.token):
		r.Finish = sampler.FinishStop
	case len(r.Tokens) == g.request.MaxTokens || len(s.tokens) == d.config.MaxPositions:
		r.Finish = sampler.FinishLength
	default:
		return
	}
	d.end(s, nil)
}
