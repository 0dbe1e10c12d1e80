package gpubench

import (
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// trainingKernels times what a training step calls, in the order of its calls. Memory that they share is larger than the caches
// of a GPU.
func trainingKernels(t *testing.T, c policy.Config, text string, ceilings Ceilings) []Kernel {
	t.Helper()
	lengths, err := ParseLengths(text)
	must(t, err)
	b := newBed(t, c, Tokens(lengths))
	defer b.free()
	operations := b.betweenOperations()
	operations = append(operations, b.attentionOperations(lengths)...)
	operations = append(operations, b.headOperations()...)
	operations = append(operations, b.updateOperation())
	operations = append(operations, b.productOperations()...)
	return b.measure(text, on(5, 1), operations, TrainingKernels(c, lengths), ceilings)
}

// betweenOperations are those between products.
func (b *bed) betweenOperations() []operation {
	b.t.Helper()
	d, c, rows := b.device, b.config, b.rows
	x, y, stream := b.activations(rows, c.Hidden), b.activations(rows, c.Hidden), b.activations(rows, c.Hidden)
	gateUp, slopes, act := b.activations(rows, 2*c.FFN), b.activations(rows, 2*c.FFN), b.activations(rows, c.FFN)
	qkv, turned := b.activations(rows, b.queries+2*b.keys), b.activations(rows, b.queries)
	weight, sum, roots := b.floats(c.Hidden), b.floats(c.Hidden), b.floats(rows)
	table, tokens := b.activations(c.VocabSize, c.Hidden), b.ints(rows, c.VocabSize)
	gradient, headSum := b.floats(c.VocabSize*c.Hidden), b.floats(c.HeadDim)
	queries, keys := b.heads(qkv, c.Heads), b.heads(qkv.Columns(b.queries), c.KVHeads)
	return []operation{
		{"gather", func(int) { d.Gather(x, table, tokens, rows, c.Hidden) }},
		{"norm", func(int) { d.RMSNorm(y, x, weight, roots, rows, float32(c.NormEps)) }},
		{"rotate queries", func(int) { d.Rotate(turned, queries) }},
		{"rotate keys", func(int) { d.Rotate(turned, keys) }},
		{"gate", func(int) { d.SwiGLU(act, gateUp, rows, c.FFN) }},
		{"gate back", func(int) { d.SwiGLUBack(slopes, act, gateUp, rows, c.FFN) }},
		{"norm back", func(int) { d.RMSNormBack(stream, sum, y, x, weight, roots, rows) }},
		{"rotate queries back", func(int) { d.RotateBack(slopes, headSum, turned, queries) }},
		{"rotate keys back", func(int) { d.RotateBack(slopes, headSum, turned, keys) }},
		{"scatter add", func(int) { d.ScatterAdd(device.Dense(gradient, c.Hidden), tokens, y, rows, c.Hidden) }},
	}
}

func (b *bed) attentionOperations(lengths []int) []operation {
	b.t.Helper()
	d, c := b.device, b.config
	offsets := []int32{0}
	for _, n := range lengths {
		offsets = append(offsets, offsets[len(offsets)-1]+int32(n))
	}
	a := device.Attended{
		Q: b.activations(b.rows, b.queries), K: b.activations(b.rows, b.keys), V: b.activations(b.rows, b.keys),
		Offsets: device.Offsets{Host: offsets, Device: b.upload(offsets)}, Heads: c.Heads, KVHeads: c.KVHeads, Dim: c.HeadDim, Scale: 0.1,
	}
	if kept := d.KeptWidth(device.BF16, c.Heads); kept > 0 {
		a.Kept = b.floats(b.rows * kept)
	}
	out, slope := b.activations(b.rows, b.queries), b.activations(b.rows, b.queries)
	dq, dk, dv := b.activations(b.rows, b.queries), b.activations(b.rows, b.keys), b.activations(b.rows, b.keys)
	return []operation{
		{"attend", func(int) { d.Attend(out, a) }},
		{"attend back", func(int) { d.AttendBack(dq, dk, dv, slope, out, a) }},
	}
}

func (b *bed) headOperations() []operation {
	b.t.Helper()
	d, c := b.device, b.config
	w, master := b.weights(headMatrix(c), device.ForwardBack)
	s := device.Scored{
		X: b.activations(b.rows, c.Hidden), Rows: b.rows, Head: w, Matrix: master, Targets: b.ints(b.rows, c.VocabSize), InverseTemperature: 1,
		LogProbs: b.floats(b.rows), Entropies: b.floats(b.rows),
	}
	known := s
	known.Known = true
	dx, dHead, slopes := b.activations(b.rows, c.Hidden), b.floats(c.VocabSize*c.Hidden), b.floats(b.rows)
	return []operation{
		{"score", func(int) { d.Score(s) }},
		{"score back", func(int) { d.ScoreBack(dx, dHead, slopes, device.Buffer{}, known) }},
	}
}

// updateOperation is an update of as many weights as the network has, in tensors of the sizes of its matrices.
func (b *bed) updateOperation() operation {
	b.t.Helper()
	total := Parameters(b.config)
	memory := [4]device.Buffer{b.floats(total), b.floats(total), b.floats(total), b.floats(total)}
	b.device.Zero(memory[3]) // a second moment is not negative
	var list []device.Tensor
	for from := 0; from < total; {
		to := min(total, from+2*b.config.FFN*b.config.Hidden)
		part := func(i int) device.Buffer { return memory[i].Slice(from, to) }
		list = append(list, device.Tensor{Param: part(0), Grad: part(1), M: part(2), V: part(3), Decay: true})
		from = to
	}
	tensors, err := b.device.NewTensors(list)
	must(b.t, err)
	b.tensors = append(b.tensors, tensors)
	return operation{"update", func(i int) {
		_, err := b.device.Update(tensors, device.Update{
			LearningRate: rate, Beta1: 0.9, Beta2: 0.95, Epsilon: 1e-8, WeightDecay: 0.01, BiasCorrection1: 1, BiasCorrection2: 1, ClipNorm: 1, Seed: 3, Step: uint32(i + 1),
		})
		must(b.t, err)
	}}
}

// productOperations are those of a block's matrices: forward, added to the residual stream where a block does so, and for the
// gradients of inputs and of weights.
func (b *bed) productOperations() []operation {
	b.t.Helper()
	d, rows := b.device, b.rows
	var all []operation
	for i, m := range blockMatrices(b.config) {
		w, _ := b.weights(m, device.ForwardBack)
		x, y, base, dw := b.activations(rows, m.in), b.activations(rows, m.out), b.activations(rows, m.out), b.floats(m.out*m.in)
		forward := func(int) { d.Product(y, x, rows, w, false) }
		if onto(i) {
			forward = func(int) { d.ProductOnto(y, base, x, rows, w) }
		}
		all = append(all,
			operation{"product " + matrixNames[i], forward},
			operation{"product " + matrixNames[i] + ", inputs", func(int) { d.ProductBack(x, y, rows, w, false) }},
			operation{"product " + matrixNames[i] + ", weights", func(int) { d.ProductGrad(dw, y, x, rows, m.out, m.in) }},
		)
	}
	return all
}
