package gpubench

import "github.com/turnwise-rl/turnwise/trainer/policy"

// The names of a block's matrices, in their order.
var matrixNames = [4]string{"qkv", "o", "gate-up", "down"}

// TrainingKernels are what one call of each operation of a training step takes at least, in bf16: of one layer where every layer
// has it. Clearing gradients and bringing forms up to date are not among them.
func TrainingKernels(c policy.Config, lengths []int) []Part {
	c = c.Complete()
	tokens, h := float64(Tokens(lengths)), float64(c.Hidden)
	row := narrow * tokens * h
	queries, keys := widths(c)
	q, kv, f := narrow*tokens*float64(queries), narrow*tokens*float64(keys), narrow*tokens*float64(c.FFN)
	layer := c
	layer.Layers = 1
	attend, attendBack := attentionParts(layer, tokens, Pairs(lengths))
	attend.Name, attendBack.Name = "attend", "attend back"
	head := headMatrix(c).elements()
	all := []Part{
		{Name: "gather", Bytes: 2 * row},
		{Name: "norm", Bytes: 2 * row},
		{Name: "rotate queries", Bytes: 2 * q},
		{Name: "rotate keys", Bytes: 2 * kv},
		attend,
		{Name: "gate", Bytes: 3 * f},
		{Name: "score", Bytes: row + narrow*head, Operations: 2 * tokens * head},
		{Name: "score back", Bytes: 2*row + (narrow+2*wide)*head, Operations: 6 * tokens * head},
		{Name: "gate back", Bytes: 6 * f},
		{Name: "norm back", Bytes: 5 * row},
		attendBack,
		{Name: "rotate queries back", Bytes: 3 * q},
		{Name: "rotate keys back", Bytes: 3 * kv},
		{Name: "scatter add", Bytes: row + 2*wide*min(tokens, float64(c.VocabSize))*h},
		// Gradients are read for the norm, then they and the weights with their moments for the update.
		{Name: "update", Bytes: (wide + 4*wide + 3*wide) * float64(Parameters(c))},
	}
	for i, m := range blockMatrices(c) {
		weights, through := m.elements(), narrow*tokens*float64(m.in+m.out)
		base := 0.0
		if onto(i) {
			base = narrow * tokens * float64(m.out)
		}
		operations := 2 * tokens * weights
		all = append(all,
			Part{Name: "product " + matrixNames[i], Bytes: narrow*weights + through + base, Operations: operations},
			Part{Name: "product " + matrixNames[i] + ", inputs", Bytes: narrow*weights + through, Operations: operations},
			Part{Name: "product " + matrixNames[i] + ", weights", Bytes: 2*wide*weights + through, Operations: operations},
		)
	}
	return all
}

// DecodingKernels are what one call of each operation of a decoding pass takes at least, in bf16: see [DecodingParts] for the
// numbers.
func DecodingKernels(c policy.Config, sequences, positions, group, shared int) []Part {
	c = c.Complete()
	rows, h, n := float64(sequences), float64(c.Hidden), float64(positions)
	queries, keys := widths(c)
	q, kv := narrow*rows*float64(queries), narrow*rows*float64(keys)
	both := 2 * narrow * float64(keys) // of a position
	logits := wide * rows * float64(c.VocabSize)
	operations := 4 * float64(queries) * rows * n
	all := []Part{
		{Name: "norm", Bytes: 2 * narrow * rows * h},
		{Name: "rotate queries", Bytes: 2 * q},
		{Name: "rotate keys", Bytes: 2 * kv},
		{Name: "write pages", Bytes: 4 * kv},
		{Name: "attend pages", Bytes: rows*n*both + 2*q, Operations: operations},
		{Name: "attend pages, shared", Bytes: (rows*n-rows*float64(shared)*(1-1/float64(group)))*both + 2*q, Operations: operations},
		{Name: "gate", Bytes: 3 * narrow * rows * float64(c.FFN)},
		{Name: "head", Bytes: narrow*(headMatrix(c).elements()+rows*h) + logits, Operations: 2 * rows * headMatrix(c).elements()},
		{Name: "draw", Bytes: logits},
	}
	for i, m := range blockMatrices(c) {
		through := rows * float64(m.in+m.out)
		if onto(i) {
			through += rows * float64(m.out)
		}
		all = append(all, Part{Name: "product " + matrixNames[i], Bytes: narrow * (m.elements() + through), Operations: 2 * rows * m.elements()})
	}
	return all
}
