package policy

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/trainer/weights"
)

func encoded(t testing.TB, m *Model) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := m.EncodeWeights(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// withHeader rewrites the header's text.
func withHeader(t testing.TB, data []byte, old, replacement string) []byte {
	t.Helper()
	length := binary.LittleEndian.Uint64(data)
	header := string(data[8 : 8+length])
	if !strings.Contains(header, old) {
		t.Fatalf("the header does not hold %q", old)
	}
	header = strings.Replace(header, old, replacement, 1)
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(out, header...), data[8+length:]...)
}

func TestWeightsRoundTrip(t *testing.T) {
	c := tinyConfig()
	m := newModel(t, c, 1)
	data := encoded(t, m)
	if !bytes.Equal(data, encoded(t, m)) {
		t.Error("two encodings differ")
	}
	if length := binary.LittleEndian.Uint64(data); length%8 != 0 {
		t.Errorf("header of %d bytes, the format wants a multiple of 8", length)
	}
	restored, err := DecodeWeights(dev, c, Options{}, data)
	if err != nil {
		t.Fatal(err)
	}
	if digest(t, restored) != digest(t, m) {
		t.Errorf("restored digest %s, want %s", digest(t, restored), digest(t, m))
	}
}

func TestDecodeWeightsIsStrict(t *testing.T) {
	c := tinyConfig()
	data := encoded(t, newModel(t, c, 1))
	notANumber := slices.Clone(data)
	binary.LittleEndian.PutUint32(notANumber[len(notANumber)-8:], math.Float32bits(float32(math.Inf(1))))
	lying := slices.Clone(data)
	binary.LittleEndian.PutUint64(lying, uint64(len(data)))
	wider := c
	wider.Hidden *= 2
	const q = `"model.layers.1.self_attn.q_proj.weight":{"dtype":"F32","shape":[24,24]`
	for _, tc := range []struct {
		name   string
		config Config
		data   []byte
		want   string
	}{
		{"empty", c, nil, "at least 8"},
		{"truncated header", c, data[:100], "truncated"},
		{"truncated data", c, data[:len(data)-4], "it is truncated"},
		{"surplus data", c, append(slices.Clone(data), 0, 0, 0, 0), "the tensors need"},
		{"lying header length", c, lying, "truncated or not safetensors"},
		{"not JSON", c, withHeader(t, data, "{", "["), "header"},
		{"other network", wider, data, "tensor model.embed_tokens.weight of weights has shape [37 24], the config says [37 48]"},
		{"shape", c, withHeader(t, data, q, strings.Replace(q, "[24,24]", "[576]", 1)), "self_attn.q_proj.weight of weights has shape [576], the config says [24 24]"},
		{"lying shape", c, withHeader(t, data, q, strings.Replace(q, "24,24", "24,25", 1)), "needs 2400 bytes"},
		{"overflowing shape", c, withHeader(t, data, q, strings.Replace(q, "24,24", "4611686018427387904,4", 1)), "more elements than can be counted"},
		{"negative shape", c, withHeader(t, data, q, strings.Replace(q, "24,24", "-24,-24", 1)), "-24 is not a whole number"},
		{"dtype", c, withHeader(t, data, q, strings.Replace(q, "F32", "I32", 1)), `q_proj.weight of weights is I32; convert to F32, BF16 or F16`},
		{"unknown dtype", c, withHeader(t, data, q, strings.Replace(q, "F32", "F31", 1)), `dtype "F31" is unknown`},
		{"unknown field", c, withHeader(t, data, q, strings.Replace(q, `"shape"`, `"shap":1,"shape"`, 1)), "shap"},
		{"unknown tensor", c, withHeader(t, data, "model.norm.weight", "model.morn.weight"), "tensor model.norm.weight is missing, expected shape [24]"},
		{"twice", c, withHeader(t, data, "model.norm.weight", "model.embed_tokens.weight"), "occurs twice"},
		{"surplus tensor", c, withHeader(t, data, "}}", `},"x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}`), "tensor x of weights is unknown"},
		{"overlap", c, withHeader(t, data, `"data_offsets":[0,`, `"data_offsets":[4,`), "model.embed_tokens.weight"},
		{"not finite", c, notANumber, "model.norm.weight of weights: element 22 is +Inf"},
	} {
		if _, err := DecodeWeights(dev, tc.config, Options{}, tc.data); err == nil || !contains(err, tc.want) {
			t.Errorf("%s: error %v, want one with %q", tc.name, err, tc.want)
		}
	}
}

func FuzzDecodeWeights(f *testing.F) {
	c := Config{Layers: 1, Hidden: 2, Heads: 1, KVHeads: 1, HeadDim: 2, FFN: 1, RopeTheta: 1, NormEps: 1, MaxPositions: 1, VocabSize: 2}
	data := encoded(f, newModel(f, c, 1))
	f.Add(data)
	f.Add(data[:40])
	f.Add(withHeader(f, data, "F32", "BF16"))
	f.Add(withHeader(f, data, `"data_offsets":[0,`, `"data_offsets":[-8,`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeWeights(dev, c, Options{}, data)
		if err != nil {
			return
		}
		again, err := DecodeWeights(dev, c, Options{}, encoded(t, m))
		if err != nil || digest(t, again) != digest(t, m) {
			t.Errorf("accepted, but its encoding is not the same network: %v", err)
		}
	})
}

func save(t testing.TB, m *Model, dir string) {
	t.Helper()
	if err := m.SaveFolder(dir, weights.Options{}); err != nil {
		t.Fatal(err)
	}
}

func FuzzFolderConfig(f *testing.F) {
	dir := f.TempDir()
	save(f, newModel(f, tinyConfig(), 1), dir)
	for _, file := range released {
		f.Add([]byte(file.text))
	}
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"architectures":["Qwen3ForCausalLM"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, _, err := parseHubConfig(data); err == nil && c.Validate() != nil {
			t.Errorf("accepted an invalid shape %+v", c)
		}
	})
}

func TestFolderRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	m := newModel(t, tinyConfig(), 1)
	for range 2 { // the second replaces the first
		if err := m.SaveFolder(dir, weights.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	loaded, err := LoadFolder(dev, dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if digest(t, loaded) != digest(t, m) || loaded.Config() != m.Config() {
		t.Errorf("loaded %s %+v, want %s %+v", digest(t, loaded), loaded.Config(), digest(t, m), m.Config())
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("%d files (%v), want config.json, generation_config.json and model.safetensors", len(entries), err)
	}
}

func TestLoadFolderRefusesWhatItCannotCompute(t *testing.T) {
	dir := t.TempDir()
	if err := newModel(t, tinyConfig(), 1).SaveFolder(dir, weights.Options{}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "config.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string][2]string{
		"tensor lm_head.weight is missing":                    {`"tie_word_embeddings": true`, `"tie_word_embeddings": false`},
		"architectures is [MixtralForCausalLM]":               {"Qwen3ForCausalLM", "MixtralForCausalLM"},
		`model_type is "qwen3", expected "llama"`:             {"Qwen3ForCausalLM", "LlamaForCausalLM"},
		"q_proj.bias is missing, expected shape [24]":         {`"attention_bias": false`, `"attention_bias": true`},
		`rope_scaling has rope_type "yarn"`:                   {`"rope_scaling": null`, `"rope_scaling": {"rope_type": "yarn", "factor": 4}`},
		"rope_scaling: low_freq_factor is 0":                  {`"rope_scaling": null`, `"rope_scaling": {"rope_type": "llama3", "factor": 8}`},
		"factor is 0, must be at least 1":                     {`"rope_scaling": null`, `"rope_parameters": {"type": "linear"}`},
		`unknown field "beta"`:                                {`"rope_scaling": null`, `"rope_scaling": {"rope_type": "linear", "factor": 2, "beta": 1}`},
		"hidden_act is gelu, this program computes silu only": {`"silu"`, `"gelu"`},
		"mlp_bias is true":                                    {`"hidden_act"`, `"mlp_bias": true, "hidden_act"`},
		"use_sliding_window is true":                          {`"hidden_act"`, `"use_sliding_window": true, "hidden_act"`},
		"layer_types[1] is sliding_attention":                 {`"hidden_act"`, `"layer_types": ["full_attention", "sliding_attention"], "hidden_act"`},
		"quantization_config is set":                          {`"hidden_act"`, `"quantization_config": {}, "hidden_act"`},
		"num_experts is not known":                            {`"hidden_act"`, `"num_experts": 8, "hidden_act"`},
		"head_dim is missing":                                 {`"head_dim": 6,`, ``},
		"surprise is not known":                               {`"hidden_act"`, `"surprise": 1, "hidden_act"`},
		"heads is 4 and kv_heads is 3":                        {`"num_key_value_heads": 2`, `"num_key_value_heads": 3`},
		"occurs twice":                                        {`"head_dim": 6,`, `"head_dim": 6, "head_dim": 6,`},
		"has shape [24 24], the config says [32 24]":          {`"head_dim": 6`, `"head_dim": 8`},
		"cannot unmarshal string into Go struct field":        {`"head_dim": 6`, `"head_dim": "6"`},
	} {
		changed := strings.Replace(string(raw), change[0], change[1], 1)
		if changed == string(raw) {
			t.Fatalf("config.json does not hold %q", change[0])
		}
		if err := os.WriteFile(path, []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadFolder(dev, dir, Options{}); err == nil || !contains(err, want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if _, err := LoadFolder(dev, t.TempDir(), Options{}); err == nil || !contains(err, "config.json") {
		t.Errorf("empty folder: error %v", err)
	}
}
