package policy

import (
	"context"
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
)

// Loss receives the packed log-probabilities and entropies of a batch, as [Model.Score] returns
// them, and returns the derivatives of the scalar loss with respect to each. len = tokens;
// dEntropies may be nil when the loss does not depend on entropies. Entries at the first token of a
// sequence are ignored. The slices it receives are valid during the call only.
type Loss func(logProbs, entropies []float32) (dLogProbs, dEntropies []float32, err error)

// Accumulate runs forward, the loss and backward, and adds the gradient of the loss to every
// Parameter.Grad. The gradient's bits do not depend on the number of threads. On an error no
// gradient has changed. Activations of the whole batch are held, so callers bound the batch.
func (m *Model) Accumulate(ctx context.Context, p Packed, temperature float32, loss Loss) error {
	inverse, err := m.checkPass(p, temperature)
	if err != nil {
		return fmt.Errorf("accumulate: %w", err)
	}
	c, chunks := m.config, p.chunks()
	m.growBatch(len(p.Tokens))
	m.net.prepareForward()
	m.net.prepareBackward()
	logProbs, entropies := make([]float32, len(p.Tokens)), make([]float32, len(p.Tokens))
	m.work.parallel(len(chunks), func(s *scratch, task int) {
		if ctx.Err() != nil {
			return
		}
		ch := chunks[task]
		xOut := m.work.xOut[ch.from*c.Hidden : ch.to*c.Hidden]
		views := m.work.views(c, ch)
		m.forwardChunk(p, ch, s, func(l int) *activations { return &views[l] }, xOut)
		m.scoreChunk(p, ch, s, xOut, inverse, logProbs, entropies)
	})
	if ctx.Err() != nil {
		return fmt.Errorf("accumulate: %w", context.Cause(ctx))
	}
	if err := checkScores(p, logProbs); err != nil {
		return fmt.Errorf("accumulate: %w", err)
	}
	dLogProbs, dEntropies, err := loss(logProbs, entropies)
	if err != nil {
		return fmt.Errorf("accumulate: loss: %w", err)
	}
	if len(dLogProbs) != len(p.Tokens) || (dEntropies != nil && len(dEntropies) != len(p.Tokens)) {
		return fmt.Errorf("accumulate: the loss returned %d log-probability and %d entropy derivatives for %d tokens", len(dLogProbs), len(dEntropies), len(p.Tokens))
	}
	return m.backward(ctx, p, chunks, inverse, dLogProbs, dEntropies)
}

// growBatch makes room for the activations of n tokens in every layer.
func (m *Model) growBatch(n int) {
	if m.work.layers == nil {
		m.work.layers = make([]activations, m.config.Layers)
	}
	for l := range m.work.layers {
		m.work.layers[l].grow(m.config, n)
	}
	m.work.xOut = grown(m.work.xOut, n*m.config.Hidden)
}

// views are the activations of a chunk in every layer.
func (w *workspace) views(c Config, ch chunk) []activations {
	views := make([]activations, c.Layers)
	for l := range views {
		views[l] = w.layers[l].rows(c, ch.from, ch.to)
	}
	return views
}

// backward sums the gradients of all chunks into lanes, then the lanes in order into the model's.
func (m *Model) backward(ctx context.Context, p Packed, chunks []chunk, inverse float32, dLogProbs, dEntropies []float32) error {
	lanes := min(gradientLanes, len(chunks))
	for len(m.work.lanes) < lanes {
		m.work.lanes = append(m.work.lanes, carve(m.config, make([]float32, m.config.parameterCount())))
	}
	m.work.parallel(lanes, func(s *scratch, lane int) {
		into := &m.work.lanes[lane]
		clear(into.flat)
		for task := lane; task < len(chunks) && ctx.Err() == nil; task += gradientLanes {
			m.backwardChunk(p, chunks[task], s, into, inverse, dLogProbs, dEntropies)
		}
	})
	if ctx.Err() != nil {
		return fmt.Errorf("accumulate: %w", context.Cause(ctx))
	}
	const piece = 1 << 16
	m.work.parallel((len(m.grads.flat)+piece-1)/piece, func(_ *scratch, task int) {
		from := task * piece
		to := min(from+piece, len(m.grads.flat))
		for lane := range lanes {
			cpu.Axpy(1, m.work.lanes[lane].flat[from:to], m.grads.flat[from:to])
		}
	})
	return nil
}

// backwardChunk adds one chunk's gradient to a lane.
func (m *Model) backwardChunk(p Packed, ch chunk, s *scratch, into *tensors, inverse float32, dLogProbs, dEntropies []float32) {
	c, n := m.config, ch.to-ch.from
	s.growBack(c, n)
	xOut := m.work.xOut[ch.from*c.Hidden : ch.to*c.Hidden]
	if !m.backwardHead(p, ch, s, xOut, into, inverse, dLogProbs, dEntropies) {
		return
	}
	s.positions = s.positions[:0]
	for i := ch.firstSequence; i < ch.lastSequence; i++ {
		for j := range p.Offsets[i+1] - p.Offsets[i] {
			s.positions = append(s.positions, j)
		}
	}
	views := m.work.views(c, ch)
	for l := c.Layers - 1; l >= 0; l-- {
		m.backwardLayer(p, ch, l, &views[l], s, &into.layers[l])
	}
	for i, t := range p.Tokens[ch.from:ch.to] {
		cpu.Axpy(1, s.dx[i*c.Hidden:(i+1)*c.Hidden], into.embed[int(t)*c.Hidden:(int(t)+1)*c.Hidden])
	}
}

// growForward makes room for what a block computes on the way.
func (s *scratch) growForward(c Config, n int) {
	s.h = grown(s.h, n*c.Hidden)
	s.roots = grown(s.roots, n)
	s.act = grown(s.act, n*c.FFN)
}

// growBack makes room for one block's derivatives.
func (s *scratch) growBack(c Config, n int) {
	s.dx = grown(s.dx, n*c.Hidden)
	s.dh = grown(s.dh, n*c.Hidden)
	s.dqkv = grown(s.dqkv, n*c.qkvDim())
	s.dq = grown(s.dq, n*c.qDim())
	s.dk = grown(s.dk, n*c.kvDim())
	s.dAtt = grown(s.dAtt, n*c.qDim())
	s.dgu = grown(s.dgu, n*2*c.FFN)
	s.dAct = grown(s.dAct, n*c.FFN)
}

// backwardHead writes the derivative with respect to the final residual stream to s.dx and adds to
// the gradients of the head and the final norm. Rows without a gradient are not computed; it
// returns false when there is none at all.
func (m *Model) backwardHead(p Packed, ch chunk, s *scratch, x []float32, into *tensors, inverse float32, dLogProbs, dEntropies []float32) bool {
	c := m.config
	dEntropy := func(at int) float32 {
		if dEntropies == nil {
			return 0
		}
		return dEntropies[at]
	}
	all := p.headRows(ch, s.headRows)
	live := all[:0]
	for _, row := range all {
		if at := ch.from + int(row) + 1; dLogProbs[at] != 0 || dEntropy(at) != 0 {
			live = append(live, row)
		}
	}
	s.headRows = live
	if len(live) == 0 {
		return false
	}
	clear(s.dx)
	for len(live) > 0 {
		part := live[:min(len(live), headRowsAtOnce)]
		live = live[len(part):]
		m.net.logits(s, x, part)
		s.exps = grown(s.exps, c.VocabSize)
		for i, row := range part {
			at := ch.from + int(row) + 1
			z := s.logits[i*c.VocabSize : (i+1)*c.VocabSize]
			logitsBackRow(z, s.exps, logitsRow(z, m.net.ones, inverse), int(p.Tokens[at]), dLogProbs[at], dEntropy(at), inverse)
		}
		m.net.head.addGradient(into.embed, s.logits, s.h, len(part))
		s.dHead = grown(s.dHead, len(part)*c.Hidden)
		m.net.head.applyBack(s.dHead, s.logits, len(part), false)
		for i, row := range part {
			from := int(row) * c.Hidden
			cpu.RMSNormBackward(s.dx[from:from+c.Hidden], into.norm, s.dHead[i*c.Hidden:(i+1)*c.Hidden], x[from:from+c.Hidden], m.net.weights.norm, s.roots[i])
		}
	}
	return true
}

// backwardLayer replaces s.dx, the derivative with respect to the block's output, by that with
// respect to its input, and adds to the block's gradients.
func (m *Model) backwardLayer(p Packed, ch chunk, l int, a *activations, s *scratch, g *layerTensors) {
	c, w, n := m.config, &m.net.layers[l], ch.to-ch.from
	hidden, ffn := c.Hidden, c.FFN
	s.growForward(c, n)
	m.net.activate(s.act, a.gu)
	w.downM.addGradient(g.down, s.dx, s.act, n)
	w.downM.applyBack(s.dAct, s.dx, n, false)
	for i := range n {
		gu, dgu := a.gu[i*2*ffn:(i+1)*2*ffn], s.dgu[i*2*ffn:(i+1)*2*ffn]
		cpu.SiLUMulBackward(dgu[:ffn], dgu[ffn:], s.dAct[i*ffn:(i+1)*ffn], gu[:ffn], gu[ffn:])
	}
	m.net.normRows(s.h, s.roots, a.xMid, w.ffnNorm)
	w.gateUpM.addGradient(g.gateUp, s.dgu, s.h, n)
	w.gateUpM.applyBack(s.dh, s.dgu, n, false)
	for i := range n {
		r := i * hidden
		cpu.RMSNormBackward(s.dx[r:r+hidden], g.ffnNorm, s.dh[r:r+hidden], a.xMid[r:r+hidden], w.ffnNorm, s.roots[i])
	}
	w.oM.addGradient(g.o, s.dx, a.att, n)
	w.oM.applyBack(s.dAtt, s.dx, n, false)
	clear(s.dqkv)
	clear(s.dk)
	for i := ch.firstSequence; i < ch.lastSequence; i++ {
		m.net.attendBackSequence(a, s.dAtt, s.dq, s.dk, s.dqkv, int(p.Offsets[i])-ch.from, int(p.Offsets[i+1])-ch.from, s)
	}
	m.net.normHeadsBack(w, a, s, g)
	m.net.normRows(s.h, s.roots, a.xIn, w.attnNorm)
	w.qkvM.addGradient(g.qkv, s.dqkv, s.h, n)
	w.qkvM.applyBack(s.dh, s.dqkv, n, false)
	for i := range n {
		r := i * hidden
		cpu.RMSNormBackward(s.dx[r:r+hidden], g.attnNorm, s.dh[r:r+hidden], a.xIn[r:r+hidden], w.attnNorm, s.roots[i])
	}
}

// normHeadsBack adds to s.dqkv the derivatives through normHeads of s.dq and s.dk, which it
// overwrites.
func (n *network) normHeadsBack(w *layer, a *activations, s *scratch, g *layerTensors) {
	c := n.config
	dim, heads := c.HeadDim, c.Heads+c.KVHeads
	for i, position := range s.positions {
		cos, sin := n.rotation(position)
		raw, dRaw := a.qkv[i*c.qkvDim():], s.dqkv[i*c.qkvDim():]
		for h := range heads {
			d, weight, dWeight := n.headOf(s.dq, s.dk, i, h), w.qNorm, g.qNorm
			if h >= c.Heads {
				weight, dWeight = w.kNorm, g.kNorm
			}
			rotateBackRow(d, cos, sin)
			cpu.RMSNormBackward(dRaw[h*dim:(h+1)*dim], dWeight, d, raw[h*dim:(h+1)*dim], weight, a.rHead[i*heads+h])
		}
	}
}
