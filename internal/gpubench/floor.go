package gpubench

import (
	"time"

	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// Sizes of elements, in bytes: of bf16, and of float32.
const (
	narrow = 2
	wide   = 4
)

// Part is a part of a step and what it takes at least.
type Part struct {
	Name string
	// Bytes go between the GPU's memory and its processors when every operand is read once and every result written once.
	Bytes float64
	// Operations are those of its matrix products, a multiply-add being two. Other arithmetic is not counted.
	Operations float64
}

// Floor is the time below which no GPU computes the part whose memory moves so many bytes a second and whose tensor cores
// do so many operations.
func (p Part) Floor(bytesPerSecond, operationsPerSecond float64) time.Duration {
	return time.Duration(max(p.Bytes/bytesPerSecond, p.Operations/operationsPerSecond) * float64(time.Second))
}

// add adds n times what a part takes.
func (p *Part) add(n int, bytes, operations float64) {
	p.Bytes += float64(n) * bytes
	p.Operations += float64(n) * operations
}

// Floor is the sum of the parts' floors.
func Floor(parts []Part, bytesPerSecond, operationsPerSecond float64) time.Duration {
	total := time.Duration(0)
	for _, p := range parts {
		total += p.Floor(bytesPerSecond, operationsPerSecond)
	}
	return total
}

// Sum is all parts together.
func Sum(parts []Part) Part {
	total := Part{Name: "all"}
	for _, p := range parts {
		total.add(1, p.Bytes, p.Operations)
	}
	return total
}

// matrix is the shape of a weight matrix.
type matrix struct{ out, in int }

func (m matrix) elements() float64 { return float64(m.out) * float64(m.in) }

// widths are those of queries and of keys, which values share.
func widths(c policy.Config) (q, kv int) { return c.Heads * c.HeadDim, c.KVHeads * c.HeadDim }

// blockMatrices are the matrices of one block, in the order of a pass. Those whose result is added to the residual stream
// come second and fourth.
func blockMatrices(c policy.Config) [4]matrix {
	q, kv := widths(c)
	return [4]matrix{{q + 2*kv, c.Hidden}, {c.Hidden, q}, {2 * c.FFN, c.Hidden}, {c.Hidden, c.FFN}}
}

// onto reports whether the product with the i-th matrix of a block is added to the residual stream.
func onto(i int) bool { return i%2 == 1 }

// Multiplied is the number of weights that a token is multiplied with: the matrices of all blocks and the head, tied or not.
func Multiplied(c policy.Config) float64 {
	n := 0.0
	for _, m := range blockMatrices(c) {
		n += m.elements()
	}
	return float64(c.Layers)*n + headMatrix(c).elements()
}

func headMatrix(c policy.Config) matrix { return matrix{c.VocabSize, c.Hidden} }

// Parameters is the number of all weights of a network of the family qwen3: those of the matrices, of norms, and of an embedding
// of its own where the head is not tied.
func Parameters(c policy.Config) int {
	n := int(Multiplied(c)) + c.Layers*(2*c.Hidden+2*c.HeadDim) + c.Hidden
	if c.UntiedHead {
		n += c.VocabSize * c.Hidden
	}
	return n
}

// Pairs is how many pairs of a token and one that it attends to, itself included, sequences have: n(n+1)/2 of n tokens.
func Pairs(lengths []int) float64 {
	n := 0.0
	for _, length := range lengths {
		n += float64(length) * float64(length+1) / 2
	}
	return n
}

// Tokens is the sum of the lengths.
func Tokens(lengths []int) int {
	n := 0
	for _, length := range lengths {
		n += length
	}
	return n
}

// ForwardOperations is what the products of a forward pass take: 2·N for each token, where N is [Multiplied], and
// 4·heads·width for each pair of [Pairs] in each layer, for its score and for its part of the sum.
func ForwardOperations(c policy.Config, lengths []int) float64 {
	q, _ := widths(c)
	return 2*Multiplied(c)*float64(Tokens(lengths)) + 4*float64(q)*Pairs(lengths)*float64(c.Layers)
}

// ModelOperations is what a training step takes by the usual count, that of model-flops utilization (arXiv 2204.02311, appendix
// B): three forward passes, since each product has two more in the backward pass. What is computed again is not counted, and
// neither are pairs that a causal mask hides.
func ModelOperations(c policy.Config, lengths []int) float64 {
	return 3 * ForwardOperations(c, lengths)
}

// Weights is how a network's weights are kept between steps.
type Weights int

// The ways. Gradients and the optimizer's moments are float32 in either.
const (
	// Masters are float32, beside forms in bf16 that products read.
	Masters Weights = iota
	// Narrow are bf16 alone.
	Narrow
)

// optimizerBytes is what an optimizer's step moves for each weight: its gradient is read for the norm; gradient, weight and two
// moments are read and the last three written; masters have a form to be written; the gradient is zeroed.
func optimizerBytes(w Weights) float64 {
	weight, form := float64(wide), float64(narrow)
	if w == Narrow {
		weight, form = narrow, 0
	}
	return wide + (wide + weight + 2*wide) + (weight + 2*wide) + form + wide
}

// TrainingParts are what a training step of packed sequences takes at least, in bf16: all activations are kept but what is
// cheaper to compute again, which is the results of norms, rotations and gates, attention's weights and logits.
func TrainingParts(c policy.Config, lengths []int, w Weights) []Part {
	c = c.Complete()
	tokens, pairs := float64(Tokens(lengths)), Pairs(lengths)
	forward, inputs, gradients := productParts(c, tokens)
	attend, attendBack := attentionParts(c, tokens, pairs)
	between := Part{Name: "norms, rotations, gates, forward"}
	between.add(1, betweenBytes(c, tokens), 0)
	betweenBack := Part{Name: "norms, rotations, gates, backward"}
	betweenBack.add(1, betweenBackBytes(c, tokens), 0)
	h := float64(c.Hidden)
	embedding := Part{Name: "embedding", Bytes: 3*narrow*tokens*h + 2*wide*min(tokens, float64(c.VocabSize))*h}
	head := headMatrix(c)
	// Forward reads rows and matrix; backward reads both again, writes the rows' gradient, and adds to the matrix's.
	scores := Part{Name: "head and its loss", Bytes: 3*narrow*tokens*h + (2*narrow+2*wide)*head.elements(), Operations: 8 * tokens * head.elements()}
	update := Part{Name: "optimizer", Bytes: optimizerBytes(w) * float64(Parameters(c))}
	return []Part{embedding, forward, attend, between, scores, inputs, gradients, attendBack, betweenBack, update}
}

// ScoringParts are what a forward pass takes at least, in bf16, that yields the log-probability and the entropy of each token and
// keeps nothing.
func ScoringParts(c policy.Config, lengths []int) []Part {
	c = c.Complete()
	tokens, h := float64(Tokens(lengths)), float64(c.Hidden)
	forward, _, _ := productParts(c, tokens)
	attend, _ := attentionParts(c, tokens, Pairs(lengths))
	head := headMatrix(c)
	return []Part{
		{Name: "embedding", Bytes: 2 * narrow * tokens * h}, forward, attend, {Name: "norms, rotations, gates", Bytes: betweenBytes(c, tokens)},
		{Name: "head", Bytes: narrow * (tokens*h + head.elements()), Operations: 2 * tokens * head.elements()},
	}
}

// productParts are the products of all blocks: forward, for the gradients of inputs, and for those of weights, which
// are added to.
func productParts(c policy.Config, rows float64) (forward, inputs, gradients Part) {
	forward.Name, inputs.Name, gradients.Name = "products, forward", "products, gradients of inputs", "products, gradients of weights"
	for i, m := range blockMatrices(c) {
		weights, through := m.elements(), rows*float64(m.in+m.out)
		base := 0.0
		if onto(i) {
			base = rows * float64(m.out)
		}
		operations := 2 * rows * weights
		forward.add(c.Layers, narrow*(weights+through+base), operations)
		inputs.add(c.Layers, narrow*(weights+through), operations)
		gradients.add(c.Layers, narrow*through+2*wide*weights, operations)
	}
	return forward, inputs, gradients
}

// attentionParts keep one number of each row and query head between the two. Forward has two products for each pair, backward
// five: the scores again, and the gradients of weights, values, queries and keys.
func attentionParts(c policy.Config, tokens, pairs float64) (forward, back Part) {
	queries, keys := widths(c)
	q, kv := tokens*float64(queries), tokens*float64(keys)
	sums := wide * tokens * float64(c.Heads)
	product := 2 * pairs * float64(queries)
	forward.Name, back.Name = "attention, forward", "attention, backward"
	forward.add(c.Layers, narrow*(q+2*kv+q)+sums, 2*product)
	back.add(c.Layers, narrow*(3*q+2*kv+q+2*kv)+sums, 5*product)
	return forward, back
}

// betweenBytes are those of norms, of normalizing and rotating queries and keys, and of gates in a forward pass.
func betweenBytes(c policy.Config, rows float64) float64 {
	q, kv := widths(c)
	norm, rotation, gate := 2*float64(c.Hidden), 2*float64(q+kv), 3*float64(c.FFN)
	return narrow * rows * (float64(c.Layers)*(2*norm+rotation+gate) + norm)
}

// betweenBackBytes are those of the backward pass. A norm reads its input, the gradient of its result and what it adds to, and
// writes the sum and its result again; a rotation is made again, which reads its input and writes its result, and then reads
// input and gradient and writes one; a gate reads two halves and a gradient, and writes two gradients and its result again.
func betweenBackBytes(c policy.Config, rows float64) float64 {
	q, kv := widths(c)
	norm, rotation, gate := 5*float64(c.Hidden), (2+3)*float64(q+kv), 6*float64(c.FFN)
	return narrow * rows * (float64(c.Layers)*(2*norm+rotation+gate) + 4*float64(c.Hidden))
}

// Cached is the bytes of the keys and values of one position in all layers.
func Cached(c policy.Config) float64 {
	_, kv := widths(c)
	return narrow * 2 * float64(kv) * float64(c.Layers)
}

// DecodingParts are what the pass takes at least, in bf16, that continues each of some sequences of so many positions by one
// token. Of these positions, shared ones at the beginning are the same for every group of so many sequences, and are read once
// for all of them; groups of one share nothing.
func DecodingParts(c policy.Config, sequences, positions, group, shared int) []Part {
	c = c.Complete()
	rows, n := float64(sequences), float64(positions)
	products := Part{Name: "products"}
	for i, m := range blockMatrices(c) {
		through := rows * float64(m.in+m.out)
		if onto(i) {
			through += rows * float64(m.out)
		}
		products.add(c.Layers, narrow*(m.elements()+through), 2*rows*m.elements())
	}
	q, _ := widths(c)
	read := rows*n - rows*float64(shared)*(1-1/float64(group))
	attention := Part{
		Name: "keys and values", Bytes: (read+rows)*Cached(c) + 2*narrow*rows*float64(q)*float64(c.Layers),
		Operations: 4 * float64(q) * rows * n * float64(c.Layers),
	}
	between := Part{Name: "norms, rotations, gates", Bytes: betweenBytes(c, rows) + 2*narrow*rows*float64(c.Hidden)}
	matrix := headMatrix(c)
	logits := wide * rows * float64(c.VocabSize)
	head := Part{Name: "head", Bytes: narrow*(matrix.elements()+rows*float64(c.Hidden)) + logits, Operations: 2 * rows * matrix.elements()}
	return []Part{products, attention, between, head, {Name: "sampling", Bytes: logits}}
}

// DecodingBytes is what such a pass has to read of weights, keys and values, the count that the bandwidth of decoding is
// given in: nothing that an implementation might avoid.
func DecodingBytes(c policy.Config, sequences int, positions float64) float64 {
	return narrow*Multiplied(c) + float64(sequences)*positions*Cached(c)
}
