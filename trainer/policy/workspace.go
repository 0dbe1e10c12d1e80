package policy

import (
	"sync"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// field is a buffer of so many numbers a row.
type field struct {
	buffer *device.Buffer
	width  int
	// statistics are float32 in every compute type.
	statistics bool
}

func computed(b *device.Buffer, width int) field   { return field{b, width, false} }
func statistics(b *device.Buffer, width int) field { return field{b, width, true} }

// Width is how many numbers a row has: of the compute type, and of float32 whatever that is.
type Width struct{ Computed, Float32 int }

// Bytes is what a row takes where the compute type is t.
func (w Width) Bytes(t device.DType) int64 {
	return int64(w.Computed)*int64(t.Size()) + int64(w.Float32)*int64(device.F32.Size())
}

func (w Width) plus(other Width) Width {
	return Width{w.Computed + other.Computed, w.Float32 + other.Float32}
}

// width is that of all fields together.
func width(fields []field) Width {
	var sum Width
	for _, f := range fields {
		if f.statistics {
			sum.Float32 += f.width
		} else {
			sum.Computed += f.width
		}
	}
	return sum
}

// block is the memory of fields: one allocation where the compute type is float32, else one of each type.
type block struct{ computed, statistics device.Buffer }

// allocate makes room for rows rows of every field. On an error nothing is left behind.
func allocate(dev device.Device, compute device.DType, rows int, fields []field) (block, error) {
	var b block
	var err error
	wide := width(fields)
	if compute == device.F32 {
		b.computed, err = dev.Allocate(device.ForActivations, device.F32, rows*(wide.Computed+wide.Float32))
		if err == nil {
			at := carveRows(b.computed, rows, fields, false)
			carveRows(b.computed.Slice(at, b.computed.Len()), rows, fields, true)
		}
		return b, err
	}
	if b.computed, err = dev.Allocate(device.ForActivations, compute, rows*wide.Computed); err != nil {
		return block{}, err
	}
	if wide.Float32 > 0 {
		if b.statistics, err = dev.Allocate(device.ForActivations, device.F32, rows*wide.Float32); err != nil {
			b.free(dev)
			return block{}, err
		}
	}
	carveRows(b.computed, rows, fields, false)
	carveRows(b.statistics, rows, fields, true)
	return b, nil
}

func (b *block) free(dev device.Device) {
	dev.Free(b.computed)
	dev.Free(b.statistics)
	*b = block{}
}

func (b block) bytes() int64 { return b.computed.Bytes() + b.statistics.Bytes() }

// carveRows lays rows rows of each field that holds statistics, or of each that does not, into the memory, one
// after the other, and returns where they end. A field of width 0 is absent.
func carveRows(memory device.Buffer, rows int, fields []field, statistics bool) int {
	at := 0
	for _, f := range fields {
		if f.statistics != statistics {
			continue
		}
		*f.buffer = device.Buffer{}
		if f.width > 0 {
			*f.buffer = memory.Slice(at, at+rows*f.width)
			at += rows * f.width
		}
	}
	return at
}

// activations are what one block computes for some rows besides the residual stream before it, kept
// for the backward pass. What is cheap to compute again (norms' outputs, rotated queries and keys, the gated
// activation) is not among them. Each buffer holds rows × width numbers.
type activations struct {
	qkv            device.Buffer // qkvDim: projections before the per-head norm
	att            device.Buffer // qDim: attention output
	middle         device.Buffer // hidden: the residual stream between the two parts
	gateUp         device.Buffer // 2·ffn
	qRoots, kRoots device.Buffer // heads and kvHeads: of the per-head norms; absent without these
	// 1 each: reciprocal roots of the norms before the two parts.
	inRoots, middleRoots device.Buffer
	kept                 device.Buffer // the device's KeptWidth: what its attention leaves for the backward pass
}

// fields are the buffers, without those that only a backward pass reads where none is needed.
func (a *activations) fields(f form, needs need) []field {
	c := f.config
	all := []field{
		computed(&a.qkv, c.qkvDim()), computed(&a.att, c.qDim()), computed(&a.middle, c.Hidden), computed(&a.gateUp, 2*c.FFN),
		statistics(&a.inRoots, 1), statistics(&a.middleRoots, 1),
	}
	if c.headNorms() {
		all = append(all, statistics(&a.qRoots, c.Heads), statistics(&a.kRoots, c.KVHeads))
	}
	if needs&needBack > 0 {
		all = append(all, statistics(&a.kept, f.kept))
	}
	return all
}

// rows is the view of rows [from, to).
func (a *activations) rows(f form, from, to int) activations {
	c := f.config
	cut := func(b device.Buffer, width int) device.Buffer {
		if b.Absent() {
			return b
		}
		return b.Slice(from*width, to*width)
	}
	return activations{
		qkv: cut(a.qkv, c.qkvDim()), att: cut(a.att, c.qDim()),
		middle: cut(a.middle, c.Hidden), gateUp: cut(a.gateUp, 2*c.FFN), qRoots: cut(a.qRoots, c.Heads), kRoots: cut(a.kRoots, c.KVHeads),
		inRoots: cut(a.inRoots, 1), middleRoots: cut(a.middleRoots, 1), kept: cut(a.kept, f.kept),
	}
}

// scratch is what one task writes besides what is kept.
type scratch struct {
	rows   int
	needs  need
	memory block

	h     device.Buffer // hidden: output of a norm; on the way back first its derivative
	roots device.Buffer // 1: the last norm's reciprocal roots
	q, k  device.Buffer // qDim, kvDim: queries and keys of a block, normalised and rotated
	low   device.Buffer // rank: between an adapter's matrices
	dLows device.Buffer // rank for each adapter of a layer: derivatives of that
	x     device.Buffer // hidden: the residual stream, when it is not kept
	once  activations   // of one block, when they are not kept
	dx    device.Buffer // hidden: derivative of the residual stream

	// The rest is used one group after the other, in the same memory: by the feed-forward part of a
	// block, by its attention, and by the head.
	act                device.Buffer // ffn: the gated activation; on the way back first its derivative
	dqkv, dq, dk, dAtt device.Buffer // qkvDim, qDim, kvDim, qDim
	lastX, dLastX      device.Buffer // hidden: rows of the last residual stream that predict a token
	dLastH             device.Buffer // hidden: derivative of their norm
	wide, dWide        device.Buffer // hidden + rank: input of a head with an adapter
	packed             packedAttention
	cached             cachedAttention
	view               activations
	logits             device.Buffer
	draws              device.Draws
}

// need says which parts of a scratch a pass uses.
type need uint8

const (
	needOnce   need = 1 << iota // activations of one block
	needStream                  // the residual stream
	needBack                    // derivatives
)

// fields are the buffers that lie beside each other, groups those that take turns, all of the compute type.
func (s *scratch) fields(f form, needs need) (fields []field, groups [][]field) {
	c := f.config
	fields = []field{computed(&s.h, c.Hidden), statistics(&s.roots, 1), computed(&s.q, c.qDim()), computed(&s.k, c.kvDim()), computed(&s.low, inEights(f.lora.Rank))}
	if needs&needStream > 0 {
		fields = append(fields, computed(&s.x, c.Hidden))
	}
	if needs&needOnce > 0 {
		fields = append(fields, s.once.fields(f, needs)...)
	}
	wide := 0
	if f.lora.targets(headTarget) {
		wide = inEights(c.Hidden + f.lora.Rank)
	}
	feedForward, last := []field{computed(&s.act, c.FFN)}, []field{computed(&s.lastX, c.Hidden), computed(&s.wide, wide)}
	if needs&needBack == 0 {
		return fields, [][]field{feedForward, last}
	}
	fields = append(fields, computed(&s.dx, c.Hidden), computed(&s.dLows, inEights(f.lora.Rank*f.mostAdapters())))
	return fields, [][]field{
		feedForward,
		{computed(&s.dqkv, c.qkvDim()), computed(&s.dq, c.qDim()), computed(&s.dk, c.kvDim()), computed(&s.dAtt, c.qDim())},
		append(last, computed(&s.dLastX, c.Hidden), computed(&s.dLastH, c.Hidden), computed(&s.dWide, wide)),
	}
}

// inEights is a width with room to the next multiple of eight, so that what lies behind a field of odd width is where a GPU
// reads 16 bytes at once.
func inEights(width int) int { return (width + 7) / 8 * 8 }

// mostAdapters is how many adapters a layer has at most.
func (f form) mostAdapters() int {
	most := 0
	for _, s := range f.config.stacks() {
		n := 0
		for _, part := range s.parts {
			if f.lora.targets(part.name) {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// allocate makes room for rows rows of everything.
func (s *scratch) allocate(dev device.Device, f form, rows int, needs need) error {
	fields, groups := s.fields(f, needs)
	var shared device.Buffer
	memory, err := allocate(dev, f.compute, rows, append(fields, computed(&shared, widest(groups))))
	if err != nil {
		return err
	}
	for _, g := range groups {
		carveRows(shared, rows, g, false)
	}
	s.memory, s.rows, s.needs = memory, rows, needs
	return nil
}

// widest is the width that the groups need who take turns.
func widest(groups [][]field) int {
	most := 0
	for _, g := range groups {
		most = max(most, width(g).Computed)
	}
	return most
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
	p.bytes -= s.memory.bytes()
	s.memory.free(p.dev)
	rows, needs = max(rows, s.rows), s.needs|needs
	s.rows, s.needs = 0, 0
	if err := s.allocate(p.dev, p.form, rows, needs); err != nil {
		if p.err == nil {
			p.err = err
		}
		p.free = append(p.free, s)
		return nil
	}
	p.bytes += s.memory.bytes()
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
		s.memory.free(p.dev)
		p.dev.Free(s.logits)
		p.dev.FreeDraws(&s.draws)
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
