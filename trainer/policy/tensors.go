package policy

import "fmt"

// layerTensors are the views of one block into a flat buffer. Matrices are [out × in] as Hugging
// Face stores them; qkv and gateUp are the stacked matrices whose parts follow each other.
type layerTensors struct {
	attnNorm, qNorm, kNorm, ffnNorm []float32
	qkv, o, gateUp, down            []float32
}

// tensors are named views into one flat buffer, the same for weights and for gradients.
type tensors struct {
	flat   []float32
	embed  []float32
	norm   []float32
	layers []layerTensors
}

// span is one named tensor of the flat layout.
type span struct {
	name  string
	shape []int
	start int
	size  int
}

// layout lists every tensor in the order of the flat buffer. Query, key and value matrices follow
// each other, and so do gate and up, so that each group is one matrix.
func layout(c Config) []span {
	var all []span
	at := 0
	add := func(name string, shape ...int) {
		size := 1
		for _, s := range shape {
			size *= s
		}
		all = append(all, span{name: name, shape: shape, start: at, size: size})
		at += size
	}
	add("model.embed_tokens.weight", c.VocabSize, c.Hidden)
	for l := range c.Layers {
		p := fmt.Sprintf("model.layers.%d.", l)
		add(p+"input_layernorm.weight", c.Hidden)
		add(p+"self_attn.q_proj.weight", c.qDim(), c.Hidden)
		add(p+"self_attn.k_proj.weight", c.kvDim(), c.Hidden)
		add(p+"self_attn.v_proj.weight", c.kvDim(), c.Hidden)
		add(p+"self_attn.q_norm.weight", c.HeadDim)
		add(p+"self_attn.k_norm.weight", c.HeadDim)
		add(p+"self_attn.o_proj.weight", c.Hidden, c.qDim())
		add(p+"post_attention_layernorm.weight", c.Hidden)
		add(p+"mlp.gate_proj.weight", c.FFN, c.Hidden)
		add(p+"mlp.up_proj.weight", c.FFN, c.Hidden)
		add(p+"mlp.down_proj.weight", c.Hidden, c.FFN)
	}
	add("model.norm.weight", c.Hidden)
	return all
}

// carve makes the views of a flat buffer of c.parameterCount() elements.
func carve(c Config, flat []float32) tensors {
	rest := flat
	take := func(n int) []float32 {
		part := rest[:n:n]
		rest = rest[n:]
		return part
	}
	t := tensors{flat: flat, layers: make([]layerTensors, c.Layers)}
	t.embed = take(c.VocabSize * c.Hidden)
	for l := range t.layers {
		t.layers[l] = layerTensors{
			attnNorm: take(c.Hidden),
			qkv:      take(c.qkvDim() * c.Hidden),
			qNorm:    take(c.HeadDim),
			kNorm:    take(c.HeadDim),
			o:        take(c.Hidden * c.qDim()),
			ffnNorm:  take(c.Hidden),
			gateUp:   take(2 * c.FFN * c.Hidden),
			down:     take(c.Hidden * c.FFN),
		}
	}
	t.norm = take(c.Hidden)
	return t
}
