package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
)

// Parameter is one weight tensor and its gradient. Data and Grad are views: writing to them changes
// the model.
type Parameter struct {
	// Name is Hugging Face's name, for example "model.layers.0.self_attn.q_proj.weight".
	Name string
	// Shape has one entry for a norm's scale, two ([out, in]) for a matrix.
	Shape []int
	// Data and Grad are row-major; len = product of Shape.
	Data []float32
	Grad []float32
}

// Model is a policy network with gradients and the work buffers of its passes. Its methods are used
// by one goroutine at a time.
type Model struct {
	config     Config
	net        *network
	grads      tensors
	parameters []Parameter
	work       workspace
}

// New makes a network with random weights that depend on the shape and the seed alone. Matrices are
// normal with deviation 1/√(inputs), so that a layer keeps the scale of what it reads whatever the
// width; those that write into the residual stream are scaled by 1/√(2·layers) besides, so that its
// variance does not grow with depth. The tied embedding has deviation 1/√(hidden), which makes the
// first logits of order one, and norms are 1.
func New(c Config, seed uint64) (*Model, error) {
	m, err := newZero(c)
	if err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(seed, 0x706f6c696379))
	for _, p := range m.parameters {
		std := initialDeviation(c, p)
		for i := range p.Data {
			if len(p.Shape) == 1 {
				p.Data[i] = 1
			} else {
				p.Data[i] = float32(random.NormFloat64() * std)
			}
		}
	}
	return m, nil
}

// initialDeviation is the standard deviation of a matrix's first weights.
func initialDeviation(c Config, p Parameter) float64 {
	inputs := p.Shape[len(p.Shape)-1] // rows are outputs; of the embedding, tokens
	std := 1 / math.Sqrt(float64(inputs))
	if strings.HasSuffix(p.Name, "o_proj.weight") || strings.HasSuffix(p.Name, "down_proj.weight") {
		std /= math.Sqrt(2 * float64(c.Layers))
	}
	return std
}

// newZero makes a network whose weights are all zero.
func newZero(c Config) (*Model, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	m := &Model{config: c, net: newNetwork(c), grads: carve(c, make([]float32, c.parameterCount()))}
	for _, s := range layout(c) {
		m.parameters = append(m.parameters, Parameter{
			Name: s.name, Shape: s.shape,
			Data: m.net.weights.flat[s.start : s.start+s.size : s.start+s.size],
			Grad: m.grads.flat[s.start : s.start+s.size : s.start+s.size],
		})
	}
	return m, nil
}

// Config is the shape the model was made with.
func (m *Model) Config() Config { return m.config }

// Parameters lists every tensor in a fixed order. The slice is shared: do not change its entries.
func (m *Model) Parameters() []Parameter { return m.parameters }

// ZeroGrad sets every gradient to zero.
func (m *Model) ZeroGrad() { clear(m.grads.flat) }

// CopyFrom overwrites the weights with those of a model of the same shape; gradients stay.
func (m *Model) CopyFrom(other *Model) error {
	if m.config != other.config {
		return fmt.Errorf("copy weights: shapes differ: have %+v, got %+v", m.config, other.config)
	}
	copy(m.net.weights.flat, other.net.weights.flat)
	return nil
}

// Digest identifies shape and weights: "sha256:" and the hexadecimal hash over the config and all
// parameters in order. Equal digests mean equal bits.
func (m *Model) Digest() string {
	hash := sha256.New()
	config, _ := json.Marshal(m.config) // numbers always marshal: Validate rejects infinities
	hash.Write(config)
	var buffer [4096]byte
	for _, p := range m.parameters {
		fmt.Fprintf(hash, "\n%s %v\n", p.Name, p.Shape)
		for data := p.Data; len(data) > 0; {
			n := putFloats(buffer[:], data)
			hash.Write(buffer[:4*n])
			data = data[n:]
		}
	}
	return "sha256:" + hex.EncodeToString(hash.Sum(nil))
}
