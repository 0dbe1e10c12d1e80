package policy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/trainer/optim"
	"github.com/turnwise-rl/turnwise/trainer/policy"
	"github.com/turnwise-rl/turnwise/trainer/weights"
)

var dev = cpu.New()

func download(t *testing.T, b device.Buffer) []float32 {
	t.Helper()
	out := make([]float32, b.Len())
	if err := dev.Download(out, b); err != nil {
		t.Fatal(err)
	}
	return out
}

// torchFixture is what testdata/make_fixtures.py computed with PyTorch in float64.
type torchFixture struct {
	Temperature float32 `json:"temperature"`
	Optimizer   struct {
		LearningRate float64 `json:"learning_rate"`
		Beta1        float64 `json:"beta1"`
		Beta2        float64 `json:"beta2"`
		Epsilon      float64 `json:"epsilon"`
		WeightDecay  float64 `json:"weight_decay"`
		ClipNorm     float64 `json:"clip_norm"`
	} `json:"optimizer"`
	Tokens        []int32   `json:"tokens"`
	Offsets       []int32   `json:"offsets"`
	DLogProbs     []float32 `json:"d_logprobs"`
	DEntropies    []float32 `json:"d_entropies"`
	DValues       []float32 `json:"d_values"`
	GradientNorms []float64 `json:"gradient_norms"`

	expected *weights.Folder
}

func loadTorch(t *testing.T, folder string) torchFixture {
	t.Helper()
	var fixture torchFixture
	raw, err := os.ReadFile(filepath.Join("testdata", folder, "batch.json"))
	if err == nil {
		err = json.Unmarshal(raw, &fixture)
	}
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join("testdata", folder, "expected.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	if fixture.expected, err = weights.Decode(folder, bytes.NewReader(data), int64(len(data))); err != nil {
		t.Fatal(err)
	}
	return fixture
}

// tensor is one of the expectations.
func (f torchFixture) tensor(t *testing.T, name string) []float32 {
	t.Helper()
	info, ok := f.expected.Lookup(name)
	if !ok {
		t.Fatalf("the fixture does not hold %s", name)
	}
	out := make([]float32, info.Elements())
	if err := f.expected.Read(name, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func (f torchFixture) batch() policy.Packed {
	return policy.Packed{Tokens: f.Tokens, Offsets: f.Offsets}
}

// near compares with a tolerance relative to the tensor's largest value.
func near(t *testing.T, what string, got, want []float32, relative float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	largest := 0.0
	for _, v := range want {
		largest = math.Max(largest, math.Abs(float64(v)))
	}
	within(t, what, got, want, relative*largest)
}

// within compares with an absolute tolerance.
func within(t *testing.T, what string, got, want []float32, tolerance float64) {
	t.Helper()
	for i := range got {
		if !(math.Abs(float64(got[i])-float64(want[i])) <= tolerance) {
			t.Errorf("%s: element %d is %v, PyTorch says %v", what, i, got[i], want[i])
			return
		}
	}
}

func loadFolder(t *testing.T, dir string, o policy.Options) *policy.Model {
	t.Helper()
	m, err := policy.LoadFolder(dev, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var families = []string{"llama", "qwen2", "qwen3"}

// TestFamiliesEqualPyTorch compares scores, every gradient and three optimizer steps for a checkpoint of
// each family.
func TestFamiliesEqualPyTorch(t *testing.T) {
	for _, family := range families {
		t.Run(family, func(t *testing.T) {
			fixture := loadTorch(t, family)
			m := loadFolder(t, filepath.Join("testdata", family), policy.Options{})
			compareLogits(t, fixture, m)
			compareTraining(t, fixture, m)
		})
	}
}

// TestAdapterEqualsPyTorch is the same for LoRA with a value head, whose base stays as it was.
func TestAdapterEqualsPyTorch(t *testing.T) {
	fixture, m := loadAdapter(t)
	before := map[string][]float32{}
	for _, p := range m.Parameters() {
		if p.Grad.Absent() {
			before[p.Name] = download(t, p.Data)
		}
	}
	compareTraining(t, fixture, m)
	if len(before) == 0 {
		t.Error("nothing is frozen")
	}
	for _, p := range m.Parameters() {
		if want, ok := before[p.Name]; ok && !slices.Equal(download(t, p.Data), want) {
			t.Errorf("%s is frozen and has changed", p.Name)
		}
	}
}

func loadAdapter(t *testing.T) (torchFixture, *policy.Model) {
	t.Helper()
	fixture := loadTorch(t, "adapter")
	lora, err := policy.ReadAdapterConfig("testdata/adapter")
	if err != nil {
		t.Fatal(err)
	}
	m := loadFolder(t, "testdata/llama", policy.Options{LoRA: lora, ValueHead: true})
	if err := m.ReadAdapter("testdata/adapter"); err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Parameters() {
		if strings.HasPrefix(p.Name, "score.") {
			dev.Upload(p.Data, fixture.tensor(t, "start."+p.Name))
		}
	}
	m.Refresh()
	return fixture, m
}

// compareLogits scores every token of the vocabulary behind every prefix; up to the constant that
// softmax takes away, that is every logit.
func compareLogits(t *testing.T, f torchFixture, m *policy.Model) {
	t.Helper()
	vocabulary := m.Config().VocabSize
	logits := f.tensor(t, "logits")
	for i := range f.batch().Sequences() {
		tokens := f.Tokens[f.Offsets[i]:f.Offsets[i+1]]
		for j := range tokens[:min(len(tokens), m.Config().MaxPositions-1)] {
			all := policy.Packed{Offsets: []int32{0}}
			for v := range vocabulary {
				all.Tokens = append(append(all.Tokens, tokens[:j+1]...), int32(v))
				all.Offsets = append(all.Offsets, int32(len(all.Tokens)))
			}
			got, err := m.Score(context.Background(), all, 1)
			if err != nil {
				t.Fatal(err)
			}
			row := logits[(int(f.Offsets[i])+j)*vocabulary:][:vocabulary]
			sum := 0.0
			for _, z := range row {
				sum += math.Exp(float64(z))
			}
			for v, z := range row {
				want := float64(z) - math.Log(sum)
				if g := float64(got.LogProbs[all.Offsets[v+1]-1]); math.Abs(g-want) > 1e-4 {
					t.Fatalf("sequence %d, position %d: log softmax of the logit of token %d is %v, PyTorch says %v", i, j, v, g, want)
				}
			}
		}
	}
}

func compareTraining(t *testing.T, f torchFixture, m *policy.Model) {
	t.Helper()
	now, err := m.Score(context.Background(), f.batch(), f.Temperature)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "log-probabilities", now.LogProbs, f.tensor(t, "logprobs"), 1e-5)
	near(t, "entropies", now.Entropies, f.tensor(t, "entropies"), 1e-5)
	if f.DValues != nil {
		near(t, "values", now.Values, f.tensor(t, "values"), 1e-5)
	}
	optimizer, err := trainer.NewOptimizer(m, optim.Config(f.Optimizer), 7)
	if err != nil {
		t.Fatal(err)
	}
	trained := map[string]bool{}
	for step, wantNorm := range f.GradientNorms {
		m.ZeroGrad()
		err := m.Accumulate(context.Background(), f.batch(), f.Temperature, func(policy.Scores) (policy.Scores, error) {
			return policy.Scores{LogProbs: f.DLogProbs, Entropies: f.DEntropies, Values: f.DValues}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range m.Parameters() {
			if step == 0 && !p.Grad.Absent() {
				near(t, "gradient of "+p.Name, download(t, p.Grad), f.tensor(t, "gradient."+p.Name), 1e-4)
				trained["gradient."+p.Name] = true
			}
		}
		norm, err := optimizer.Step(f.Optimizer.LearningRate)
		if err != nil {
			t.Fatal(err)
		}
		m.Refresh()
		if math.Abs(norm/wantNorm-1) > 1e-4 {
			t.Errorf("step %d: gradient norm %v, PyTorch says %v", step, norm, wantNorm)
		}
	}
	// AdamW divides by the gradient's own size: where it is next to nothing its rounding decides how far the
	// weight goes. A hundredth of the way is what that may cost.
	reach := f.Optimizer.LearningRate * float64(len(f.GradientNorms))
	for _, p := range m.Parameters() {
		if !p.Grad.Absent() {
			within(t, p.Name+" after three steps", download(t, p.Data), f.tensor(t, "after."+p.Name), reach/100)
		}
	}
	for _, info := range f.expected.Tensors() {
		if strings.HasPrefix(info.Name, "gradient.") && !trained[info.Name] {
			t.Errorf("PyTorch has a %s, the network none", info.Name)
		}
	}
}

// TestFamiliesRoundTrip loads a checkpoint in shards, writes it and loads it again: the same bytes of
// weights, the same files beside them, the same config but for the keys that say how the file was made.
func TestFamiliesRoundTrip(t *testing.T) {
	for _, family := range families {
		from := filepath.Join("testdata", family)
		m := loadFolder(t, from, policy.Options{})
		to := t.TempDir()
		if err := m.SaveFolder(to, weights.Options{DType: weights.BF16, MaxShardBytes: 4000}); err != nil {
			t.Fatal(err)
		}
		again := loadFolder(t, to, policy.Options{})
		want, err := m.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := again.Digest(); err != nil || got != want || again.Config() != m.Config() {
			t.Errorf("%s: digest %s of %+v (%v) after writing, %s of %+v before", family, got, again.Config(), err, want, m.Config())
		}
		if shards, err := filepath.Glob(filepath.Join(to, "model-*.safetensors")); err != nil || len(shards) < 3 {
			t.Errorf("%s: %d shards (%v), want at least 3", family, len(shards), err)
		}
		for _, name := range []string{"generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"} {
			if !bytes.Equal(read(t, from, name), read(t, to, name)) {
				t.Errorf("%s: %s has changed", family, name)
			}
		}
		compareConfigs(t, family, read(t, from, "config.json"), read(t, to, "config.json"))
	}
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// compareConfigs demands every key of the first config in the second, but for those that only say
// that something is not used.
func compareConfigs(t *testing.T, family string, before, after []byte) {
	t.Helper()
	var a, b map[string]json.RawMessage
	if err := json.Unmarshal(before, &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(after, &b); err != nil {
		t.Fatal(err)
	}
	unused := []string{"mlp_bias", "pretraining_tp", "use_sliding_window", "sliding_window", "max_window_layers"}
	for _, key := range slices.Sorted(maps.Keys(a)) {
		if !slices.Contains(unused, key) && canonical(t, a[key]) != canonical(t, b[key]) {
			t.Errorf("%s: config.json had %s %s, now %s", family, key, a[key], b[key])
		}
	}
}

// canonical is a JSON value with sorted keys.
func canonical(t *testing.T, raw json.RawMessage) string {
	t.Helper()
	if raw == nil {
		return "nothing"
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestAdapterRoundTrip writes adapters alone and reads them again, and merges them into the base.
func TestAdapterRoundTrip(t *testing.T) {
	fixture, m := loadAdapter(t)
	dir := t.TempDir()
	if err := m.SaveAdapter(dir, "testdata/llama"); err != nil {
		t.Fatal(err)
	}
	lora, err := policy.ReadAdapterConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	again := loadFolder(t, "testdata/llama", policy.Options{LoRA: lora, ValueHead: true, Seed: 9})
	if err := again.ReadAdapter(dir); err != nil {
		t.Fatal(err)
	}
	for i, p := range m.Parameters() {
		if strings.HasPrefix(p.Name, "base_model.") && !slices.Equal(download(t, p.Data), download(t, again.Parameters()[i].Data)) {
			t.Errorf("%s has changed", p.Name)
		}
	}
	merged := filepath.Join(dir, "merged")
	if err := m.SaveFolder(merged, weights.Options{}); err != nil {
		t.Fatal(err)
	}
	plain := loadFolder(t, merged, policy.Options{ValueHead: true})
	now, err := plain.Score(context.Background(), fixture.batch(), fixture.Temperature)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "log-probabilities of the merged network", now.LogProbs, fixture.tensor(t, "logprobs"), 1e-5)
	near(t, "values of the merged network", now.Values, fixture.tensor(t, "values"), 1e-5)
}

// TestMergedTiedHeadIsUntied merges an adapter of a head that is the embedding, which stays as it was.
func TestMergedTiedHeadIsUntied(t *testing.T) {
	lora := policy.LoRA{Rank: 2, Alpha: 3, Targets: []string{"lm_head", "q_proj"}}
	m := loadFolder(t, "testdata/qwen2", policy.Options{LoRA: lora, Seed: 1})
	for _, p := range m.Parameters() {
		if strings.Contains(p.Name, "lora_B") {
			x := make([]float32, p.Data.Len())
			for i := range x {
				x[i] = float32(i%7)/10 - 0.3
			}
			dev.Upload(p.Data, x)
		}
	}
	m.Refresh()
	dir := t.TempDir()
	if err := m.SaveFolder(dir, weights.Options{}); err != nil {
		t.Fatal(err)
	}
	merged := loadFolder(t, dir, policy.Options{})
	if !merged.Config().UntiedHead {
		t.Error("the merged network shares its head with the embedding")
	}
	batch := loadTorch(t, "qwen2").batch()
	var results [2]policy.Scores
	for i, net := range []*policy.Model{m, merged} {
		var err error
		if results[i], err = net.Score(context.Background(), batch, 1); err != nil {
			t.Fatal(err)
		}
	}
	near(t, "log-probabilities of the merged network", results[1].LogProbs, results[0].LogProbs, 1e-5)
	original := loadFolder(t, "testdata/qwen2", policy.Options{})
	if !slices.Equal(download(t, merged.Parameters()[0].Data), download(t, original.Parameters()[0].Data)) {
		t.Error("the embedding has changed")
	}
}

// TestAdaptersBeginAtNothing compares a network with fresh adapters with its base, to the last bit.
func TestAdaptersBeginAtNothing(t *testing.T) {
	lora := policy.LoRA{Rank: 4, Alpha: 8, Targets: []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}}
	batch := loadTorch(t, "qwen3").batch()
	var results [2]policy.Scores
	for i, o := range []policy.Options{{}, {LoRA: lora, Seed: 3}} {
		var err error
		if results[i], err = loadFolder(t, "testdata/qwen3", o).Score(context.Background(), batch, 1); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(results[0].LogProbs, results[1].LogProbs) {
		t.Error("adapters that have learnt nothing change log-probabilities")
	}
}
