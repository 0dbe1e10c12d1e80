package policy

import (
	"cmp"
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// span is one named tensor of the flat layout.
type span struct {
	name  string
	shape []int
	start int
	size  int
}

// part is one of the matrices that lie stacked in a linear layer, by Hugging Face's name.
type part struct {
	name string
	out  int
}

// stack is a linear layer of a block: matrices of the same input whose outputs lie side by side.
type stack struct {
	// module is the part of a tensor's name before that of the part: "self_attn" or "mlp".
	module string
	in     int
	parts  []part
	bias   bool
}

// out is the width of the outputs.
func (s stack) out() int {
	sum := 0
	for _, p := range s.parts {
		sum += p.out
	}
	return sum
}

// The linear layers of a block, in the order of stacks.
const (
	qkvStack = iota
	outputStack
	gateUpStack
	downStack
	stackCount
)

// stacks lists the linear layers of a block.
func (c Config) stacks() [stackCount]stack {
	return [stackCount]stack{
		qkvStack:    {"self_attn", c.Hidden, []part{{"q_proj", c.qDim()}, {"k_proj", c.kvDim()}, {"v_proj", c.kvDim()}}, c.qkvBias()},
		outputStack: {"self_attn", c.qDim(), []part{{"o_proj", c.Hidden}}, c.outputBias()},
		gateUpStack: {"mlp", c.Hidden, []part{{"gate_proj", c.FFN}, {"up_proj", c.FFN}}, false},
		downStack:   {"mlp", c.FFN, []part{{"down_proj", c.Hidden}}, false},
	}
}

// form is what decides which tensors a network has.
type form struct {
	config    Config
	valueHead bool
	lora      LoRA
	// compute is the type that passes compute in, stored that of matrices. No tensor's shape depends on them. rounded says that
	// matrices stored in F32 have numbers of BF16 alone.
	compute, stored device.DType
	rounded         bool
	// kept is how many numbers of a row a device's attention keeps between Attend and AttendBack.
	kept int
}

// newForm is the form of a network of a shape that is made with the options. A network that is trained on a device has
// to say besides what the device's attention keeps.
func newForm(c Config, o Options) form {
	f := form{config: c.Complete(), valueHead: o.ValueHead, lora: o.LoRA, compute: cmp.Or(o.Compute, device.F32), stored: cmp.Or(o.Stored, device.F32)}
	if f.stored == device.BF16 && f.compute == device.F32 {
		f.stored, f.rounded = device.F32, true
	}
	return f
}

// layout lists every tensor in the order of the flat buffer: the base network, the value head and the
// adapters. The matrices of a stack follow each other, and so do their biases, so that each is one.
func (f form) layout() []span {
	c := f.config
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
	stacks := c.stacks()
	add("model.embed_tokens.weight", c.VocabSize, c.Hidden)
	for l := range c.Layers {
		p := layerPrefix(l)
		linear := func(which int) {
			s := stacks[which]
			for _, part := range s.parts {
				add(p+s.module+"."+part.name+".weight", part.out, s.in)
			}
			if s.bias {
				for _, part := range s.parts {
					add(p+s.module+"."+part.name+".bias", part.out)
				}
			}
		}
		add(p+"input_layernorm.weight", c.Hidden)
		linear(qkvStack)
		if c.headNorms() {
			add(p+"self_attn.q_norm.weight", c.HeadDim)
			add(p+"self_attn.k_norm.weight", c.HeadDim)
		}
		linear(outputStack)
		add(p+"post_attention_layernorm.weight", c.Hidden)
		linear(gateUpStack)
		linear(downStack)
	}
	add("model.norm.weight", c.Hidden)
	if c.UntiedHead {
		add("lm_head.weight", c.VocabSize, c.Hidden)
	}
	if f.valueHead {
		add("score.weight", 1, c.Hidden)
		add("score.bias", 1)
	}
	f.adapters(func(module string, out, in int) {
		add("base_model.model."+module+".lora_A.weight", f.lora.Rank, in)
		add("base_model.model."+module+".lora_B.weight", out, f.lora.Rank)
	})
	return all
}

// adapters calls visit for every matrix that has an adapter, in order.
func (f form) adapters(visit func(module string, out, in int)) {
	if f.lora.Rank == 0 {
		return
	}
	for l := range f.config.Layers {
		for _, s := range f.config.stacks() {
			for _, part := range s.parts {
				if f.lora.targets(part.name) {
					visit(layerPrefix(l)+s.module+"."+part.name, part.out, s.in)
				}
			}
		}
	}
	if f.lora.targets(headTarget) {
		visit(headTarget, f.config.VocabSize, f.config.Hidden)
	}
}

func layerPrefix(l int) string { return fmt.Sprintf("model.layers.%d.", l) }

// adapterTensors are the two matrices of an adapter: a [rank × in] and b [out × rank].
type adapterTensors struct{ a, b device.Buffer }

// linearTensors are the views of one linear layer. The bias is absent when the layer has none.
type linearTensors struct {
	matrix, bias device.Buffer
	// adapters are those of its parts that have one, in the order of the parts.
	adapters []adapterTensors
}

// layerTensors are the views of one block. Norms that the family does not have are absent.
type layerTensors struct {
	attnNorm, qNorm, kNorm, ffnNorm device.Buffer
	stacks                          [stackCount]linearTensors
}

// tensors are the views into one flat buffer, of weights or of their gradients. Gradients of what is
// frozen are absent.
type tensors struct {
	embed, norm device.Buffer
	// head is the embedding where the head is tied.
	head   linearTensors
	value  linearTensors
	layers []layerTensors
}

// carve makes the views of a flat buffer that begins with element from of the layout; views of what
// lies before are absent.
func (f form) carve(flat device.Buffer, from int) tensors {
	at := 0
	take := func(n int) device.Buffer {
		start := at - from
		at += n
		if start < 0 {
			return device.Buffer{}
		}
		return flat.Slice(start, start+n)
	}
	return f.view(take, take)
}

// carveApart makes the views where matrices and vectors lie in buffers of their own, each in the order of the layout.
func (f form) carveApart(matrices, vectors device.Buffer) tensors {
	from := func(flat device.Buffer) func(n int) device.Buffer {
		at := 0
		return func(n int) device.Buffer {
			at += n
			return flat.Slice(at-n, at)
		}
	}
	return f.view(from(matrices), from(vectors))
}

// view makes the views, taking each of the next elements of a matrix or of a vector.
func (f form) view(take, vector func(n int) device.Buffer) tensors {
	c := f.config
	stacks := c.stacks()
	linear := func(which int) (t linearTensors) {
		s := stacks[which]
		t.matrix = take(s.out() * s.in)
		if s.bias {
			t.bias = vector(s.out())
		}
		return t
	}
	t := tensors{layers: make([]layerTensors, c.Layers)}
	t.embed = take(c.VocabSize * c.Hidden)
	for l := range t.layers {
		block := &t.layers[l]
		block.attnNorm = vector(c.Hidden)
		block.stacks[qkvStack] = linear(qkvStack)
		if c.headNorms() {
			block.qNorm, block.kNorm = vector(c.HeadDim), vector(c.HeadDim)
		}
		block.stacks[outputStack] = linear(outputStack)
		block.ffnNorm = vector(c.Hidden)
		block.stacks[gateUpStack] = linear(gateUpStack)
		block.stacks[downStack] = linear(downStack)
	}
	t.norm = vector(c.Hidden)
	t.head.matrix = t.embed
	if c.UntiedHead {
		t.head.matrix = take(c.VocabSize * c.Hidden)
	}
	if f.valueHead {
		t.value.matrix, t.value.bias = take(c.Hidden), vector(1)
	}
	f.carveAdapters(&t, take)
	return t
}

func (f form) carveAdapters(t *tensors, take func(n int) device.Buffer) {
	if f.lora.Rank == 0 {
		return
	}
	adapter := func(into *linearTensors, out, in int) {
		a := take(f.lora.Rank * in)
		into.adapters = append(into.adapters, adapterTensors{a, take(out * f.lora.Rank)})
	}
	for l := range t.layers {
		for which, s := range f.config.stacks() {
			for _, part := range s.parts {
				if f.lora.targets(part.name) {
					adapter(&t.layers[l].stacks[which], part.out, s.in)
				}
			}
		}
	}
	if f.lora.targets(headTarget) {
		adapter(&t.head, f.config.VocabSize, f.config.Hidden)
	}
}

// vectors is the number of elements of norms and biases.
func (f form) vectors() int {
	total := 0
	for _, s := range f.layout() {
		if len(s.shape) == 1 {
			total += s.size
		}
	}
	return total
}

// size is the number of elements of the whole layout, trainFrom that of the part before what is trained.
func (f form) size() int {
	spans := f.layout()
	last := spans[len(spans)-1]
	return last.start + last.size
}

// trainFrom is the element of the layout from which on everything is trained: with adapters, the base
// network before it is frozen.
func (f form) trainFrom() int {
	if f.lora.Rank == 0 {
		return 0
	}
	return f.config.parameterCount()
}
