package policy

import (
	"math"

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
	// forms lists every form, and refreshTask makes one of them again.
	forms       []device.Weights
	refreshTask func(i int)
	rotations
	eps   float32
	scale float32 // 1/√(head dim), of attention scores
}

// assemble makes the forms of the weights. On an error nothing is left behind.
func assemble(dev device.Device, f form, weights tensors, use device.Use) (*network, error) {
	n := &network{
		dev: dev, form: f, weights: weights,
		eps: float32(f.config.NormEps), scale: float32(1 / math.Sqrt(float64(f.config.HeadDim))),
	}
	err := n.makeForms(use)
	if err != nil {
		n.free()
		return nil, err
	}
	n.listForms()
	return n, nil
}

func (n *network) makeForms(use device.Use) error {
	for l := range n.weights.layers {
		n.layers = append(n.layers, [stackCount]linear{})
		for which, s := range n.form.config.stacks() {
			var err error
			if n.layers[l][which], err = newLinear(n.dev, n.weights.layers[l].stacks[which], s, n.form, use); err != nil {
				return err
			}
		}
	}
	if n.form.valueHead {
		var err error
		if n.value, err = n.dev.NewWeights(n.weights.value.matrix, n.form.compute, 1, n.form.config.Hidden, use); err != nil {
			return err
		}
	}
	var err error
	n.head, err = newHead(n.dev, n.form, n.weights.head, use)
	return err
}

// free gives back what assemble made and the rotations; the weights are the caller's.
func (n *network) free() {
	for l := range n.layers {
		for which := range n.layers[l] {
			n.layers[l][which].free(n.dev)
		}
	}
	n.layers = nil
	n.dev.FreeWeights(n.value)
	n.value = nil
	n.head.free(n.dev)
	n.rotations.free(n.dev)
}

// listForms gathers what refresh makes again.
func (n *network) listForms() {
	for l := range n.layers {
		for which := range n.layers[l] {
			n.forms = append(n.forms, n.layers[l][which].weights()...)
		}
	}
	n.forms = append(n.forms, n.head.form)
	if n.head.adapted() {
		n.forms = append(n.forms, n.head.low)
	}
	if n.value != nil {
		n.forms = append(n.forms, n.value)
	}
	n.refreshTask = func(i int) { n.dev.Refresh(n.forms[i]) }
}

// refresh brings the forms up to date with the weights.
func (n *network) refresh() {
	n.head.join(n.dev)
	n.dev.Each(len(n.forms), n.refreshTask)
}

// rowSpan is the rows of one pass or part of a pass: sequences packed one after the other.
type rowSpan struct {
	rows int
	// positions and tokens have one entry a row.
	positions, tokens device.Buffer
}

// attender fills a.att from a.q, a.k and the values in a.qkv.
type attender interface {
	attend(layer int, a *activations)
}

// embed writes the embeddings of the rows' tokens to x.
func (n *network) embed(x device.Rows, r rowSpan) {
	h := n.form.config.Hidden
	n.dev.Gather(x, device.Dense(n.weights.embed, h), r.tokens, r.rows, h)
}

// forwardLayer runs block l and writes the residual stream after it to out, which may be in.
func (n *network) forwardLayer(l int, r rowSpan, in, out device.Rows, a *activations, s *scratch, by attender) {
	n.project(l, r, in, a, s)
	by.attend(l, a)
	n.finish(l, r.rows, in, out, a, s)
}

// project computes the queries, keys and values of block l.
func (n *network) project(l int, r rowSpan, in device.Rows, a *activations, s *scratch) {
	c, w := n.form.config, &n.weights.layers[l]
	h := device.Dense(s.h, c.Hidden)
	n.dev.RMSNorm(h, in, w.attnNorm, s.roots, r.rows, n.eps)
	n.layers[l][qkvStack].apply(n.dev, device.Dense(a.qkv, c.qkvDim()), h, r.rows, s.low, false)
	n.dev.Rotate(device.Dense(a.q, c.qDim()), n.queries(l, r, a))
	n.dev.Rotate(device.Dense(a.k, c.kvDim()), n.keys(l, r, a))
}

// finish runs block l from its attention's output on.
func (n *network) finish(l, rows int, in, out device.Rows, a *activations, s *scratch) {
	n.widen(l, rows, in, a, s)
	c := n.form.config
	act := device.Dense(s.act, c.FFN)
	n.dev.SwiGLU(act, device.Dense(a.gateUp, 2*c.FFN), rows, c.FFN)
	n.dev.CopyRows(out, device.Dense(a.middle, c.Hidden), rows, c.Hidden)
	n.layers[l][downStack].apply(n.dev, out, act, rows, s.low, true)
}

// widen computes the residual stream between the two parts of block l, and gate and up.
func (n *network) widen(l, rows int, in device.Rows, a *activations, s *scratch) {
	c, linears := n.form.config, &n.layers[l]
	h, middle := device.Dense(s.h, c.Hidden), device.Dense(a.middle, c.Hidden)
	n.dev.CopyRows(middle, in, rows, c.Hidden)
	linears[outputStack].apply(n.dev, middle, device.Dense(a.att, c.qDim()), rows, s.low, true)
	n.dev.RMSNorm(h, middle, n.weights.layers[l].ffnNorm, s.roots, rows, n.eps)
	linears[gateUpStack].apply(n.dev, device.Dense(a.gateUp, 2*c.FFN), h, rows, s.low, false)
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

func (p *packedAttention) attend(_ int, a *activations) {
	p.net.dev.Attend(device.Dense(a.att, p.net.form.config.qDim()), p.attended(a))
}

func (p *packedAttention) attended(a *activations) device.Attended {
	c := p.net.form.config
	return device.Attended{
		Q: device.Dense(a.q, c.qDim()), K: device.Dense(a.k, c.kvDim()), V: p.net.values(a),
		Offsets: p.offsets, Heads: c.Heads, KVHeads: c.KVHeads, Dim: c.HeadDim, Scale: p.net.scale,
	}
}
