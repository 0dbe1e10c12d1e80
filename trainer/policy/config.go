package policy

import (
	"errors"
	"fmt"
	"math"
)

// Config is the shape of the network. The JSON names are those of Hugging Face's config.json for
// Qwen3. The head is tied to the embedding and queries and keys are always normalised.
type Config struct {
	// Layers is the number of transformer blocks.
	Layers int `yaml:"layers" json:"num_hidden_layers"`
	// Hidden is the width of the residual stream.
	Hidden int `yaml:"hidden" json:"hidden_size"`
	// Heads is the number of query heads; a multiple of KVHeads.
	Heads int `yaml:"heads" json:"num_attention_heads"`
	// KVHeads is the number of key/value heads.
	KVHeads int `yaml:"kv_heads" json:"num_key_value_heads"`
	// HeadDim is the width of one head; even, because positions rotate pairs.
	HeadDim int `yaml:"head_dim" json:"head_dim"`
	// FFN is the inner width of the feed-forward part.
	FFN int `yaml:"ffn" json:"intermediate_size"`
	// RopeTheta is the base of the rotation frequencies.
	RopeTheta float64 `yaml:"rope_theta" json:"rope_theta"`
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
	return Config{Layers: 4, Hidden: 128, Heads: 4, KVHeads: 2, HeadDim: 32, FFN: 384, RopeTheta: 10000, NormEps: 1e-6, MaxPositions: 512}
}

// maxDimension bounds every size so that products of two of them stay far from overflow.
const maxDimension = 1 << 20

// Validate reports every field that is out of range.
func (c Config) Validate() error {
	var all []error
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
	if !(c.RopeTheta > 0) || math.IsInf(c.RopeTheta, 0) {
		all = append(all, fmt.Errorf("rope_theta is %v, must be positive and finite", c.RopeTheta))
	}
	if !(c.NormEps > 0) || math.IsInf(c.NormEps, 0) {
		all = append(all, fmt.Errorf("norm_eps is %v, must be positive and finite", c.NormEps))
	}
	if len(all) == 0 && c.parameterCount() > maxParameters {
		all = append(all, fmt.Errorf("%d parameters, at most %d fit one network; choose smaller sizes", c.parameterCount(), maxParameters))
	}
	if len(all) > 0 {
		return fmt.Errorf("policy network: %w", errors.Join(all...))
	}
	return nil
}

// maxParameters keeps a network and its gradient within 32 GiB.
const maxParameters = 1 << 32

func (c Config) qDim() int   { return c.Heads * c.HeadDim }
func (c Config) kvDim() int  { return c.KVHeads * c.HeadDim }
func (c Config) qkvDim() int { return c.qDim() + 2*c.kvDim() }

// parameterCount is the number of weights; it does not overflow for sizes within maxDimension
// because it is computed in float64 first.
func (c Config) parameterCount() int {
	layer := float64(c.Hidden)*float64(c.qkvDim()+c.qDim()+3*c.FFN+2) + 2*float64(c.HeadDim)
	total := float64(c.Layers)*layer + float64(c.VocabSize)*float64(c.Hidden) + float64(c.Hidden)
	return int(min(total, math.MaxInt64/2))
}
