package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// folderConfig is Hugging Face's config.json for the networks this package computes.
type folderConfig struct {
	Architectures []string `json:"architectures"`
	ModelType     string   `json:"model_type"`
	Config
	HiddenAct         string `json:"hidden_act"`
	TieWordEmbeddings bool   `json:"tie_word_embeddings"`
	AttentionBias     bool   `json:"attention_bias"`
	TorchDType        string `json:"torch_dtype"`
}

const (
	architecture = "Qwen3ForCausalLM"
	modelType    = "qwen3"
)

// neutralKeys are keys of config.json that do not change what the network computes.
var neutralKeys = []string{
	"_name_or_path", "attention_dropout", "bos_token_id", "dtype", "eos_token_id", "initializer_range", "max_window_layers",
	"pad_token_id", "torch_dtype", "transformers_version", "use_cache", "layer_types",
}

// SaveFolder writes the network in Hugging Face layout: config.json, generation_config.json and
// model.safetensors. The folder is made when it does not exist; a tokenizer is the caller's to add.
// Each file is replaced as a whole, so a reader never sees half of one.
func (m *Model) SaveFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("save network: %w", err)
	}
	var weights bytes.Buffer
	weights.Grow(4*len(m.net.weights.flat) + 1<<16)
	if err := m.EncodeWeights(&weights); err != nil {
		return err
	}
	config, err := json.MarshalIndent(folderConfig{
		Architectures: []string{architecture}, ModelType: modelType, Config: m.config,
		HiddenAct: "silu", TieWordEmbeddings: true, TorchDType: "float32",
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("save network: %w", err)
	}
	// Plain sampling, so that an engine that reads the file samples what was trained.
	generation := "{\n  \"do_sample\": true,\n  \"temperature\": 1.0,\n  \"top_k\": 0,\n  \"top_p\": 1.0\n}\n"
	for _, f := range []struct {
		name string
		data []byte
	}{
		{"config.json", append(config, '\n')},
		{"generation_config.json", []byte(generation)},
		{"model.safetensors", weights.Bytes()},
	} {
		if err := replaceFile(filepath.Join(dir, f.name), f.data); err != nil {
			return fmt.Errorf("save network: %w", err)
		}
	}
	return nil
}

// replaceFile writes a file beside the old one and renames it into place.
func replaceFile(path string, data []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	err = errors.Join(err, file.Chmod(0o644), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

// LoadFolder reads a network that SaveFolder or Hugging Face's tools wrote. Settings that this package
// does not compute (another architecture, biases, an untied head, scaled rotations) are errors.
func LoadFolder(dir string) (*Model, error) {
	path := filepath.Join(dir, "config.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load network: %w", err)
	}
	config, err := parseFolderConfig(raw)
	if err != nil {
		return nil, fmt.Errorf("load network: %s: %w", path, err)
	}
	path = filepath.Join(dir, "model.safetensors")
	weights, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load network: %w", err)
	}
	m, err := DecodeWeights(config, weights)
	if err != nil {
		return nil, fmt.Errorf("load network: %s: %w", path, err)
	}
	return m, nil
}

// fixedValues are the settings this package computes; other values would be computed wrongly.
var fixedValues = map[string]string{
	"model_type": `"qwen3"`, "hidden_act": `"silu"`, "tie_word_embeddings": "true", "attention_bias": "false",
	"rope_scaling": "null", "use_sliding_window": "false", "sliding_window": "null",
}

func parseFolderConfig(raw []byte) (Config, error) {
	keys, err := decodeObject(raw)
	if err != nil {
		return Config{}, err
	}
	var file folderConfig
	if err := json.Unmarshal(raw, &file); err != nil {
		return Config{}, err
	}
	if !slices.Equal(file.Architectures, []string{architecture}) {
		return Config{}, fmt.Errorf("architectures is %v, expected [%s]", file.Architectures, architecture)
	}
	for _, key := range append([]string{"model_type", "tie_word_embeddings"}, configKeys...) {
		if _, ok := keys[key]; !ok {
			return Config{}, fmt.Errorf("%s is missing", key)
		}
	}
	known := map[string]bool{"architectures": true}
	for _, key := range slices.Concat(neutralKeys, configKeys) {
		known[key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if want, fixed := fixedValues[key]; fixed {
			if got := string(keys[key]); got != want {
				return Config{}, fmt.Errorf("%s is %s, this program computes %s only", key, got, want)
			}
		} else if !known[key] {
			return Config{}, fmt.Errorf("%s is not known and may change what the network computes", key)
		}
	}
	return file.Config, file.Config.Validate()
}

// configKeys are the JSON names of Config's fields.
var configKeys = []string{
	"num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim",
	"intermediate_size", "rope_theta", "rms_norm_eps", "max_position_embeddings", "vocab_size",
}
