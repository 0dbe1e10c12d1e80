package policy

import (
	"context"
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// keep says what a pass keeps for the backward pass.
type keep uint8

const (
	keepNothing keep = iota
	// keepInputs keeps the residual stream before each block; the backward pass computes the rest again.
	keepInputs
	keepAll
)

// batch is the pass under way: the plan and the memory that is reused between passes.
type batch struct {
	packed  Packed
	chunks  []chunk
	keep    keep
	done    <-chan struct{} // closed when the caller gives up
	inverse float32         // inverse temperature
	longest int             // rows of the largest chunk
	rows    int             // that predict a token

	// ints is host staging for intsOnDevice: tokens, positions, head rows and targets, then offsets.
	ints         []int32
	intsOnDevice device.Buffer
	tokens       device.Buffer
	positions    device.Buffer
	headRows     device.Buffer // the rows of each chunk that predict a token, relative to its start
	targets      device.Buffer // the tokens they predict
	offsets      device.Buffer
	hostHeadRows []int32 // the same numbers as headRows
	hostOffsets  []int32 // of each chunk in turn, relative to its start

	// Results of the head rows, and where they go: the token that a row predicts.
	scoresMemory                 device.Buffer
	logProbs, entropies, values  device.Buffer
	compact                      []float32
	out                          Scores
	liveInts                     []int32
	liveOnDevice                 device.Buffer
	liveRows, liveTargets        device.Buffer
	live                         []float32
	liveMemory                   device.Buffer // dLogProbs and dEntropies, and what Score found of these rows
	liveLogProbs, liveEntropies  device.Buffer
	liveValues                   device.Buffer // dVals, of the compute type: the value head is a matrix
	dLogProbs, dEntropies, dVals device.Buffer

	// streams is the residual stream before each block and after the last, when it is kept.
	capacity int
	memory   []block
	streams  []device.Buffer
	kept     []activations
}

// begin plans a pass and brings its tokens to the device.
func (m *Model) begin(ctx context.Context, p Packed, temperature float32, k keep) error {
	if !(temperature > 0) || math.IsInf(float64(temperature), 0) {
		return fmt.Errorf("temperature is %v, must be positive and finite", temperature)
	}
	if err := p.check(m.form.config); err != nil {
		return err
	}
	b := &m.batch
	b.packed, b.keep, b.done, b.inverse = p, k, ctx.Done(), 1/temperature
	b.chunks = p.chunks(b.chunks[:0], m.dev.PassRows())
	b.longest, b.rows = 0, 0
	for _, ch := range b.chunks {
		b.longest, b.rows = max(b.longest, ch.rows()), ch.headTo
	}
	if err := m.reserve(); err != nil {
		return err
	}
	return m.stage()
}

// stopped reports whether the caller has given up.
func (b *batch) stopped() bool {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

// reserve makes room for what the pass keeps.
func (m *Model) reserve() error {
	b, c := &m.batch, m.form.config
	longest := 0
	for i := range b.packed.Sequences() {
		longest = max(longest, int(b.packed.Offsets[i+1]-b.packed.Offsets[i]))
	}
	if err := m.net.reach(m.dev, c, longest); err != nil {
		return err
	}
	perRow := 2
	if m.form.valueHead {
		perRow++
	}
	if err := grow(m.dev, &b.scoresMemory, device.F32, perRow*b.rows); err != nil {
		return err
	}
	at := func(i int) device.Buffer { return b.scoresMemory.Slice(i*b.rows, (i+1)*b.rows) }
	if b.logProbs, b.entropies = at(0), at(1); m.form.valueHead {
		b.values = at(2)
	}
	if b.keep == keepNothing {
		return nil
	}
	return m.reserveKept(len(b.packed.Tokens))
}

// reserveKept makes room for the activations of so many tokens.
func (m *Model) reserveKept(tokens int) error {
	b, c := &m.batch, m.form.config
	if tokens <= b.capacity && (b.keep == keepInputs || b.kept != nil) {
		return nil
	}
	m.dropKept()
	streams := make([]device.Buffer, c.Layers+1)
	kept := make([]activations, c.Layers)
	for l := range streams {
		fields := []field{computed(&streams[l], c.Hidden)}
		if l < c.Layers && b.keep == keepAll {
			fields = append(fields, kept[l].fields(m.form, needBack)...)
		}
		memory, err := allocate(m.dev, m.form.compute, tokens, fields)
		if err != nil {
			m.dropKept()
			return err
		}
		b.memory = append(b.memory, memory)
	}
	b.capacity, b.streams = tokens, streams
	if b.keep == keepAll {
		b.kept = kept
	}
	return nil
}

func (m *Model) dropKept() {
	b := &m.batch
	for i := range b.memory {
		b.memory[i].free(m.dev)
	}
	b.memory, b.streams, b.kept, b.capacity = b.memory[:0], nil, nil, 0
}

// stage brings tokens, positions, head rows, targets and offsets to the device in one copy.
func (m *Model) stage() error {
	b, n := &m.batch, len(m.batch.packed.Tokens)
	offsets := 0
	for _, ch := range b.chunks {
		offsets += ch.lastSequence - ch.firstSequence + 1
	}
	total := 2*n + 2*b.rows + offsets
	if err := grow(m.dev, &b.intsOnDevice, device.I32, total); err != nil {
		return err
	}
	b.ints = resized(b.ints, total)
	at := 0
	take := func(size int) ([]int32, device.Buffer) {
		at += size
		return b.ints[at-size : at], b.intsOnDevice.Slice(at-size, at)
	}
	var tokens, positions, targets []int32
	tokens, b.tokens = take(n)
	positions, b.positions = take(n)
	b.hostHeadRows, b.headRows = take(b.rows)
	targets, b.targets = take(b.rows)
	b.hostOffsets, b.offsets = take(offsets)
	copy(tokens, b.packed.Tokens)
	head := 0
	for _, ch := range b.chunks {
		for i := ch.firstSequence; i < ch.lastSequence; i++ {
			from, to := b.packed.Offsets[i], b.packed.Offsets[i+1]
			b.hostOffsets[ch.offsetsFrom+i-ch.firstSequence] = from - int32(ch.from)
			for j := from; j < to; j++ {
				positions[j] = j - from
				if j+1 < to {
					b.hostHeadRows[head], targets[head] = j-int32(ch.from), b.packed.Tokens[j+1]
					head++
				}
			}
		}
		b.hostOffsets[ch.offsetsFrom+ch.lastSequence-ch.firstSequence] = int32(ch.rows())
	}
	m.dev.UploadInts(b.intsOnDevice.Slice(0, total), b.ints)
	return nil
}

// attention is attention within a chunk's sequences.
func (b *batch) attention(net *network, ch *chunk) packedAttention {
	from, to := ch.offsetsFrom, ch.offsetsFrom+ch.lastSequence-ch.firstSequence+1
	return packedAttention{net: net, offsets: device.Offsets{Host: b.hostOffsets[from:to], Device: b.offsets.Slice(from, to)}}
}

// span is a chunk's rows.
func (b *batch) span(ch *chunk) rowSpan {
	return rowSpan{rows: ch.rows(), positions: b.positions.Slice(ch.from, ch.to), tokens: b.tokens.Slice(ch.from, ch.to)}
}

// stream is the residual stream of a chunk before block l, or after the last.
func (m *Model) stream(l int, ch *chunk, s *scratch) device.Rows {
	h := m.form.config.Hidden
	if m.batch.keep == keepNothing {
		return device.Dense(s.x, h)
	}
	return device.Dense(m.batch.streams[l].Slice(ch.from*h, ch.to*h), h)
}

// activations are those of a chunk in block l. The view is the task's own until its next call.
func (m *Model) activations(l int, ch *chunk, s *scratch) *activations {
	if m.batch.keep == keepAll {
		s.view = m.batch.kept[l].rows(m.form, ch.from, ch.to)
		return &s.view
	}
	s.view = s.once
	if m.batch.keep == keepNothing {
		s.view.middle = s.x           // nothing reads the stream before the block again
		s.view.kept = device.Buffer{} // and no backward pass follows
	}
	return &s.view
}
