package policy

import (
	"context"
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// Loss receives the scores of a batch and returns the derivatives of the scalar loss with respect to
// each. Entropies, and Values, may be nil when the loss does not depend on them. Entries at the first
// token of a sequence are ignored. The slices it receives are valid during the call only.
type Loss func(now Scores) (Scores, error)

// Accumulate runs forward, the loss and backward, and adds the gradient of the loss to every
// Parameter.Grad that is there. Activations of the whole batch are held, so callers bound the batch.
//
// The gradient's bits do not depend on the number of threads, nor on recomputation: chunk i of a batch
// adds to lane i mod lanes in ascending order, and lanes are summed in order. Lane 0 is the gradient
// itself, so a sum goes on where the last call left it. When the loss fails no gradient has changed; a
// context that ends during the backward pass leaves gradients that are of no use.
func (m *Model) Accumulate(ctx context.Context, p Packed, temperature float32, loss Loss) error {
	if m.grads.Absent() {
		return fmt.Errorf("accumulate: the network is frozen: nothing in it is trained")
	}
	k := keepAll
	if m.options.Recompute {
		k = keepInputs
	}
	if err := m.begin(ctx, p, temperature, k); err != nil {
		return fmt.Errorf("accumulate: %w", err)
	}
	if err := m.forward(ctx, &m.batch.out); err != nil {
		return fmt.Errorf("accumulate: %w", err)
	}
	derivatives, err := loss(m.batch.out)
	if err != nil {
		return fmt.Errorf("accumulate: loss: %w", err)
	}
	if err := m.checkDerivatives(derivatives); err != nil {
		return fmt.Errorf("accumulate: %w", err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("accumulate: %w", context.Cause(ctx))
	}
	if err := m.backward(ctx, derivatives); err != nil {
		return fmt.Errorf("accumulate: %w", err)
	}
	return nil
}

func (m *Model) checkDerivatives(d Scores) error {
	n := len(m.batch.packed.Tokens)
	for _, part := range []struct {
		name     string
		got      int
		optional bool
	}{
		{"log-probability", len(d.LogProbs), false}, {"entropy", len(d.Entropies), d.Entropies == nil}, {"value", len(d.Values), d.Values == nil},
	} {
		if part.got != n && !part.optional {
			return fmt.Errorf("the loss returned %d %s derivatives for %d tokens", part.got, part.name, n)
		}
	}
	if d.Values != nil && !m.form.valueHead {
		return fmt.Errorf("the loss returned value derivatives, but the network has no value head")
	}
	return nil
}

// backward sums the gradients of all chunks into lanes, then the lanes in order into the first.
func (m *Model) backward(ctx context.Context, d Scores) error {
	b := &m.batch
	if err := m.stageLive(d); err != nil {
		return err
	}
	lanes := min(len(m.lanes), len(b.chunks))
	if err := m.reserveLanes(lanes); err != nil {
		return err
	}
	m.dev.Each(lanes, m.backwardTask)
	if err := m.scratches.failure(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for i := 1; i < lanes; i++ {
		m.dev.Add(m.grads, m.lanes[i].flat, 1)
	}
	return m.dev.Sync()
}

// lane is a partial gradient.
type lane struct {
	flat device.Buffer
	tensors
	// joined receives the gradient of a head with an adapter, and holds that of B behind it; absent
	// otherwise.
	joined device.Buffer
}

// reserveLanes makes room for so many lanes.
func (m *Model) reserveLanes(n int) error {
	for i := range m.lanes[:n] {
		into := &m.lanes[i]
		if i > 0 && into.flat.Absent() {
			flat, err := m.dev.Allocate(device.ForGradients, device.F32, m.grads.Len())
			if err != nil {
				return err
			}
			into.flat, into.tensors = flat, m.form.carve(flat, m.form.trainFrom())
		}
		if m.net.head.adapted() && into.joined.Absent() {
			var err error
			if into.joined, err = m.dev.Allocate(device.ForGradients, device.F32, m.net.head.out*(m.net.head.in+m.net.head.rank)); err != nil {
				return err
			}
		}
	}
	return nil
}

// stageLive brings the derivatives of the rows that have one to the device.
func (m *Model) stageLive(d Scores) error {
	b := &m.batch
	// Each part has room for all rows, so that its place does not depend on how many there are.
	b.liveInts, b.live = resized(b.liveInts, 2*b.rows), resized(b.live, 5*b.rows)
	rows, targets := b.liveInts[:b.rows], b.liveInts[b.rows:]
	part := func(i int) []float32 { return b.live[i*b.rows : (i+1)*b.rows] }
	dLogProbs, dEntropies, logProbs, entropies, dValues := part(0), part(1), part(2), part(3), part(4)
	live, i := 0, 0
	for c := range b.chunks {
		ch := &b.chunks[c]
		ch.liveFrom = live
		for ; i < ch.headTo; i++ {
			at := ch.from + int(b.hostHeadRows[i]) + 1
			var entropy, value float32
			if d.Entropies != nil {
				entropy = d.Entropies[at]
			}
			if d.Values != nil {
				value = d.Values[at]
			}
			if d.LogProbs[at] == 0 && entropy == 0 && value == 0 {
				continue
			}
			rows[live], targets[live] = b.hostHeadRows[i], b.packed.Tokens[at]
			dLogProbs[live], dEntropies[live], dValues[live] = d.LogProbs[at], entropy, value
			logProbs[live], entropies[live] = b.compact[i], b.compact[b.rows+i]
			live++
		}
		ch.liveTo = live
	}
	if err := grow(m.dev, &b.liveOnDevice, device.I32, len(b.liveInts)); err != nil {
		return err
	}
	if err := grow(m.dev, &b.liveMemory, device.F32, 4*b.rows); err != nil {
		return err
	}
	b.dVals = device.Buffer{}
	if d.Values != nil {
		if err := grow(m.dev, &b.liveValues, m.form.compute, b.rows); err != nil {
			return err
		}
		b.dVals = b.liveValues.Slice(0, live)
		m.dev.Upload(b.dVals, dValues[:live])
	}
	b.liveRows, b.liveTargets = b.liveOnDevice.Slice(0, live), b.liveOnDevice.Slice(b.rows, b.rows+live)
	m.dev.UploadInts(b.liveRows, rows[:live])
	m.dev.UploadInts(b.liveTargets, targets[:live])
	bring := func(i int) device.Buffer {
		to := b.liveMemory.Slice(i*b.rows, i*b.rows+live)
		m.dev.Upload(to, part(i)[:live])
		return to
	}
	b.dLogProbs, b.dEntropies, b.liveLogProbs, b.liveEntropies = bring(0), device.Buffer{}, bring(2), bring(3)
	if d.Entropies != nil {
		b.dEntropies = bring(1)
	}
	return nil
}

// backwardLane adds the gradients of the lane's chunks to it.
func (m *Model) backwardLane(task int) {
	b, into := &m.batch, &m.lanes[task]
	if task > 0 {
		m.dev.Zero(into.flat)
	}
	s := m.scratches.take(b.longest, scratchNeeds(b.keep))
	if s == nil {
		return
	}
	defer m.scratches.give(s)
	if m.net.head.adapted() {
		m.dev.Zero(into.joined)
	}
	for i := task; i < len(b.chunks) && !b.stopped(); i += len(m.lanes) {
		m.backwardChunk(&b.chunks[i], s, into)
	}
	if m.net.head.adapted() {
		m.splitHeadGradient(into)
	}
}

// backwardChunk adds one chunk's gradient to a lane.
func (m *Model) backwardChunk(ch *chunk, s *scratch, into *lane) {
	c, b := m.form.config, &m.batch
	if ch.liveFrom == ch.liveTo {
		return
	}
	m.backwardHead(ch, s, into)
	s.packed = b.attention(m.net, ch)
	for l := c.Layers - 1; l >= 0; l-- {
		m.backwardLayer(l, ch, s, into)
	}
	if !into.embed.Absent() {
		m.dev.ScatterAdd(device.Dense(into.embed, c.Hidden), b.tokens.Slice(ch.from, ch.to), device.Dense(s.dx, c.Hidden), ch.rows(), c.Hidden)
	}
}

// backwardHead writes the gradient of the last residual stream to s.dx and adds those of the head, the
// value head and the final norm. Rows without a gradient are not computed.
func (m *Model) backwardHead(ch *chunk, s *scratch, into *lane) {
	b, h, rows := &m.batch, m.form.config.Hidden, ch.liveTo-ch.liveFrom
	cut := func(x device.Buffer) device.Buffer {
		if x.Absent() {
			return x
		}
		return x.Slice(ch.liveFrom, ch.liveTo)
	}
	m.lastRows(m.stream(m.form.config.Layers, ch, s), cut(b.liveRows), rows, s)
	scored := m.scored(s, rows, cut(b.liveTargets), cut(b.liveLogProbs), cut(b.liveEntropies))
	scored.Known = true
	dh := device.Dense(s.dLastH, h)
	if m.net.head.adapted() {
		m.backwardJoinedHead(s, into, scored, cut(b.dLogProbs), cut(b.dEntropies))
	} else {
		m.dev.ScoreBack(dh, into.head.matrix, cut(b.dLogProbs), cut(b.dEntropies), scored)
	}
	if dValues := cut(b.dVals); !dValues.Absent() {
		d := device.Dense(dValues, 1)
		m.dev.ProductGrad(into.value.matrix, d, device.Dense(s.h, h), rows, 1, h)
		m.dev.BiasGrad(into.value.bias, d, rows)
		m.dev.ProductBack(dh, d, rows, m.net.value, true)
	}
	dLast := s.dLastX.Slice(0, rows*h)
	m.dev.Zero(dLast)
	m.dev.RMSNormBack(device.Dense(dLast, h), into.norm, dh, device.Dense(s.lastX, h), m.net.weights.norm, s.roots, rows)
	m.dev.Zero(s.dx.Slice(0, ch.rows()*h))
	m.dev.ScatterAdd(device.Dense(s.dx, h), cut(b.liveRows), device.Dense(dLast, h), rows, h)
}

// backwardJoinedHead is the backward pass of a head with an adapter, through the joined matrix. The
// gradient of B is read off the joined one when the lane is complete.
func (m *Model) backwardJoinedHead(s *scratch, into *lane, scored device.Scored, dLogProbs, dEntropies device.Buffer) {
	h, head := m.form.config.Hidden, &m.net.head
	wide, dh, low := device.Dense(s.dWide, head.in), device.Dense(s.dLastH, h), device.Dense(s.low, head.rank)
	m.dev.ScoreBack(wide, into.joined.Slice(0, head.out*head.in), dLogProbs, dEntropies, scored)
	m.dev.CopyRows(dh, wide, scored.Rows, h)
	m.dev.CopyRows(low, wide.Columns(h), scored.Rows, head.rank)
	m.dev.Scale(s.low.Slice(0, scored.Rows*head.rank), head.scale)
	m.dev.ProductGrad(into.head.adapters[0].a, low, device.Dense(s.h, h), scored.Rows, head.rank, h)
	m.dev.ProductBack(dh, low, scored.Rows, head.low, true)
}

// splitHeadGradient adds B's part of the joined head's gradient to the lane.
func (m *Model) splitHeadGradient(into *lane) {
	head, whole := &m.net.head, m.net.head.out*m.net.head.in
	own := into.joined.Slice(whole, into.joined.Len())
	m.dev.CopyRows(device.Dense(own, head.rank), device.Dense(into.joined, head.in).Columns(head.hidden()), head.out, head.rank)
	m.dev.Add(into.head.adapters[0].b, own, 1)
}

// backwardLayer replaces s.dx, the gradient of the block's output, by that of its input, and adds
// those of the block's parameters.
func (m *Model) backwardLayer(l int, ch *chunk, s *scratch, into *lane) {
	c, net, n := m.form.config, m.net, ch.rows()
	span, in, a := m.batch.span(ch), m.stream(l, ch, s), m.activations(l, ch, s)
	if m.batch.keep == keepInputs {
		net.project(l, span, in, a, s)
		s.packed.attend(l, a, s)
		net.widen(l, n, in, a, s)
	} else {
		net.rotate(l, span, a, s)
	}
	w, g, linears := &net.weights.layers[l], &into.layers[l], &net.layers[l]
	dx := device.Dense(s.dx, c.Hidden)
	// dh and dAct hold a derivative until the norm, or the activation, has gone back: then its output again, for the
	// gradient of the product that read it. The derivative of gateUp takes its place.
	dh, dAct, gateUp := device.Dense(s.h, c.Hidden), device.Dense(s.act, c.FFN), device.Dense(a.gateUp, 2*c.FFN)
	linears[downStack].backInputs(m.dev, dAct, dx, n, s.dLows)
	m.dev.SwiGLUBack(gateUp, dAct, gateUp, n, c.FFN)
	linears[downStack].backWeights(m.dev, dx, dAct, n, s.low, s.dLows, &g.stacks[downStack])
	linears[gateUpStack].backInputs(m.dev, dh, gateUp, n, s.dLows)
	m.dev.RMSNormBack(dx, g.ffnNorm, dh, device.Dense(a.middle, c.Hidden), w.ffnNorm, a.middleRoots, n)
	linears[gateUpStack].backWeights(m.dev, gateUp, dh, n, s.low, s.dLows, &g.stacks[gateUpStack])

	att, dAtt := device.Dense(a.att, c.qDim()), device.Dense(s.dAtt, c.qDim())
	linears[outputStack].backInputs(m.dev, dAtt, dx, n, s.dLows)
	linears[outputStack].backWeights(m.dev, dx, att, n, s.low, s.dLows, &g.stacks[outputStack])
	dqkv, dq, dk := device.Dense(s.dqkv, c.qkvDim()), device.Dense(s.dq, c.qDim()), device.Dense(s.dk, c.kvDim())
	m.dev.AttendBack(dq, dk, dqkv.Columns(c.qDim()+c.kvDim()), dAtt, att, s.packed.attended(a, s))
	m.dev.RotateBack(dqkv, g.qNorm, dq, net.queries(l, span, a))
	m.dev.RotateBack(dqkv.Columns(c.qDim()), g.kNorm, dk, net.keys(l, span, a))
	linears[qkvStack].backInputs(m.dev, dh, dqkv, n, s.dLows)
	m.dev.RMSNormBack(dx, g.attnNorm, dh, in, w.attnNorm, a.inRoots, n)
	linears[qkvStack].backWeights(m.dev, dqkv, dh, n, s.low, s.dLows, &g.stacks[qkvStack])
}
