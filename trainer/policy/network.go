package policy

import (
	"math"
	"slices"

	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
)

// matrix is a weight matrix [out × in].
type matrix struct {
	out, in int
	w       []float32
	// forward and back are w in the order of products, made by prepareForward and prepareBackward.
	forward, back *cpu.Packed
}

// apply writes y = x·Wᵀ for n rows, or adds to y.
func (m matrix) apply(y, x []float32, n int, add bool) {
	cpu.GemmPacked(n, x, m.in, m.forward, y, m.out, add)
}

// applyBack writes dx = dy·W for n rows, or adds to dx.
func (m matrix) applyBack(dx, dy []float32, n int, add bool) {
	cpu.GemmPacked(n, dy, m.out, m.back, dx, m.in, add)
}

// addGradient adds dyᵀ·x over n rows to dw.
func (m matrix) addGradient(dw, dy, x []float32, n int) {
	cpu.Gemm(true, false, m.out, m.in, n, dy, m.out, x, m.in, dw, m.in, true)
}

// layer is the weights of one block as matrices.
type layer struct {
	layerTensors
	qkvM, oM, gateUpM, downM matrix
}

// network is weights and constants, read-only during a pass and shared by its workers.
type network struct {
	config  Config
	weights tensors
	layers  []layer
	head    matrix
	eps     float32
	scale   float32 // 1/sqrt(head dim), of attention scores
	// cos and sin hold the rotations. len = MaxPositions · HeadDim/2.
	cos, sin []float32
	// ones holds 1. len = VocabSize.
	ones []float32
}

func newNetwork(c Config) *network {
	half := c.HeadDim / 2
	cos, sin := make([]float32, c.MaxPositions*half), make([]float32, c.MaxPositions*half)
	for position := range c.MaxPositions {
		for i := range half {
			angle := float64(position) * math.Pow(c.RopeTheta, -2*float64(i)/float64(c.HeadDim))
			s, c := math.Sincos(angle)
			cos[position*half+i], sin[position*half+i] = float32(c), float32(s)
		}
	}
	return assemble(c, carve(c, make([]float32, c.parameterCount())), cos, sin)
}

// clone is a network with the same constants and its own copy of the weights.
func (n *network) clone() *network {
	return assemble(n.config, carve(n.config, slices.Clone(n.weights.flat)), n.cos, n.sin)
}

func assemble(c Config, weights tensors, cos, sin []float32) *network {
	n := &network{
		config: c, weights: weights, cos: cos, sin: sin, ones: make([]float32, c.VocabSize),
		eps: float32(c.NormEps), scale: float32(1 / math.Sqrt(float64(c.HeadDim))),
	}
	for i := range n.ones {
		n.ones[i] = 1
	}
	for _, t := range weights.layers {
		n.layers = append(n.layers, layer{
			layerTensors: t,
			qkvM:         matrix{out: c.qkvDim(), in: c.Hidden, w: t.qkv},
			oM:           matrix{out: c.Hidden, in: c.qDim(), w: t.o},
			gateUpM:      matrix{out: 2 * c.FFN, in: c.Hidden, w: t.gateUp},
			downM:        matrix{out: c.Hidden, in: c.FFN, w: t.down},
		})
	}
	n.head = matrix{out: c.VocabSize, in: c.Hidden, w: weights.embed}
	return n
}

// rotation returns the cosines and sines of a position.
func (n *network) rotation(position int32) (cos, sin []float32) {
	half := n.config.HeadDim / 2
	from := int(position) * half
	return n.cos[from : from+half], n.sin[from : from+half]
}

// activations are what one block computes for a run of rows, kept for the backward pass. What is
// cheap to compute again (norms' outputs and the gated activation) is not among them.
// Each slice holds rows × width elements; widths are those of the comments.
type activations struct {
	xIn   []float32 // hidden: the residual stream before the block
	qkv   []float32 // qkvDim: projections before the per-head norm
	q     []float32 // qDim: normalised and rotated queries
	k     []float32 // kvDim: normalised and rotated keys
	att   []float32 // qDim: attention output
	xMid  []float32 // hidden: the residual stream between the two parts
	gu    []float32 // 2·ffn: gate and up
	rHead []float32 // heads+kvHeads: of the per-head norms
}

// fields lists each slice with its width in the same order.
func (a *activations) fields(c Config) ([]*[]float32, []int) {
	return []*[]float32{&a.xIn, &a.qkv, &a.q, &a.k, &a.att, &a.xMid, &a.gu, &a.rHead},
		[]int{c.Hidden, c.qkvDim(), c.qDim(), c.kvDim(), c.qDim(), c.Hidden, 2 * c.FFN, c.Heads + c.KVHeads}
}

// grow makes room for n rows and keeps what is large enough.
func (a *activations) grow(c Config, n int) {
	fields, widths := a.fields(c)
	for i, s := range fields {
		*s = grown(*s, n*widths[i])
	}
}

// rows is the view of rows [from, to).
func (a *activations) rows(c Config, from, to int) activations {
	var view activations
	source, widths := a.fields(c)
	target, _ := view.fields(c)
	for i, s := range source {
		*target[i] = (*s)[from*widths[i] : to*widths[i]]
	}
	return view
}

// grown returns a slice of n elements, reusing s when it is large enough; contents are unspecified.
func grown[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/4)
	}
	return s[:n]
}

// embed writes the embeddings of tokens to x.
func (n *network) embed(x []float32, tokens []int32) {
	h := n.config.Hidden
	for i, t := range tokens {
		copy(x[i*h:(i+1)*h], n.weights.embed[int(t)*h:(int(t)+1)*h])
	}
}

// forwardLayer runs block l over the rows whose input is a.xIn and writes the residual stream after
// it to xOut, which may be a.xIn. attend fills a.att from a.q, a.k and the value part of a.qkv.
func (n *network) forwardLayer(l int, a *activations, positions []int32, s *scratch, attend func(l int, a *activations), xOut []float32) {
	c, w, rows := n.config, &n.layers[l], len(positions)
	s.growForward(c, rows)
	n.normRows(s.h, s.roots, a.xIn, w.attnNorm)
	w.qkvM.apply(a.qkv, s.h, rows, false)
	n.normHeads(w, a, positions)
	attend(l, a)
	copy(a.xMid, a.xIn)
	w.oM.apply(a.xMid, a.att, rows, true)
	n.normRows(s.h, s.roots, a.xMid, w.ffnNorm)
	w.gateUpM.apply(a.gu, s.h, rows, false)
	n.activate(s.act, a.gu)
	copy(xOut, a.xMid)
	w.downM.apply(xOut, s.act, rows, true)
}

// normRows normalises each row of x into h and writes the reciprocal roots.
func (n *network) normRows(h, roots, x, weight []float32) {
	width := n.config.Hidden
	for i := range roots {
		roots[i] = cpu.RMSNorm(h[i*width:(i+1)*width], x[i*width:(i+1)*width], weight, n.eps)
	}
}

// activate writes silu(gate) ⊙ up for each row of gu to act.
func (n *network) activate(act, gu []float32) {
	for ffn := n.config.FFN; len(act) > 0; act, gu = act[ffn:], gu[2*ffn:] {
		cpu.SiLUMul(act[:ffn], gu[:ffn], gu[ffn:2*ffn])
	}
}

// normHeads normalises and rotates every query and key head of every row.
func (n *network) normHeads(w *layer, a *activations, positions []int32) {
	c := n.config
	dim, heads := c.HeadDim, c.Heads+c.KVHeads
	for i, position := range positions {
		cos, sin := n.rotation(position)
		raw := a.qkv[i*c.qkvDim():]
		for h := range heads {
			out, weight := n.headOf(a.q, a.k, i, h), w.qNorm
			if h >= c.Heads {
				weight = w.kNorm
			}
			a.rHead[i*heads+h] = cpu.RMSNorm(out, raw[h*dim:(h+1)*dim], weight, n.eps)
			rotateRow(out, cos, sin)
		}
	}
}

// headOf is head h of row i, counting the query heads in q first and the key heads in k after them.
func (n *network) headOf(q, k []float32, i, h int) []float32 {
	c := n.config
	from, all := i*c.qDim()+h*c.HeadDim, q
	if h >= c.Heads {
		from, all = i*c.kvDim()+(h-c.Heads)*c.HeadDim, k
	}
	return all[from : from+c.HeadDim]
}

// prepareForward packs the weights for forward passes; changes made to them later are not seen.
func (n *network) prepareForward() {
	for _, m := range n.matrices() {
		m.forward = cpu.PackB(true, m.out, m.in, m.w, m.in)
	}
}

// prepareBackward packs the weights for backward passes.
func (n *network) prepareBackward() {
	for _, m := range n.matrices() {
		m.back = cpu.PackB(false, m.in, m.out, m.w, m.in)
	}
}

// matrices lists every weight matrix.
func (n *network) matrices() []*matrix {
	all := []*matrix{&n.head}
	for l := range n.layers {
		w := &n.layers[l]
		all = append(all, &w.qkvM, &w.oM, &w.gateUpM, &w.downM)
	}
	return all
}
