package policy

import (
	"github.com/turnwise-rl/turnwise/kernels/device"
)

// network is weights in the forms that passes read, and the constants of the arithmetic. It is
// read-only during a pass and shared by its tasks.
type network struct {
	dev  device.Device
	form form
	// weights are the tensors that passes read directly: embedding, norms and biases. Matrices are read
	// through their forms.
	weights tensors
	layers  [][stackCount]linear
	head    head
	value   device.Weights
	rotations
	eps   float32
	scale float32 // 1/√(head dim), of attention scores
}

// rowSpan is the rows of one pass or part of a pass: sequences packed one after the other.
type rowSpan struct {
	rows int
	// positions and tokens have one entry a row.
	positions, tokens device.Buffer
}

// attender fills a.att from s.q, s.k and the values in a.qkv.
type attender interface {
	attend(layer int, a *activations, s *scratch)
}

// embed writes the embeddings of the rows' tokens to x.
func (n *network) embed(x device.Rows, r rowSpan) {
	h := n.form.config.Hidden
	n.dev.Gather(x, device.Dense(n.weights.embed, h), r.tokens, r.rows, h)
}

// forwardLayer runs block l and writes the residual stream after it to out, which may be in.
func (n *network) forwardLayer(l int, r rowSpan, in, out device.Rows, a *activations, s *scratch, by attender) {
	n.project(l, r, in, a, s)
	by.attend(l, a, s)
	n.finish(l, r.rows, in, out, a, s)
}

// project computes the queries, keys and values of block l.
func (n *network) project(l int, r rowSpan, in device.Rows, a *activations, s *scratch) {
	c, w := n.form.config, &n.weights.layers[l]
	h := device.Dense(s.h, c.Hidden)
	n.dev.RMSNorm(h, in, w.attnNorm, a.inRoots, r.rows, n.eps)
	n.layers[l][qkvStack].apply(n.dev, device.Dense(a.qkv, c.qkvDim()), h, r.rows, s.low)
	n.rotate(l, r, a, s)
}

// rotate computes the queries and keys that attention reads.
func (n *network) rotate(l int, r rowSpan, a *activations, s *scratch) {
	c := n.form.config
	n.dev.RotateBoth(device.Dense(s.q, c.qDim()), device.Dense(s.k, c.kvDim()), n.queries(l, r, a), n.keys(l, r, a))
}

// finish runs block l from its attention's output on.
func (n *network) finish(l, rows int, in, out device.Rows, a *activations, s *scratch) {
	n.widen(l, rows, in, a, s)
	c := n.form.config
	act := device.Dense(s.act, c.FFN)
	n.dev.SwiGLU(act, device.Dense(a.gateUp, 2*c.FFN), rows, c.FFN)
	n.layers[l][downStack].applyOnto(n.dev, out, device.Dense(a.middle, c.Hidden), act, rows, s.low)
}

// widen computes the residual stream between the two parts of block l, and gate and up.
func (n *network) widen(l, rows int, in device.Rows, a *activations, s *scratch) {
	c, linears := n.form.config, &n.layers[l]
	h, middle := device.Dense(s.h, c.Hidden), device.Dense(a.middle, c.Hidden)
	linears[outputStack].applyOnto(n.dev, middle, in, device.Dense(a.att, c.qDim()), rows, s.low)
	n.dev.RMSNorm(h, middle, n.weights.layers[l].ffnNorm, a.middleRoots, rows, n.eps)
	linears[gateUpStack].apply(n.dev, device.Dense(a.gateUp, 2*c.FFN), h, rows, s.low)
}

// queries are the query heads of the rows on their way to attention.
func (n *network) queries(l int, r rowSpan, a *activations) device.Heads {
	c := n.form.config
	return device.Heads{
		X: device.Dense(a.qkv, c.qkvDim()), Rows: r.rows, Count: c.Heads, Dim: c.HeadDim, Positions: r.positions,
		Cos: n.cos, Sin: n.sin, Weight: n.weights.layers[l].qNorm, Roots: a.qRoots, Eps: n.eps,
	}
}

// keys are the key heads.
func (n *network) keys(l int, r rowSpan, a *activations) device.Heads {
	c := n.form.config
	return device.Heads{
		X: device.Dense(a.qkv, c.qkvDim()).Columns(c.qDim()), Rows: r.rows, Count: c.KVHeads, Dim: c.HeadDim, Positions: r.positions,
		Cos: n.cos, Sin: n.sin, Weight: n.weights.layers[l].kNorm, Roots: a.kRoots, Eps: n.eps,
	}
}

// values are the value heads of the rows.
func (n *network) values(a *activations) device.Rows {
	c := n.form.config
	return device.Dense(a.qkv, c.qkvDim()).Columns(c.qDim() + c.kvDim())
}

// packedAttention is attention within the sequences of a chunk.
type packedAttention struct {
	net     *network
	offsets device.Offsets
}

func (p *packedAttention) attend(_ int, a *activations, s *scratch) {
	p.net.dev.Attend(device.Dense(a.att, p.net.form.config.qDim()), p.attended(a, s))
}

// kept is where the rows' numbers of the backward pass are; a scratch may have room for more rows than the chunk has.
func (p *packedAttention) kept(a *activations) device.Buffer {
	if a.kept.Absent() {
		return a.kept
	}
	return a.kept.Slice(0, p.offsets.Rows()*p.net.form.kept)
}

func (p *packedAttention) attended(a *activations, s *scratch) device.Attended {
	c := p.net.form.config
	return device.Attended{
		Q: device.Dense(s.q, c.qDim()), K: device.Dense(s.k, c.kvDim()), V: p.net.values(a),
		Offsets: p.offsets, Heads: c.Heads, KVHeads: c.KVHeads, Dim: c.HeadDim, Scale: p.net.scale, Kept: p.kept(a),
	}
}
