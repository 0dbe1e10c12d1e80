package gpubench

import (
	"fmt"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// decodingKernels times what a pass of decoding calls. Calls go through the layers one after the other, as a pass does, so that
// no weights, keys or values are found in a cache of the GPU that a pass would not find there.
func decodingKernels(t *testing.T, c policy.Config, sequences, positions, group, shared int, ceilings Ceilings) []Kernel {
	t.Helper()
	shared = shared / device.PageTokens * device.PageTokens // whole pages
	group = max(1, min(group, sequences))
	for sequences%group != 0 {
		group--
	}
	b := newBed(t, c, sequences)
	defer b.free()
	d, rows := b.device, sequences
	x, y := b.activations(rows, c.Hidden), b.activations(rows, c.Hidden)
	qkv, turned := b.activations(rows, b.queries+2*b.keys), b.activations(rows, b.queries)
	gateUp, act := b.activations(rows, 2*c.FFN), b.activations(rows, c.FFN)
	weight, roots := b.floats(c.Hidden), b.floats(rows)
	queries, keys := b.heads(qkv, c.Heads), b.heads(qkv.Columns(b.queries), c.KVHeads)
	operations := []operation{
		{"norm", func(int) { d.RMSNorm(y, x, weight, roots, rows, float32(c.NormEps)) }},
		{"rotate queries", func(int) { d.Rotate(turned, queries) }},
		{"rotate keys", func(int) { d.Rotate(turned, keys) }},
		{"gate", func(int) { d.SwiGLU(act, gateUp, rows, c.FFN) }},
	}
	operations = append(operations, b.cacheOperations(positions, group, shared)...)
	operations = append(operations, b.choosing()...)
	operations = append(operations, b.layersOfProducts()...)
	return b.measure(fmt.Sprintf("%d at %d", sequences, positions), c.Layers, operations, DecodingKernels(c, sequences, positions, group, shared), ceilings)
}

// cacheOperations are over a cache in which every sequence has so many positions, the last of which is new: by itself, and with
// the first ones in pages that groups share.
func (b *bed) cacheOperations(positions, group, shared int) []operation {
	b.t.Helper()
	d, c := b.device, b.config
	each := (positions + device.PageTokens - 1) / device.PageTokens
	pages, err := d.NewPages(device.PageShape{DType: device.BF16, Layers: c.Layers, KVHeads: c.KVHeads, Dim: c.HeadDim, Pages: b.rows * each})
	must(b.t, err)
	b.pages = append(b.pages, pages)
	b.fill(pages, each)
	alone, together := b.placed(positions, each, 1, 0), b.placed(positions, each, group, shared/device.PageTokens)
	q, out := b.activations(b.rows, b.queries), b.activations(b.rows, b.queries)
	k, v := b.activations(b.rows, b.keys), b.activations(b.rows, b.keys)
	attend := func(at *device.Placement) func(i int) {
		return func(i int) { d.AttendPages(out, q, pages, i%c.Layers, c.Heads, 0.1, at) }
	}
	return []operation{
		{"write pages", func(i int) { d.WritePages(pages, i%c.Layers, k, v, alone) }},
		{"attend pages", attend(alone)},
		{"attend pages, shared", attend(together)},
	}
}

// fill writes random keys and values to every page of every layer.
func (b *bed) fill(pages device.Pages, each int) {
	b.t.Helper()
	n := each * device.PageTokens
	k, v := b.activations(n, b.keys), b.activations(n, b.keys)
	for s := range b.rows {
		at := &device.Placement{Offsets: []int32{0, int32(n)}, Cached: []int32{0}, Tables: [][]int32{table(s, each)}}
		b.device.Place(at)
		for layer := range b.config.Layers {
			b.device.WritePages(pages, layer, k, v, at)
		}
		must(b.t, b.device.Sync())
		b.device.Free(at.Device)
	}
}

// table are the pages of a sequence that shares none.
func table(sequence, each int) []int32 {
	pages := make([]int32, each)
	for i := range pages {
		pages[i] = int32(sequence*each + i)
	}
	return pages
}

// placed places a new row behind each sequence. Those of a group have their first member's pages at the beginning.
func (b *bed) placed(positions, each, group, shared int) *device.Placement {
	b.t.Helper()
	at := &device.Placement{Offsets: []int32{0}}
	for s := range b.rows {
		pages := table(s, each)
		copy(pages[:shared], table(s/group*group, each))
		at.Offsets, at.Cached, at.Tables = append(at.Offsets, int32(s+1)), append(at.Cached, int32(positions-1)), append(at.Tables, pages)
	}
	b.device.Place(at)
	must(b.t, b.device.Sync())
	b.own(at.Device)
	return at
}

// choosing is the head with the logits of all rows, and drawing tokens from them.
func (b *bed) choosing() []operation {
	b.t.Helper()
	d, c, rows := b.device, b.config, b.rows
	w, _ := b.weights(headMatrix(c), device.Forward)
	x, logits := b.activations(rows, c.Hidden), device.Dense(b.floats(rows*c.VocabSize), c.VocabSize)
	how := make([]device.Sampling, rows)
	for i := range how {
		how[i] = device.Sampling{Temperature: 1, TopP: 1, Uniform: b.random.Float64()}
	}
	must(b.t, d.PlaceSampling(&b.draws, how, c.VocabSize))
	return []operation{
		{"head", func(int) { d.Product(logits, x, rows, w, false) }},
		{"draw", func(int) { d.Draw(&b.draws, logits) }},
	}
}

// layersOfProducts are products with the matrices of every layer in turn.
func (b *bed) layersOfProducts() []operation {
	b.t.Helper()
	d, rows := b.device, b.rows
	var all []operation
	for which, m := range blockMatrices(b.config) {
		layers := make([]device.Weights, b.config.Layers)
		for l := range layers {
			layers[l], _ = b.weights(m, device.Forward)
		}
		x, y, base := b.activations(rows, m.in), b.activations(rows, m.out), b.activations(rows, m.out)
		run := func(i int) { d.Product(y, x, rows, layers[i%len(layers)], false) }
		if onto(which) {
			run = func(i int) { d.ProductOnto(y, base, x, rows, layers[i%len(layers)]) }
		}
		all = append(all, operation{"product " + matrixNames[which], run})
	}
	return all
}
