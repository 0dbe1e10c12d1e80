package policy

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// Parameter is one weight tensor and its gradient. Data and Grad are views into the device's memory:
// writing to them changes the model. Before writing to Data call [Model.Detach], after it [Model.Refresh].
type Parameter struct {
	// Name is Hugging Face's name, for example "model.layers.0.self_attn.q_proj.weight"; of an adapter
	// it is PEFT's.
	Name string
	// Shape has one entry for a norm's scale or a bias, two ([out, in]) for a matrix.
	Shape []int
	// Data is row-major, in float32 or, of a matrix, in the stored type; len = product of Shape. Where that is BF16,
	// Detach may move it.
	Data device.Buffer
	// Grad is absent when the parameter is frozen.
	Grad device.Buffer
	// Rounded says that Data is a matrix of float32 that has numbers of BF16 alone; see Options.Stored.
	Rounded bool
}

// Options say what a model has besides the base network. The zero value trains every weight and keeps
// all activations.
type Options struct {
	// Seed decides everything drawn at random.
	Seed uint64
	// Recompute keeps only the residual stream before each block for the backward pass, which computes
	// the rest again: less memory for nearly a second forward pass, and the same bits.
	Recompute bool
	// ValueHead adds a linear map from the last hidden state to one number per token. It starts at zero.
	ValueHead bool
	// LoRA adds adapters and freezes the base network; the value head, if there is one, stays trained.
	LoRA LoRA
	// Frozen makes a model that only scores: it has no gradients.
	Frozen bool
	// Compute is the type of activations, of the cache of keys and values, and of the weights that products
	// read: F32 or, on a device that supports it, BF16. 0 means F32. Gradients and all scores are float32 in
	// either, and so is what is saved; Stored says of what type the weights themselves are.
	Compute device.DType
	// Stored is the type in which matrices are kept: F32, or BF16. Then they take half the memory and
	// products read them where they are, an optimizer's step rounds them stochastically, and adapters are not to be had. On a
	// device that does not support BF16, where Compute is F32, they are kept as float32 and have the same numbers, which steps round alike.
	// Norms, biases, gradients and all scores are float32 in either. 0 means F32.
	Stored device.DType
}

// Model is a policy network with gradients and the work buffers of its passes. Its methods are used
// by one goroutine at a time.
type Model struct {
	dev        device.Device
	form       form
	options    Options
	weights    device.Buffer // all parameters in the order of the layout, or the vectors where matrices are stored in BF16
	matrices   device.Buffer // where they are stored in BF16, in the order of the layout, until the first forms own them
	grads      device.Buffer // of what is trained; absent when nothing is
	net        *network
	forms      forms // what net reads of matrices
	parameters []Parameter
	moves      int
	lanes      []lane
	batch      batch
	scratches  scratches
	piece      []float32 // staging for weights on their way
	offered    offering

	// The tasks of passes, bound once so that a pass allocates nothing.
	forwardTask, backwardTask func(task int)

	carried carried
}

// New makes a network with random weights that depend on the shape and the seed alone. Matrices are
// normal with deviation 1/√(inputs), so that a layer keeps the scale of what it reads whatever the
// width; those that write into the residual stream are scaled by 1/√(2·layers) besides, so that its
// variance does not grow with depth. The embedding has deviation 1/√(hidden), which makes the first
// logits of order one where the head is tied; norms are 1 and biases 0.
func New(dev device.Device, c Config, o Options) (*Model, error) {
	m, err := newZero(dev, c, o)
	if err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(o.Seed, 0x706f6c696379))
	for _, p := range m.parameters {
		if !adapted(p.Name) {
			m.fill(p, initial(m.form.config, p, random))
		}
	}
	return m.ready()
}

// adapted reports whether a tensor belongs to an adapter.
func adapted(name string) bool { return strings.HasPrefix(name, "base_model.") }

// initial draws the elements of a tensor of the base network.
func initial(c Config, p Parameter, random *rand.Rand) func() float32 {
	switch {
	case strings.HasPrefix(p.Name, "score.") || strings.HasSuffix(p.Name, ".bias"):
		return func() float32 { return 0 }
	case len(p.Shape) == 1:
		return func() float32 { return 1 }
	}
	std := 1 / math.Sqrt(float64(p.Shape[1])) // rows are outputs; of the embedding, tokens
	if strings.HasSuffix(p.Name, "o_proj.weight") || strings.HasSuffix(p.Name, "down_proj.weight") {
		std /= math.Sqrt(2 * float64(c.Layers))
	}
	return func() float32 { return float32(random.NormFloat64() * std) }
}

// initialiseAdapters draws A uniformly from ±1/√in, PEFT's default, and leaves B at zero.
func (m *Model) initialiseAdapters() {
	random := rand.New(rand.NewPCG(m.options.Seed, 0x6c6f7261))
	for _, p := range m.parameters {
		if strings.HasSuffix(p.Name, ".lora_A.weight") {
			bound := 1 / math.Sqrt(float64(p.Shape[1]))
			m.fill(p, func() float32 { return float32((2*random.Float64() - 1) * bound) })
		}
	}
}

// pieceElements is how many weights are on their way between host and device at a time.
const pieceElements = 1 << 16

// fill sets every element of a parameter in order.
func (m *Model) fill(p Parameter, next func() float32) {
	for from := 0; from < p.Data.Len(); from += pieceElements {
		m.piece = resized(m.piece, min(pieceElements, p.Data.Len()-from))
		for i := range m.piece {
			m.piece[i] = next()
		}
		m.bring(p, from)
	}
}

// maxLanes bounds how many chunks are in the backward pass at the same time.
const maxLanes = 8

// laneCount is how many partial gradients a network of so many trained parameters has. It depends on
// nothing else, so that sums run in the same order whatever the number of threads. All but the first
// cost memory: at most 6 MB up to a quarter of a million parameters, 24 MB up to two million, 64 MB
// up to sixteen million. Larger networks have one lane, because their products are large enough to use
// all cores by themselves.
func laneCount(parameters int) int {
	switch {
	case parameters <= 1<<18:
		return maxLanes
	case parameters <= 1<<21:
		return 4
	case parameters <= 1<<24:
		return 2
	default:
		return 1
	}
}

// newZero makes a model whose weights are all zero, without the forms that passes read.
func newZero(dev device.Device, c Config, o Options) (*Model, error) {
	c = c.Complete()
	if err := errors.Join(c.Validate(), o.LoRA.Validate()); err != nil {
		return nil, err
	}
	f := newForm(c, o)
	f.kept = dev.KeptWidth(f.compute, f.config.Heads)
	if o.Compute, o.Stored = f.compute, f.stored; f.rounded {
		o.Stored = device.BF16
	}
	if err := device.ComputesIn(dev, f.compute); err != nil {
		return nil, fmt.Errorf("policy network: %w", err)
	}
	if err := f.checkStored(dev); err != nil {
		return nil, fmt.Errorf("policy network: %w", err)
	}
	m := &Model{dev: dev, form: f, options: o, scratches: scratches{dev: dev, form: f}}
	m.forwardTask, m.backwardTask = m.forwardChunk, m.backwardLane
	var err error
	flat := f.size()
	if f.stored == device.BF16 {
		flat = f.vectors()
		if m.matrices, err = dev.Allocate(device.ForWeights, f.stored, f.size()-flat); err != nil {
			return nil, fmt.Errorf("policy network: %w", err)
		}
	}
	if m.weights, err = dev.Allocate(device.ForWeights, device.F32, flat); err != nil {
		m.Free()
		return nil, fmt.Errorf("policy network: %w", err)
	}
	from := f.trainFrom()
	if trained := f.size() - from; trained > 0 && !o.Frozen {
		if m.grads, err = dev.Allocate(device.ForGradients, device.F32, trained); err != nil {
			m.Free()
			return nil, fmt.Errorf("policy network: %w", err)
		}
		m.lanes = make([]lane, laneCount(trained))
		m.lanes[0] = lane{flat: m.grads, tensors: f.carve(m.grads, from)}
	}
	for _, s := range f.layout() {
		p := Parameter{Name: s.name, Shape: s.shape, Rounded: f.rounded && len(s.shape) > 1}
		if !m.grads.Absent() && s.start >= from {
			p.Grad = m.grads.Slice(s.start-from, s.start-from+s.size)
		}
		m.parameters = append(m.parameters, p)
	}
	m.locate()
	m.initialiseAdapters()
	return m, nil
}

// ready returns the model with the forms that passes read, once the weights are there. On an error the
// model is freed.
func (m *Model) ready() (*Model, error) {
	use := device.ForwardBack
	if m.grads.Absent() {
		use = device.Forward
	}
	net, forms, err := assemble(m.dev, m.form, m.carved(), m.matrices, use)
	if err != nil {
		m.Free()
		return nil, fmt.Errorf("policy network: %w", err)
	}
	m.net, m.forms, m.matrices = net, forms, device.Buffer{}
	m.forms.trained.moved = m.move
	return m, nil
}

// Free gives all memory back, but for the forms that networks still read, which go with them. The model must not be
// used again.
func (m *Model) Free() {
	m.offered.mu.Lock()
	m.offered.lapse()
	m.offered.mu.Unlock()
	m.dropKept()
	m.scratches.drop()
	b := &m.batch
	for _, buffer := range []device.Buffer{b.intsOnDevice, b.scoresMemory, b.liveOnDevice, b.liveMemory, b.liveValues, m.grads, m.weights, m.matrices} {
		m.dev.Free(buffer)
	}
	for i := range m.lanes {
		if i > 0 {
			m.dev.Free(m.lanes[i].flat)
		}
		m.dev.Free(m.lanes[i].joined)
	}
	if m.net != nil {
		m.net.free()
		m.forms.end()
	}
	m.lanes, m.net, m.batch = nil, nil, batch{}
	m.grads, m.weights, m.matrices = device.Buffer{}, device.Buffer{}, device.Buffer{}
}

// Config is the shape the model was made with, complete.
func (m *Model) Config() Config { return m.form.config }

// Options are those the model was made with.
func (m *Model) Options() Options { return m.options }

// Device is where the model computes.
func (m *Model) Device() device.Device { return m.dev }

// Parameters lists every tensor in a fixed order. The slice is shared: do not change its entries.
func (m *Model) Parameters() []Parameter { return m.parameters }

// ZeroGrad sets every gradient to zero.
func (m *Model) ZeroGrad() {
	if !m.grads.Absent() {
		m.dev.Zero(m.grads)
	}
}

// Detach makes the forms that the model's passes read its own: those that networks of [Model.Share] read stay as they
// are, and others, whose contents are unspecified, take their place. It is called before anything writes forms, and
// before an optimizer's step: the error, an *[device.OutOfMemory] where there is no memory for others, leaves
// the weights as they were. An offer that nobody has taken lapses.
func (m *Model) Detach() error {
	m.offered.mu.Lock()
	defer m.offered.mu.Unlock()
	m.offered.lapse()
	if err := m.forms.each((*rotation).detach); err != nil {
		return fmt.Errorf("policy network: %w", err)
	}
	return nil
}

// Refresh makes passes see what has been written to Parameter.Data since the last call, after [Model.Detach]. The error
// is that of Detach; then passes are of no use until a call succeeds.
func (m *Model) Refresh() error {
	if err := m.Detach(); err != nil {
		return err
	}
	m.net.head.join(m.dev)
	m.forms.frozen.refresh()
	m.forms.trained.refresh()
	return nil
}

// DetachTrained and RefreshTrained are Detach and Refresh for what changes trained parameters alone, as an optimizer's
// step does: forms of frozen matrices stay.
func (m *Model) DetachTrained() error {
	m.offered.mu.Lock()
	defer m.offered.mu.Unlock()
	m.offered.lapse()
	if err := m.forms.trained.detach(); err != nil {
		return fmt.Errorf("policy network: %w", err)
	}
	return nil
}

// RefreshTrained is described at DetachTrained.
func (m *Model) RefreshTrained() error {
	if err := m.DetachTrained(); err != nil {
		return err
	}
	m.net.head.join(m.dev)
	m.forms.trained.refresh()
	return nil
}

// CopyFrom overwrites the weights with those of a model of the same shape; gradients stay.
func (m *Model) CopyFrom(other *Model) error {
	if err := m.form.same(other.form); err != nil {
		return fmt.Errorf("copy weights: %w", err)
	}
	if err := m.Detach(); err != nil {
		return err
	}
	m.dev.Copy(m.weights, other.weights)
	if m.form.stored == device.BF16 {
		m.dev.Copy(m.stored(), other.stored())
	}
	return m.Refresh()
}

// same reports how two networks' tensors differ.
func (f form) same(other form) error {
	switch {
	case f.config != other.config:
		return fmt.Errorf("shapes differ: have %+v, got %+v", f.config, other.config)
	case f.stored != other.stored || f.rounded != other.rounded:
		return fmt.Errorf("stored types differ: have %s, rounded %t, got %s, rounded %t", f.stored, f.rounded, other.stored, other.rounded)
	case f.valueHead != other.valueHead:
		return fmt.Errorf("value heads differ: have %t, got %t", f.valueHead, other.valueHead)
	case !f.lora.equal(other.lora):
		return fmt.Errorf("adapters differ: have %+v, got %+v", f.lora, other.lora)
	}
	return nil
}

// Memory is what a model holds, in bytes.
type Memory struct {
	// Parameters are the weights, Gradients those of what is trained.
	Parameters int64 `json:"parameters"`
	Gradients  int64 `json:"gradients"`
	// Activations are kept between forward and backward, for the largest batch so far.
	Activations int64 `json:"activations"`
	// Workspace is everything else but the forms in which products read the weights: partial gradients
	// and the buffers of tasks, tokens and scores.
	Workspace int64 `json:"workspace"`
}

// Memory accounts for the buffers held at the moment. The device's own usage is larger by the forms of
// the weight matrices and by what operations keep for themselves.
func (m *Model) Memory() Memory {
	b := &m.batch
	memory := Memory{Parameters: m.weights.Bytes() + m.stored().Bytes(), Gradients: m.grads.Bytes()}
	for _, kept := range b.memory {
		memory.Activations += kept.bytes()
	}
	for _, buffer := range []device.Buffer{b.intsOnDevice, b.scoresMemory, b.liveOnDevice, b.liveMemory, b.liveValues, m.net.cos, m.net.sin} {
		memory.Workspace += buffer.Bytes()
	}
	for i := range m.lanes {
		if i > 0 {
			memory.Workspace += m.lanes[i].flat.Bytes()
		}
		memory.Workspace += m.lanes[i].joined.Bytes()
	}
	m.scratches.mu.Lock()
	defer m.scratches.mu.Unlock()
	memory.Workspace += m.scratches.bytes
	return memory
}
