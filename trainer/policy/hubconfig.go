package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// architectures are Hugging Face's class names of the families.
var architectures = map[Family]string{Qwen3: "Qwen3ForCausalLM", Qwen2: "Qwen2ForCausalLM", Llama: "LlamaForCausalLM"}

// hubConfig is Hugging Face's config.json for the networks this package computes. Pointers tell an
// absent key from a zero.
type hubConfig struct {
	Architectures       []string        `json:"architectures"`
	ModelType           Family          `json:"model_type"`
	Layers              *int            `json:"num_hidden_layers"`
	Hidden              *int            `json:"hidden_size"`
	Heads               *int            `json:"num_attention_heads"`
	KVHeads             *int            `json:"num_key_value_heads"`
	HeadDim             *int            `json:"head_dim"`
	FFN                 *int            `json:"intermediate_size"`
	VocabSize           *int            `json:"vocab_size"`
	MaxPositions        *int            `json:"max_position_embeddings"`
	NormEps             *float64        `json:"rms_norm_eps"`
	RopeTheta           *float64        `json:"rope_theta"`
	RopeScaling         json.RawMessage `json:"rope_scaling"`
	RopeParameters      json.RawMessage `json:"rope_parameters"`
	HiddenAct           *string         `json:"hidden_act"`
	TieWordEmbeddings   *bool           `json:"tie_word_embeddings"`
	AttentionBias       *bool           `json:"attention_bias"`
	MLPBias             *bool           `json:"mlp_bias"`
	UseSlidingWindow    *bool           `json:"use_sliding_window"`
	LayerTypes          []string        `json:"layer_types"`
	PretrainingTP       *int            `json:"pretraining_tp"`
	PartialRotaryFactor *float64        `json:"partial_rotary_factor"`
	UseMRope            *bool           `json:"use_mrope"`
	RopeInterleaved     *bool           `json:"rope_interleaved"`
}

// hubKeys are the keys of hubConfig. A sliding window is not used unless use_sliding_window says so.
var hubKeys = []string{
	"architectures", "model_type", "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim",
	"intermediate_size", "vocab_size", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters",
	"hidden_act", "tie_word_embeddings", "attention_bias", "mlp_bias", "use_sliding_window", "sliding_window", "max_window_layers",
	"layer_types", "pretraining_tp", "partial_rotary_factor", "use_mrope", "rope_interleaved",
}

// neutralKeys are keys of config.json that do not change what the network computes. They are kept and
// written again.
var neutralKeys = []string{
	"_name_or_path", "attention_dropout", "bos_token_id", "eos_token_id", "pad_token_id", "initializer_range",
	"transformers_version", "use_cache", "output_router_logits", "unsloth_fixed", "unsloth_version", "_attn_implementation",
	"id2label", "label2id", "task_specific_params", "chunk_size_feed_forward", "output_attentions", "output_hidden_states", "return_dict",
	"dtype", "torch_dtype", "is_llama_config", "transformers.js_config",
}

// parseHubConfig reads a config.json. The second result holds the neutral keys.
func parseHubConfig(raw []byte) (Config, map[string]json.RawMessage, error) {
	keys, err := decodeObject(raw)
	if err != nil {
		return Config{}, nil, err
	}
	var hub hubConfig
	if err := json.Unmarshal(raw, &hub); err != nil {
		return Config{}, nil, err
	}
	if err := hub.checkFamily(); err != nil {
		return Config{}, nil, err
	}
	neutral := map[string]json.RawMessage{}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		switch {
		case slices.Contains(neutralKeys, key):
			neutral[key] = keys[key]
		case key == "quantization_config":
			return Config{}, nil, errors.New("quantization_config is set: quantized weights are not supported, convert the checkpoint to bf16")
		case !slices.Contains(hubKeys, key):
			return Config{}, nil, fmt.Errorf("%s is not known and may change what the network computes", key)
		}
	}
	if err := hub.checkFixed(); err != nil {
		return Config{}, nil, err
	}
	c, err := hub.config()
	if err != nil {
		return Config{}, nil, err
	}
	return c, neutral, c.Validate()
}

// checkFamily demands one of the architectures and the model type that belongs to it.
func (h hubConfig) checkFamily() error {
	for _, family := range families {
		if slices.Equal(h.Architectures, []string{architectures[family]}) {
			if h.ModelType != family {
				return fmt.Errorf("model_type is %q, expected %q for architecture %s", h.ModelType, family, architectures[family])
			}
			return nil
		}
	}
	known := []string{architectures[Qwen3], architectures[Qwen2], architectures[Llama]}
	return fmt.Errorf("architectures is %v (model_type %q), this program computes %s", h.Architectures, h.ModelType, listed(known))
}

// checkFixed demands the values that this package computes where others would be computed wrongly.
func (h hubConfig) checkFixed() error {
	refuse := func(key string, got, want any) error {
		return fmt.Errorf("%s is %v, this program computes %v only", key, got, want)
	}
	switch {
	case h.HiddenAct != nil && *h.HiddenAct != "silu":
		return refuse("hidden_act", *h.HiddenAct, "silu")
	case h.MLPBias != nil && *h.MLPBias:
		return refuse("mlp_bias", true, false)
	case h.UseSlidingWindow != nil && *h.UseSlidingWindow:
		return refuse("use_sliding_window", true, false)
	case h.UseMRope != nil && *h.UseMRope:
		return refuse("use_mrope", true, false)
	case h.RopeInterleaved != nil && *h.RopeInterleaved:
		return refuse("rope_interleaved", true, false)
	case h.PretrainingTP != nil && *h.PretrainingTP > 1:
		return refuse("pretraining_tp", *h.PretrainingTP, 1)
	case h.PartialRotaryFactor != nil && *h.PartialRotaryFactor != 1:
		return refuse("partial_rotary_factor", *h.PartialRotaryFactor, 1)
	case h.ModelType == Qwen2 && h.AttentionBias != nil && *h.AttentionBias:
		return errors.New("attention_bias is true: qwen2 has a bias on queries, keys and values by itself and none on the output")
	}
	for i, kind := range h.LayerTypes {
		if kind != "full_attention" {
			return refuse(fmt.Sprintf("layer_types[%d]", i), kind, "full_attention")
		}
	}
	return nil
}

// config is the shape. What transformers fills in where a key is absent is filled in here too, except
// where released checkpoints always have the key.
func (h hubConfig) config() (Config, error) {
	c := Config{Family: h.ModelType, RopeTheta: 10000}
	for _, f := range []struct {
		key  string
		from *int
		into *int
	}{
		{"num_hidden_layers", h.Layers, &c.Layers}, {"hidden_size", h.Hidden, &c.Hidden}, {"num_attention_heads", h.Heads, &c.Heads},
		{"intermediate_size", h.FFN, &c.FFN}, {"vocab_size", h.VocabSize, &c.VocabSize}, {"max_position_embeddings", h.MaxPositions, &c.MaxPositions},
	} {
		if f.from == nil {
			return c, fmt.Errorf("%s is missing", f.key)
		}
		*f.into = *f.from
	}
	if h.NormEps == nil {
		return c, errors.New("rms_norm_eps is missing")
	}
	c.NormEps, c.KVHeads = *h.NormEps, c.Heads
	if h.KVHeads != nil {
		c.KVHeads = *h.KVHeads
	} else if c.Family != Llama {
		return c, errors.New("num_key_value_heads is missing")
	}
	if h.HeadDim != nil {
		c.HeadDim = *h.HeadDim
	} else if c.Family == Qwen3 {
		return c, errors.New("head_dim is missing")
	}
	if h.RopeTheta != nil {
		c.RopeTheta = *h.RopeTheta
	}
	c.UntiedHead = h.TieWordEmbeddings == nil || !*h.TieWordEmbeddings // false is these families' default
	c.AttentionBias = h.AttentionBias != nil && *h.AttentionBias
	err := c.readRope(h)
	return c.Complete(), err
}

// readRope reads how rotations are scaled.
func (c *Config) readRope(h hubConfig) error {
	for _, place := range []struct {
		key string
		raw json.RawMessage
	}{{"rope_scaling", h.RopeScaling}, {"rope_parameters", h.RopeParameters}} {
		if len(place.raw) == 0 || string(place.raw) == "null" {
			continue
		}
		var rope struct {
			RopeType     *RopeType `json:"rope_type"`
			Type         *RopeType `json:"type"`
			Theta        *float64  `json:"rope_theta"`
			Factor       float64   `json:"factor"`
			Low          float64   `json:"low_freq_factor"`
			High         float64   `json:"high_freq_factor"`
			MaxPositions int       `json:"original_max_position_embeddings"`
		}
		decoder := json.NewDecoder(bytes.NewReader(place.raw))
		decoder.DisallowUnknownFields()
		kind := ropeType(place.raw)
		if kind != RopePlain && kind != RopeLinear && kind != RopeLlama3 {
			return fmt.Errorf("%s has rope_type %q, this program computes %s", place.key, kind, listed([]RopeType{RopePlain, RopeLinear, RopeLlama3}))
		}
		if err := decoder.Decode(&rope); err != nil {
			return fmt.Errorf("%s: %w", place.key, err)
		}
		if rope.Theta != nil {
			c.RopeTheta = *rope.Theta
		}
		scaling := RopeScaling{kind, rope.Factor, rope.Low, rope.High, rope.MaxPositions}
		if err := scaling.validate(); err != nil {
			return fmt.Errorf("%s: %s", place.key, strings.ReplaceAll(err.Error(), "rope_scaling.", ""))
		}
		c.RopeScaling = scaling
	}
	return nil
}

// ropeType is the rule an object names; plain when it names none, as rope_parameters may.
func ropeType(raw json.RawMessage) RopeType {
	var named struct {
		RopeType *RopeType `json:"rope_type"`
		Type     *RopeType `json:"type"`
	}
	if json.Unmarshal(raw, &named) != nil {
		return ""
	}
	switch {
	case named.RopeType != nil:
		return *named.RopeType
	case named.Type != nil:
		return *named.Type
	}
	return RopePlain
}

// encodeHubConfig writes a config.json that the family's class in transformers reads.
func encodeHubConfig(c Config, neutral map[string]json.RawMessage, dtype string) ([]byte, error) {
	fields := []struct {
		key   string
		value any
	}{
		{"architectures", []string{architectures[c.Family]}}, {"model_type", c.Family},
		{"num_hidden_layers", c.Layers}, {"hidden_size", c.Hidden}, {"num_attention_heads", c.Heads}, {"num_key_value_heads", c.KVHeads},
		{"head_dim", c.HeadDim}, {"intermediate_size", c.FFN}, {"rope_theta", c.RopeTheta}, {"rope_scaling", hubScaling(c.RopeScaling)},
		{"rms_norm_eps", c.NormEps}, {"max_position_embeddings", c.MaxPositions}, {"vocab_size", c.VocabSize},
		{"hidden_act", "silu"}, {"tie_word_embeddings", !c.UntiedHead}, {"attention_bias", c.AttentionBias}, {"torch_dtype", dtype},
	}
	var out bytes.Buffer
	out.WriteString("{\n")
	write := func(key string, value any) error {
		text, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if out.Len() > 2 {
			out.WriteString(",\n")
		}
		fmt.Fprintf(&out, "  %q: %s", key, text)
		return nil
	}
	for _, f := range fields {
		if f.key == "attention_bias" && c.Family == Qwen2 {
			continue // its class knows no such key
		}
		if err := write(f.key, f.value); err != nil {
			return nil, err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(neutral)) {
		if key == "torch_dtype" || key == "dtype" {
			continue
		}
		if err := write(key, neutral[key]); err != nil {
			return nil, err
		}
	}
	out.WriteString("\n}\n")
	return out.Bytes(), nil
}

// hubScaling is the value of rope_scaling; null for plain rotations.
func hubScaling(s RopeScaling) *RopeScaling {
	if s.Type == RopePlain {
		return nil
	}
	return &s
}

// decodeObject parses one JSON object and refuses duplicate keys and trailing data.
func decodeObject(data []byte) (map[string]json.RawMessage, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	first, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	if first != json.Delim('{') {
		return nil, fmt.Errorf("starts with %v, expected a JSON object", first)
	}
	object := map[string]json.RawMessage{}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		name, _ := key.(string) // the decoder only yields strings as keys
		if _, twice := object[name]; twice {
			return nil, fmt.Errorf("%q occurs twice", name)
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
		object[name] = value
	}
	if _, err := decoder.Token(); err != nil {
		return nil, err
	}
	if rest := bytes.TrimSpace(data[decoder.InputOffset():]); len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes after the object", len(rest))
	}
	return object, nil
}
