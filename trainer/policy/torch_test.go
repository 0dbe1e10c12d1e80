package policy_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/trainer/optim"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// torchFixture is what testdata/make_fixtures.py computed with PyTorch in float64.
type torchFixture struct {
	Config      policy.Config `json:"config"`
	Temperature float32       `json:"temperature"`
	Optimizer   struct {
		LearningRate float64 `json:"learning_rate"`
		Beta1        float64 `json:"beta1"`
		Beta2        float64 `json:"beta2"`
		Epsilon      float64 `json:"epsilon"`
		WeightDecay  float64 `json:"weight_decay"`
		ClipNorm     float64 `json:"clip_norm"`
	} `json:"optimizer"`
	Tokens        []int32              `json:"tokens"`
	Offsets       []int32              `json:"offsets"`
	DLogProbs     []float32            `json:"d_logprobs"`
	DEntropies    []float32            `json:"d_entropies"`
	LogProbs      []float32            `json:"logprobs"`
	Entropies     []float32            `json:"entropies"`
	Gradients     map[string][]float32 `json:"gradients"`
	GradientNorms []float64            `json:"gradient_norms"`
	After         map[string][]float32 `json:"after"`
}

var dev = cpu.New()

func download(t *testing.T, b device.Buffer) []float32 {
	t.Helper()
	out := make([]float32, b.Len())
	if err := dev.Download(out, b); err != nil {
		t.Fatal(err)
	}
	return out
}

func loadTorch(t *testing.T) (torchFixture, *policy.Model) {
	t.Helper()
	var fixture torchFixture
	raw, err := os.ReadFile("testdata/torch.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &fixture); err != nil {
		t.Fatal(err)
	}
	weights, err := os.ReadFile("testdata/torch.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	m, err := policy.DecodeWeights(dev, fixture.Config, policy.Options{}, weights)
	if err != nil {
		t.Fatal(err)
	}
	return fixture, m
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
	for i := range got {
		if !(math.Abs(float64(got[i])-float64(want[i])) <= relative*largest) {
			t.Errorf("%s: element %d is %v, PyTorch says %v", what, i, got[i], want[i])
			return
		}
	}
}

// TestTrainingEqualsPyTorch compares scores, every gradient and three optimizer steps.
func TestTrainingEqualsPyTorch(t *testing.T) {
	fixture, m := loadTorch(t)
	batch := policy.Packed{Tokens: fixture.Tokens, Offsets: fixture.Offsets}
	now, err := m.Score(context.Background(), batch, fixture.Temperature)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "log-probabilities", now.LogProbs, fixture.LogProbs, 1e-5)
	near(t, "entropies", now.Entropies, fixture.Entropies, 1e-5)

	optimizer, err := trainer.NewOptimizer(m, optim.Config(fixture.Optimizer))
	if err != nil {
		t.Fatal(err)
	}
	for step, wantNorm := range fixture.GradientNorms {
		m.ZeroGrad()
		err := m.Accumulate(context.Background(), batch, fixture.Temperature, func(policy.Scores) (policy.Scores, error) {
			return policy.Scores{LogProbs: fixture.DLogProbs, Entropies: fixture.DEntropies}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if step == 0 {
			for _, p := range m.Parameters() {
				near(t, "gradient of "+p.Name, download(t, p.Grad), fixture.Gradients[p.Name], 1e-4)
			}
		}
		norm, err := optimizer.Step(fixture.Optimizer.LearningRate)
		if err != nil {
			t.Fatal(err)
		}
		m.Refresh()
		if math.Abs(norm/wantNorm-1) > 1e-4 {
			t.Errorf("step %d: gradient norm %v, PyTorch says %v", step, norm, wantNorm)
		}
	}
	for _, p := range m.Parameters() {
		near(t, p.Name+" after three steps", download(t, p.Data), fixture.After[p.Name], 1e-4)
	}
}
