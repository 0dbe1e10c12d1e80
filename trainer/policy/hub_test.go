package policy

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// released are config.json files as they were published, in part.
var released = map[string]struct {
	text string
	want Config
}{
	"Llama-3.2-1B": {`{"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 128000, "eos_token_id": 128001,
		"head_dim": 64, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072,
		"mlp_bias": false, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1,
		"rms_norm_eps": 1e-05, "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
		"rope_type": "llama3"}, "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.45.0.dev0",
		"use_cache": true, "vocab_size": 128256}`,
		Config{Family: Llama, Layers: 16, Hidden: 2048, Heads: 32, KVHeads: 8, HeadDim: 64, FFN: 8192, RopeTheta: 500000, NormEps: 1e-5,
			RopeScaling: RopeScaling{RopeLlama3, 32, 1, 4, 8192}, MaxPositions: 131072, VocabSize: 128256}},
	"Qwen2.5-0.5B": {`{"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151643, "hidden_act": "silu",
		"hidden_size": 896, "initializer_range": 0.02, "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 24,
		"model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
		"rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.40.1",
		"use_cache": true, "use_mrope": false, "use_sliding_window": false, "vocab_size": 151936}`,
		Config{Family: Qwen2, Layers: 24, Hidden: 896, Heads: 14, KVHeads: 2, HeadDim: 64, FFN: 4864, RopeTheta: 1e6, NormEps: 1e-6,
			RopeScaling: RopeScaling{Type: RopePlain}, MaxPositions: 32768, VocabSize: 151936}},
	"Qwen3-0.6B": {`{"architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151645,
		"head_dim": 128, "hidden_act": "silu", "hidden_size": 1024, "initializer_range": 0.02, "intermediate_size": 3072, "max_position_embeddings": 40960,
		"max_window_layers": 28, "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
		"rope_scaling": null, "rope_theta": 1000000, "sliding_window": null, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
		"transformers_version": "4.51.0", "use_cache": true, "use_sliding_window": false, "vocab_size": 151936}`,
		Config{Family: Qwen3, Layers: 28, Hidden: 1024, Heads: 16, KVHeads: 8, HeadDim: 128, FFN: 3072, RopeTheta: 1e6, NormEps: 1e-6,
			RopeScaling: RopeScaling{Type: RopePlain}, MaxPositions: 40960, VocabSize: 151936}},
	"rope_parameters of newer files": {`{"architectures": ["Qwen3ForCausalLM"], "dtype": "bfloat16", "head_dim": 8, "hidden_act": "silu", "hidden_size": 16,
		"intermediate_size": 20, "layer_types": ["full_attention"], "max_position_embeddings": 32, "model_type": "qwen3", "num_attention_heads": 2,
		"num_hidden_layers": 1, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_parameters": {"rope_theta": 5000000, "rope_type": "default"},
		"tie_word_embeddings": false, "vocab_size": 40}`,
		Config{Family: Qwen3, Layers: 1, Hidden: 16, Heads: 2, KVHeads: 2, HeadDim: 8, FFN: 20, UntiedHead: true, RopeTheta: 5e6, NormEps: 1e-6,
			RopeScaling: RopeScaling{Type: RopePlain}, MaxPositions: 32, VocabSize: 40}},
	"first Llama": {`{"architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": 64,
		"model_type": "llama", "num_attention_heads": 4, "num_hidden_layers": 2, "rms_norm_eps": 1e-06, "torch_dtype": "float16", "vocab_size": 50,
		"rope_scaling": {"type": "linear", "factor": 4}}`,
		Config{Family: Llama, Layers: 2, Hidden: 32, Heads: 4, KVHeads: 4, HeadDim: 8, FFN: 64, UntiedHead: true, RopeTheta: 10000, NormEps: 1e-6,
			RopeScaling: RopeScaling{Type: RopeLinear, Factor: 4}, MaxPositions: 64, VocabSize: 50}},
}

func TestReleasedConfigsAreRead(t *testing.T) {
	for name, file := range released {
		got, _, err := parseHubConfig([]byte(file.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got != file.want {
			t.Errorf("%s: read %+v, want %+v", name, got, file.want)
		}
	}
}

// TestConfigsRoundTrip writes any shape and reads it again.
func TestConfigsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kv := rapid.IntRange(1, 9).Draw(t, "kv")
		c := Config{
			Family: rapid.SampledFrom(families).Draw(t, "family"), Layers: rapid.IntRange(1, 99).Draw(t, "layers"),
			Hidden: rapid.IntRange(1, 9999).Draw(t, "hidden"), KVHeads: kv, Heads: kv * rapid.IntRange(1, 9).Draw(t, "share"),
			HeadDim: 2 * rapid.IntRange(1, 99).Draw(t, "half"), FFN: rapid.IntRange(1, 9999).Draw(t, "ffn"),
			UntiedHead: rapid.Bool().Draw(t, "untied"), RopeTheta: rapid.Float64Range(1e-3, 1e9).Draw(t, "theta"),
			NormEps: rapid.Float64Range(1e-12, 1).Draw(t, "eps"), MaxPositions: rapid.IntRange(1, 1<<20).Draw(t, "positions"),
			VocabSize: rapid.IntRange(1, 1<<18).Draw(t, "vocab"), RopeScaling: RopeScaling{Type: RopePlain},
		}
		c.AttentionBias = c.Family != Qwen2 && rapid.Bool().Draw(t, "bias")
		switch rapid.IntRange(0, 2).Draw(t, "scaling") {
		case 1:
			c.RopeScaling = RopeScaling{Type: RopeLinear, Factor: rapid.Float64Range(1, 100).Draw(t, "factor")}
		case 2:
			low := rapid.Float64Range(0.1, 10).Draw(t, "low")
			c.RopeScaling = RopeScaling{RopeLlama3, rapid.Float64Range(1, 100).Draw(t, "factor"), low, low + rapid.Float64Range(0.1, 10).Draw(t, "more"), rapid.IntRange(1, 1<<17).Draw(t, "original")}
		}
		if c.Validate() != nil {
			t.Skip("too many parameters")
		}
		neutral := map[string]json.RawMessage{"eos_token_id": json.RawMessage("[1,2]"), "torch_dtype": json.RawMessage(`"float64"`)}
		text, err := encodeHubConfig(c, neutral, "bfloat16")
		if err != nil {
			t.Fatal(err)
		}
		got, kept, err := parseHubConfig(text)
		if err != nil || got != c {
			t.Fatalf("read %+v (%v), wrote %+v:\n%s", got, err, c, text)
		}
		if string(kept["eos_token_id"]) != "[1,2]" || string(kept["torch_dtype"]) != `"bfloat16"` {
			t.Fatalf("kept %s", kept)
		}
	})
}

// TestLlama3FrequenciesAreContinuous follows the three regions of the rule: divided, between, untouched.
func TestLlama3FrequenciesAreContinuous(t *testing.T) {
	s := RopeScaling{RopeLlama3, 8, 1, 4, 8192}
	for _, tc := range []struct{ turns, share float64 }{{0.5, 1. / 8}, {1, 1. / 8}, {2.5, (1 + 1./8) / 2}, {4, 1}, {100, 1}} {
		f := tc.turns * 2 * math.Pi / 8192
		if got := s.stretch(f) / f; math.Abs(got-tc.share) > 1e-12 {
			t.Errorf("a frequency of %v turns is multiplied by %v, want %v", tc.turns, got, tc.share)
		}
	}
}

func adapterText(t testing.TB) string {
	t.Helper()
	raw, err := os.ReadFile("testdata/adapter/adapter_config.json")
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		t.Fatal(err)
	}
	return compact.String()
}

func TestAdapterConfigRefusesWhatItCannotCompute(t *testing.T) {
	text := adapterText(t)
	for want, change := range map[string][2]string{
		`peft_type is "IA3", this program computes "LORA" only`: {`"LORA"`, `"IA3"`},
		`bias is "all"`:                       {`"bias":"none"`, `"bias":"all"`},
		"use_dora is true":                    {`"use_dora":false`, `"use_dora":true`},
		"use_rslora is true":                  {`"use_rslora":false`, `"use_rslora":true`},
		`rank_pattern is {"q_proj":8}`:        {`"rank_pattern":{}`, `"rank_pattern":{"q_proj":8}`},
		`modules_to_save is ["embed_tokens"]`: {`"modules_to_save":null`, `"modules_to_save":["embed_tokens"]`},
		`target_modules is "all-linear"`:      {`["q_proj","v_proj","o_proj","gate_proj","down_proj","lm_head"]`, `"all-linear"`},
		`lora.targets[0] is "c_attn"`:         {`["q_proj",`, `["c_attn",`},
		"surprise is not known":               {`"bias"`, `"surprise":1,"bias"`},
		"r is 0 or missing":                   {`"r":3,`, ``},
		"lora.alpha is 0":                     {`"lora_alpha":4.0`, `"lora_alpha":0`},
		"occurs twice":                        {`"r":3,`, `"r":3,"r":3,`},
	} {
		changed := strings.Replace(text, change[0], change[1], 1)
		if changed == text {
			t.Fatalf("adapter_config.json does not hold %q", change[0])
		}
		if _, err := parseAdapterConfig([]byte(changed)); err == nil || !contains(err, want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

func TestAdaptersOfAnotherNetworkAreRefused(t *testing.T) {
	lora, err := ReadAdapterConfig("testdata/adapter")
	if err != nil {
		t.Fatal(err)
	}
	other := lora
	other.Rank++
	for want, m := range map[string]*Model{
		"the model was made with":                  newModelWith(t, tinyConfig(), Options{LoRA: other}),
		"has shape [3 16], the config says [3 24]": newModelWith(t, tinyConfig(), Options{LoRA: lora}),
	} {
		if err := m.ReadAdapter("testdata/adapter"); err == nil || !contains(err, want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if err := newModel(t, tinyConfig(), 1).SaveAdapter(t.TempDir(), ""); err == nil {
		t.Error("a network without adapters saved some")
	}
	if _, err := ReadAdapterConfig(t.TempDir()); err == nil || !contains(err, "adapter_config.json") {
		t.Errorf("empty folder: error %v", err)
	}
}

// TestFolderWithValueHead writes one and reads it again; without being asked for it is an error.
func TestFolderWithValueHead(t *testing.T) {
	m := newModelWith(t, tinyConfig(), Options{Seed: 2, ValueHead: true})
	dir := t.TempDir()
	save(t, m, dir)
	again, err := LoadFolder(dev, dir, Options{ValueHead: true})
	if err != nil || digest(t, again) != digest(t, m) {
		t.Errorf("error %v; digests differ: %v", err, err == nil)
	}
	if _, err := LoadFolder(dev, dir, Options{}); err == nil || !contains(err, "the folder holds a value head") {
		t.Errorf("error %v", err)
	}
	plain := filepath.Join(dir, "plain")
	save(t, newModel(t, tinyConfig(), 2), plain)
	fresh, err := LoadFolder(dev, plain, Options{ValueHead: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range scores(t, fresh, randomPacked(tinyConfig(), 1, 9), 1).Values {
		if v != 0 {
			t.Errorf("a value of a new head is %v, want 0", v)
		}
	}
}

func TestReplaceWeights(t *testing.T) {
	c := tinyConfig()
	first, second := newModel(t, c, 1), newModel(t, c, 2)
	before := digest(t, first)
	if err := first.ReplaceWeights(encoded(t, newModelWith(t, c, Options{ValueHead: true}))); err == nil || digest(t, first) != before {
		t.Errorf("weights of another network: error %v, digest %s, before %s", err, digest(t, first), before)
	}
	if err := first.ReplaceWeights(encoded(t, second)); err != nil || digest(t, first) != digest(t, second) {
		t.Errorf("error %v, digest %s, want %s", err, digest(t, first), digest(t, second))
	}
	p := randomPacked(c, 3, 12)
	got, _ := score(t, first, p, 1)
	want, _ := score(t, second, p, 1)
	equalBits(t, "log-probabilities", got, want)
}

// TestFrozenModel scores like the one it is a copy of and trains nothing.
func TestFrozenModel(t *testing.T) {
	c := tinyConfig()
	m := newModel(t, c, 1)
	frozen, err := DecodeWeights(dev, c, Options{Frozen: true}, encoded(t, m))
	if err != nil {
		t.Fatal(err)
	}
	p := randomPacked(c, 3, 12, 5)
	got, _ := score(t, frozen, p, 1)
	want, _ := score(t, m, p, 1)
	equalBits(t, "log-probabilities", got, want)
	if err := frozen.Accumulate(t.Context(), p, 1, ones); err == nil || !contains(err, "frozen") {
		t.Errorf("error %v", err)
	}
	if memory := frozen.Memory(); memory.Gradients != 0 {
		t.Errorf("a frozen network accounts for %+v", memory)
	}
}

func FuzzAdapterConfig(f *testing.F) {
	f.Add([]byte(adapterText(f)))
	f.Add([]byte(`{"peft_type":"LORA","r":8,"lora_alpha":16,"target_modules":["q_proj"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if lora, err := parseAdapterConfig(data); err == nil && (lora.Validate() != nil || lora.Rank == 0) {
			t.Errorf("accepted %+v", lora)
		}
	})
}
