package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/trainer/weights"
)

const (
	adapterConfigFile  = "adapter_config.json"
	adapterWeightsFile = "adapter_model.safetensors"
)

// adapterConfig is PEFT's adapter_config.json for the adapters this package computes.
type adapterConfig struct {
	PeftType string `json:"peft_type"`
	TaskType string `json:"task_type"`
	Base     string `json:"base_model_name_or_path"`
	LoRA
	Dropout       float64 `json:"lora_dropout"`
	Bias          string  `json:"bias"`
	FanInFanOut   bool    `json:"fan_in_fan_out"`
	InferenceMode bool    `json:"inference_mode"`
}

// SaveAdapter writes the adapters alone, in PEFT's layout: adapter_config.json and
// adapter_model.safetensors. base names the network they belong to; it may be empty.
func (m *Model) SaveAdapter(dir, base string) error {
	if m.form.lora.Rank == 0 {
		return errors.New("save adapter: the network has no adapters")
	}
	if err := m.saveAdapter(dir, base); err != nil {
		return fmt.Errorf("save adapter: %w", err)
	}
	return nil
}

func (m *Model) saveAdapter(dir, base string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	config, err := json.MarshalIndent(adapterConfig{
		PeftType: "LORA", TaskType: "CAUSAL_LM", Base: base, LoRA: m.form.lora, Bias: "none", InferenceMode: true,
	}, "", "  ")
	if err != nil {
		return err
	}
	var data strings.Builder
	if err := weights.Encode(&data, m.tensors(m.adapterParameters()), weights.Options{}); err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(dir, adapterWeightsFile), []byte(data.String())); err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, adapterConfigFile), append(config, '\n'))
}

func (m *Model) adapterParameters() []Parameter {
	var all []Parameter
	for _, p := range m.parameters {
		if adapted(p.Name) {
			all = append(all, p)
		}
	}
	return all
}

// ReadAdapterConfig reads what adapters a PEFT folder holds. Variants that compute something else are errors.
func ReadAdapterConfig(dir string) (LoRA, error) {
	path := filepath.Join(dir, adapterConfigFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		return LoRA{}, fmt.Errorf("adapter: %w", err)
	}
	lora, err := parseAdapterConfig(raw)
	if err != nil {
		return LoRA{}, fmt.Errorf("adapter: %s: %w", path, err)
	}
	return lora, nil
}

// plainAdapter are the keys of adapter_config.json that must have one of these values, in JSON, or be
// absent: others change what is computed.
var plainAdapter = map[string][]string{
	"peft_type": {`"LORA"`}, "bias": {`"none"`}, "fan_in_fan_out": {"false"}, "use_rslora": {"false"}, "use_dora": {"false"},
	"rank_pattern": {"{}", "null"}, "alpha_pattern": {"{}", "null"}, "layers_to_transform": {"null"}, "layers_pattern": {"null"},
	"modules_to_save": {"null", "[]"}, "lora_bias": {"false"}, "layer_replication": {"null"}, "exclude_modules": {"null"},
	"target_parameters": {"null", "[]"}, "trainable_token_indices": {"null"}, "use_qalora": {"false"}, "alora_invocation_tokens": {"null"},
}

// neutralAdapter are the keys that do not matter once the adapter's weights are there.
var neutralAdapter = []string{
	"task_type", "base_model_name_or_path", "lora_dropout", "inference_mode", "init_lora_weights", "auto_mapping", "revision",
	"megatron_config", "megatron_core", "loftq_config", "eva_config", "corda_config", "runtime_config", "qalora_group_size", "peft_version",
	"ensure_weight_tying", "arrow_config",
}

func parseAdapterConfig(raw []byte) (LoRA, error) {
	keys, err := decodeObject(raw)
	if err != nil {
		return LoRA{}, err
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		got := string(keys[key])
		allowed, fixed := plainAdapter[key]
		switch {
		case fixed && !slices.Contains(allowed, got):
			return LoRA{}, fmt.Errorf("%s is %s, this program computes %s only", key, got, strings.Join(allowed, " or "))
		case !fixed && !slices.Contains(neutralAdapter, key) && key != "r" && key != "lora_alpha" && key != "target_modules":
			return LoRA{}, fmt.Errorf("%s is not known and may change what the adapter computes", key)
		}
	}
	if targets := keys["target_modules"]; len(targets) > 0 && targets[0] != '[' {
		return LoRA{}, fmt.Errorf("target_modules is %s, expected a list of some of %s", targets, listed(loraTargets))
	}
	var lora LoRA
	if err := json.Unmarshal(raw, &lora); err != nil {
		return LoRA{}, err
	}
	if lora.Rank == 0 {
		return LoRA{}, errors.New("r is 0 or missing")
	}
	return lora, lora.Validate()
}

// ReadAdapter reads the adapters in a PEFT folder into those of the model, which must be of the same
// rank, alpha and targets. A value that is not finite leaves adapters of no use.
func (m *Model) ReadAdapter(dir string) error {
	lora, err := ReadAdapterConfig(dir)
	if err != nil {
		return err
	}
	if !lora.equal(m.form.lora) {
		return fmt.Errorf("adapter: %s describes %+v, the model was made with %+v", filepath.Join(dir, adapterConfigFile), lora, m.form.lora)
	}
	path := filepath.Join(dir, adapterWeightsFile)
	if err := m.readAdapter(path); err != nil {
		return fmt.Errorf("adapter: %s: %w", path, err)
	}
	return m.Refresh()
}

func (m *Model) readAdapter(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return err
	}
	from, err := weights.Decode(adapterWeightsFile, file, stat.Size())
	if err != nil {
		return err
	}
	var layout []span
	for _, s := range m.form.layout() {
		if adapted(s.name) {
			layout = append(layout, s)
		}
	}
	if err := checkTensors(from, layout); err != nil {
		return err
	}
	return m.read(from, m.adapterParameters())
}

// merged lists the base network, and the value head, with the adapters merged: W + scale·B·A. drop
// gives back the memory this takes, which is that of the largest matrix.
func (m *Model) merged() (tensors []weights.Tensor, drop func()) {
	merge := &merge{model: m}
	for i, p := range m.parameters {
		if adapted(p.Name) {
			continue
		}
		t := m.tensors(m.parameters[i : i+1])[0]
		if a, ok := m.correction(strings.TrimSuffix(p.Name, ".weight")); ok {
			t.Fill = func(from int, dst []float32) error { return merge.fill(p, a, from, dst) }
		}
		tensors = append(tensors, t)
		if p.Name == "model.embed_tokens.weight" && !m.form.config.UntiedHead {
			if a, ok := m.correction(headTarget); ok {
				head := weights.Tensor{Name: "lm_head.weight", Shape: p.Shape}
				head.Fill = func(from int, dst []float32) error { return merge.fill(p, a, from, dst) }
				tensors = append(tensors, head)
			}
		}
	}
	return tensors, func() { m.dev.Free(merge.matrix); m.dev.Free(merge.b) }
}

// correction finds the adapter of a matrix.
func (m *Model) correction(module string) (pair [2]Parameter, ok bool) {
	for i, p := range m.parameters {
		if p.Name == "base_model.model."+module+".lora_A.weight" {
			return [2]Parameter{p, m.parameters[i+1]}, true
		}
	}
	return pair, false
}

// merge computes one merged matrix at a time.
type merge struct {
	model     *Model
	matrix, b device.Buffer
}

// fill gives a part of the merged matrix, which is computed when its first part is asked for.
func (g *merge) fill(p Parameter, pair [2]Parameter, from int, dst []float32) error {
	dev := g.model.dev
	if from == 0 {
		if err := g.compute(p, pair); err != nil {
			return err
		}
	}
	return dev.Download(dst, g.matrix.Slice(from, from+len(dst)))
}

// compute adds scale·B·A to a copy of W: the gradient product of rank rows, scale·Bᵀ and A.
func (g *merge) compute(p Parameter, pair [2]Parameter) error {
	m := g.model
	a, b := pair[0], pair[1]
	rank, out, in := m.form.lora.Rank, b.Shape[0], a.Shape[1]
	if err := grow(m.dev, &g.matrix, device.F32, out*in); err != nil {
		return err
	}
	if err := grow(m.dev, &g.b, device.F32, rank*out); err != nil {
		return err
	}
	values, turned := make([]float32, out*rank), make([]float32, out*rank)
	if err := m.dev.Download(values, b.Data); err != nil {
		return err
	}
	for o := range out {
		for r := range rank {
			turned[r*out+o] = m.form.lora.scale() * values[o*rank+r]
		}
	}
	into, bt := g.matrix.Slice(0, out*in), g.b.Slice(0, rank*out)
	m.dev.Upload(bt, turned)
	m.dev.Copy(into, p.Data)
	m.dev.ProductGrad(into, device.Dense(bt, out), device.Dense(a.Data, in), rank, out, in)
	return nil
}
