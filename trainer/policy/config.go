package policy

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strings"
)

// Family names a decoder layout, as Hugging Face's model_type does.
type Family string

// The families. They share everything but what a block does to its queries, keys and values.
const (
	// Qwen3 normalises each query and key head (arXiv 2505.09388).
	Qwen3 Family = "qwen3"
	// Qwen2 adds a bias to queries, keys and values (arXiv 2407.10671).
	Qwen2 Family = "qwen2"
	// Llama does neither (arXiv 2407.21783).
	Llama Family = "llama"
)

var families = []Family{Qwen3, Qwen2, Llama}

// Config is the shape of the network. The zero values of fields that say so stand for defaults, which
// New and Complete fill in.
type Config struct {
	// Family is the decoder layout: qwen3, qwen2 or llama. Empty means qwen3.
	Family Family `yaml:"family" json:"family,omitempty" jsonschema:"enum=qwen3,enum=qwen2,enum=llama"`
	// Layers is the number of transformer blocks.
	Layers int `yaml:"layers" json:"num_hidden_layers"`
	// Hidden is the width of the residual stream.
	Hidden int `yaml:"hidden" json:"hidden_size"`
	// Heads is the number of query heads; a multiple of KVHeads.
	Heads int `yaml:"heads" json:"num_attention_heads"`
	// KVHeads is the number of key/value heads.
	KVHeads int `yaml:"kv_heads" json:"num_key_value_heads"`
	// HeadDim is the width of one head; even, because positions rotate pairs. 0 means hidden/heads.
	HeadDim int `yaml:"head_dim" json:"head_dim"`
	// FFN is the inner width of the feed-forward part.
	FFN int `yaml:"ffn" json:"intermediate_size"`
	// UntiedHead gives the head a matrix of its own; otherwise it is the embedding.
	UntiedHead bool `yaml:"untied_head" json:"untied_head,omitempty"`
	// AttentionBias adds a bias to queries, keys, values and the attention's output. Qwen2 has its own
	// rule, a bias on all but the output, and does not take it.
	AttentionBias bool `yaml:"attention_bias" json:"attention_bias,omitempty"`
	// RopeTheta is the base of the rotation frequencies.
	RopeTheta float64 `yaml:"rope_theta" json:"rope_theta"`
	// RopeScaling stretches the rotations for contexts longer than the network was first trained on.
	RopeScaling RopeScaling `yaml:"rope_scaling" json:"rope_scaling,omitzero"`
	// NormEps is added to the mean square before its root is taken.
	NormEps float64 `yaml:"norm_eps" json:"rms_norm_eps"`
	// MaxPositions is the most tokens one sequence may have.
	MaxPositions int `yaml:"max_positions" json:"max_position_embeddings"`
	// VocabSize is the number of token ids; it comes from the tokenizer.
	VocabSize int `yaml:"-" json:"vocab_size"`
}

// DefaultConfig is the quickstart's policy: about 0.8 million parameters, small enough to train from
// scratch in minutes on two CPU cores. VocabSize is left for the tokenizer to set.
func DefaultConfig() Config {
	return Config{
		Family: Qwen3, Layers: 4, Hidden: 128, Heads: 4, KVHeads: 2, HeadDim: 32, FFN: 384,
		RopeTheta: 10000, RopeScaling: RopeScaling{Type: RopePlain}, NormEps: 1e-6, MaxPositions: 512,
	}
}

// Complete is the config with every default filled in. Two configs describe the same shape just when
// their complete forms are equal.
func (c Config) Complete() Config {
	c.Family = cmp.Or(c.Family, Qwen3)
	if c.HeadDim == 0 && c.Heads > 0 {
		c.HeadDim = c.Hidden / c.Heads
	}
	c.RopeScaling.Type = cmp.Or(c.RopeScaling.Type, RopePlain)
	return c
}

// maxDimension bounds every size so that products of two of them stay far from overflow.
const maxDimension = 1 << 20

// Validate reports every field that is out of range.
func (c Config) Validate() error {
	c = c.Complete()
	var all []error
	if !validFamily(c.Family) {
		all = append(all, fmt.Errorf("family is %q, expected %s", c.Family, listed(families)))
	}
	for _, f := range []struct {
		name  string
		value int
	}{
		{"layers", c.Layers}, {"hidden", c.Hidden}, {"heads", c.Heads}, {"kv_heads", c.KVHeads}, {"head_dim", c.HeadDim},
		{"ffn", c.FFN}, {"max_positions", c.MaxPositions}, {"vocab size", c.VocabSize},
	} {
		if f.value < 1 || f.value > maxDimension {
			all = append(all, fmt.Errorf("%s is %d, must be between 1 and %d", f.name, f.value, maxDimension))
		}
	}
	if c.KVHeads > 0 && c.Heads%c.KVHeads != 0 {
		all = append(all, fmt.Errorf("heads is %d and kv_heads is %d: heads must be a multiple of kv_heads", c.Heads, c.KVHeads))
	}
	if c.HeadDim%2 != 0 {
		all = append(all, fmt.Errorf("head_dim is %d, must be even because positions rotate pairs", c.HeadDim))
	}
	if c.Family == Qwen2 && c.AttentionBias {
		all = append(all, errors.New("attention_bias is true, but qwen2 has a bias on queries, keys and values by itself: leave it out"))
	}
	if !(c.RopeTheta > 0) || math.IsInf(c.RopeTheta, 0) {
		all = append(all, fmt.Errorf("rope_theta is %v, must be positive and finite", c.RopeTheta))
	}
	if !(c.NormEps > 0) || math.IsInf(c.NormEps, 0) {
		all = append(all, fmt.Errorf("norm_eps is %v, must be positive and finite", c.NormEps))
	}
	if err := c.RopeScaling.validate(); err != nil {
		all = append(all, err)
	}
	if len(all) == 0 && c.parameterCount() > maxParameters {
		all = append(all, fmt.Errorf("%d parameters, at most %d fit one network; choose smaller sizes", c.parameterCount(), maxParameters))
	}
	if len(all) > 0 {
		return fmt.Errorf("policy network: %w", errors.Join(all...))
	}
	return nil
}

func validFamily(f Family) bool {
	for _, known := range families {
		if f == known {
			return true
		}
	}
	return false
}

// listed is "a, b or c".
func listed[T ~string](names []T) string {
	text := make([]string, len(names))
	for i, n := range names {
		text[i] = string(n)
	}
	last := len(text) - 1
	return strings.Join(text[:last], ", ") + " or " + text[last]
}

// maxParameters keeps a network and its gradient within 32 GiB.
const maxParameters = 1 << 32

func (c Config) qDim() int   { return c.Heads * c.HeadDim }
func (c Config) kvDim() int  { return c.KVHeads * c.HeadDim }
func (c Config) qkvDim() int { return c.qDim() + 2*c.kvDim() }

// headNorms reports whether queries and keys are normalised head by head.
func (c Config) headNorms() bool { return c.Family == Qwen3 }

// qkvBias and outputBias say where attention adds a bias.
func (c Config) qkvBias() bool    { return c.Family == Qwen2 || c.AttentionBias }
func (c Config) outputBias() bool { return c.Family != Qwen2 && c.AttentionBias }

// parameterCount is the number of weights of a complete config. It is computed in float64, so that no
// size within maxDimension overflows.
func (c Config) parameterCount() int {
	layer := float64(c.Hidden) * float64(c.qkvDim()+c.qDim()+3*c.FFN+2)
	if c.headNorms() {
		layer += 2 * float64(c.HeadDim)
	}
	if c.qkvBias() {
		layer += float64(c.qkvDim())
	}
	if c.outputBias() {
		layer += float64(c.Hidden)
	}
	embedding := float64(c.VocabSize) * float64(c.Hidden)
	total := float64(c.Layers)*layer + embedding + float64(c.Hidden)
	if c.UntiedHead {
		total += embedding
	}
	return int(min(total, math.MaxInt64/2))
}
