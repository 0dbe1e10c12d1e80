package policy

import (
	"sync"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// field is a buffer of so many numbers a row.
type field struct {
	buffer *device.Buffer
	width  int
}

// width is that of all fields together.
func width(fields []field) int {
	sum := 0
	for _, f := range fields {
		sum += f.width
	}
	return sum
}

// allocate makes room for rows rows of every field in one allocation, which it returns.
func allocate(dev device.Device, rows int, fields []field) (device.Buffer, error) {
	memory, err := dev.Allocate(device.ForActivations, device.F32, rows*width(fields))
	if err == nil {
		carveRows(memory, rows, fields)
	}
	return memory, err
}

// carveRows lays rows rows of each field into the memory, one after the other. A field of width 0 is absent.
func carveRows(memory device.Buffer, rows int, fields []field) {
	at := 0
	for _, f := range fields {
		*f.buffer = device.Buffer{}
		if f.width > 0 {
			*f.buffer = memory.Slice(at, at+rows*f.width)
			at += rows * f.width
		}
	}
}

// activations are what one block computes for some rows besides the residual stream before it, kept
// for the backward pass. What is cheap to compute again (norms' outputs and the gated activation) is
// not among them. Each buffer holds rows × width numbers.
type activations struct {
	qkv            device.Buffer // qkvDim: projections before the per-head norm
	q              device.Buffer // qDim: queries, normalised and rotated
	k              device.Buffer // kvDim: keys, normalised and rotated
	att            device.Buffer // qDim: attention output
	middle         device.Buffer // hidden: the residual stream between the two parts
	gateUp         device.Buffer // 2·ffn
	qRoots, kRoots device.Buffer // heads and kvHeads: of the per-head norms; absent without these
}

func (a *activations) fields(c Config) []field {
	all := []field{
		{&a.qkv, c.qkvDim()}, {&a.q, c.qDim()}, {&a.k, c.kvDim()}, {&a.att, c.qDim()},
		{&a.middle, c.Hidden}, {&a.gateUp, 2 * c.FFN},
	}
	if c.headNorms() {
		all = append(all, field{&a.qRoots, c.Heads}, field{&a.kRoots, c.KVHeads})
	}
	return all
}

// rows is the view of rows [from, to).
func (a *activations) rows(c Config, from, to int) activations {
	cut := func(b device.Buffer, width int) device.Buffer {
		if b.Absent() {
			return b
		}
		return b.Slice(from*width, to*width)
	}
	return activations{
		qkv: cut(a.qkv, c.qkvDim()), q: cut(a.q, c.qDim()), k: cut(a.k, c.kvDim()), att: cut(a.att, c.qDim()),
		middle: cut(a.middle, c.Hidden), gateUp: cut(a.gateUp, 2*c.FFN), qRoots: cut(a.qRoots, c.Heads), kRoots: cut(a.kRoots, c.KVHeads),
	}
}

// scratch is what one task writes besides what is kept.
type scratch struct {
	rows   int
	needs  need
	memory device.Buffer

	h     device.Buffer // hidden: output of a norm
	roots device.Buffer // 1: the norm's reciprocal roots
	low   device.Buffer // rank: between an adapter's matrices
	x     device.Buffer // hidden: the residual stream, when it is not kept
	once  activations   // of one block, when they are not kept
	// Derivatives of the residual stream and of a norm's output.
	dx, dh device.Buffer

	// The rest is used one group after the other, in the same memory: by the feed-forward part of a
	// block, by its attention, and by the head.
	act, dAct, dGateUp device.Buffer // ffn, ffn, 2·ffn
	dqkv, dq, dk, dAtt device.Buffer // qkvDim, qDim, kvDim, qDim
	lastX, dLastX      device.Buffer // hidden: rows of the last residual stream that predict a token
	dLastH             device.Buffer // hidden: derivative of their norm
	wide, dWide        device.Buffer // hidden + rank: input of a head with an adapter
	packed             packedAttention
	cached             cachedAttention
	view               activations
	logits             device.Buffer
}

// need says which parts of a scratch a pass uses.
type need uint8

const (
	needOnce   need = 1 << iota // activations of one block
	needStream                  // the residual stream
	needBack                    // derivatives
)

// fields are the buffers that lie beside each other, groups those that take turns.
func (s *scratch) fields(f form, needs need) (fields []field, groups [][]field) {
	c := f.config
	fields = []field{{&s.h, c.Hidden}, {&s.roots, 1}, {&s.low, f.lora.Rank}}
	if needs&needStream > 0 {
		fields = append(fields, field{&s.x, c.Hidden})
	}
	if needs&needOnce > 0 {
		fields = append(fields, s.once.fields(c)...)
	}
	wide := 0
	if f.lora.targets(headTarget) {
		wide = c.Hidden + f.lora.Rank
	}
	feedForward, last := []field{{&s.act, c.FFN}}, []field{{&s.lastX, c.Hidden}, {&s.wide, wide}}
	if needs&needBack == 0 {
		return fields, [][]field{feedForward, last}
	}
	fields = append(fields, field{&s.dx, c.Hidden})
	feedForward = append(feedForward, field{&s.dGateUp, 2 * c.FFN})
	if f.lora.Rank > 0 { // adapters read a layer's input after its derivative is written
		fields = append(fields, field{&s.dh, c.Hidden})
		feedForward = append(feedForward, field{&s.dAct, c.FFN})
	}
	return fields, [][]field{
		feedForward,
		{{&s.dqkv, c.qkvDim()}, {&s.dq, c.qDim()}, {&s.dk, c.kvDim()}, {&s.dAtt, c.qDim()}},
		append(last, field{&s.dLastX, c.Hidden}, field{&s.dLastH, c.Hidden}, field{&s.dWide, wide}),
	}
}

// allocate makes room for rows rows of everything.
func (s *scratch) allocate(dev device.Device, f form, rows int, needs need) error {
	fields, groups := s.fields(f, needs)
	var shared device.Buffer
	widest := 0
	for _, g := range groups {
		widest = max(widest, width(g))
	}
	memory, err := allocate(dev, rows, append(fields, field{&shared, widest}))
	if err != nil {
		return err
	}
	for _, g := range groups {
		carveRows(shared, rows, g)
	}
	if f.lora.Rank == 0 {
		s.dh, s.dAct = s.h, s.act // once its own gradient is summed, an input makes room for its derivative
	}
	s.memory, s.rows, s.needs = memory, rows, needs
	return nil
}

// scratches hands each task of a pass a scratch of its own and keeps them between passes.
type scratches struct {
	dev  device.Device
	form form

	mu    sync.Mutex
	free  []*scratch // guarded by mu
	bytes int64      // guarded by mu; held by all
	err   error      // guarded by mu; the first allocation that failed in a pass
}

// take returns a scratch for so many rows, nil when there is no memory for it.
func (p *scratches) take(rows int, needs need) *scratch {
	p.mu.Lock()
	defer p.mu.Unlock()
	var s *scratch
	if last := len(p.free) - 1; last >= 0 {
		s, p.free = p.free[last], p.free[:last]
	} else {
		s = new(scratch)
	}
	if s.rows >= rows && s.needs&needs == needs {
		return s
	}
	p.bytes -= s.memory.Bytes()
	p.dev.Free(s.memory)
	rows, needs = max(rows, s.rows), s.needs|needs
	s.memory, s.rows, s.needs = device.Buffer{}, 0, 0
	if err := s.allocate(p.dev, p.form, rows, needs); err != nil {
		if p.err == nil {
			p.err = err
		}
		p.free = append(p.free, s)
		return nil
	}
	p.bytes += s.memory.Bytes()
	return s
}

func (p *scratches) give(s *scratch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, s)
}

// failure returns and forgets the first allocation that failed.
func (p *scratches) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.err
	p.err = nil
	return err
}

// drop gives all memory back; no task may be running.
func (p *scratches) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.free {
		p.dev.Free(s.memory)
		p.dev.Free(s.logits)
		p.dev.Free(s.cached.ints)
		p.dev.Free(s.cached.at.Device)
		p.dev.Free(s.cached.lastAt.Device)
		p.dev.Free(s.cached.lastMemory)
	}
	p.free, p.bytes = nil, 0
}

// grow makes a buffer at least n long; its contents are lost when it moves.
func grow(dev device.Device, b *device.Buffer, t device.DType, n int) error {
	if b.Len() >= n {
		return nil
	}
	dev.Free(*b)
	*b = device.Buffer{}
	fresh, err := dev.Allocate(device.ForWorkspace, t, n)
	if err == nil {
		*b = fresh
	}
	return err
}

// resized returns a slice of n elements, reusing s when it is large enough; contents are unspecified.
func resized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/4)
	}
	return s[:n]
}
