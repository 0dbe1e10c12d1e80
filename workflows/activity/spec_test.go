package activity

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/footprint"
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/trainer/policy"
	"github.com/turnwise-rl/turnwise/trainer/weights"
	"github.com/turnwise-rl/turnwise/workflows"
)

func settingsOf(t *testing.T, overrides ...string) *configs.Resolved {
	t.Helper()
	resolved, err := configs.Load([]configs.Source{{Name: "run.yaml", Data: []byte("environments: [{type: calc}]\n")}}, overrides)
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

// TestInputAsksForDevices asks for what is estimated, unless the config says more or less.
func TestInputAsksForDevices(t *testing.T) {
	plain := settingsOf(t)
	shape, err := Shape(plain.Run)
	if err != nil || shape.VocabSize != plain.Run.Tokenizer.VocabSize {
		t.Fatalf("shape %+v, %v", shape, err)
	}
	estimates := footprint.Of(plain.Run, shape)
	need := func(kind gpu.Kind, bytes int64) workflows.Need {
		return workflows.Need{Kind: kind, Count: 1, MemoryBytes: bytes}
	}
	input, err := Input("r", plain)
	if err != nil {
		t.Fatal(err)
	}
	want := workflows.Needs{
		Learner: need(gpu.CPU, estimates.Learner.Bytes(gpu.CPU)), Rollout: need(gpu.CPU, estimates.Rollout.Bytes(gpu.CPU)),
		Evaluate: need(gpu.CPU, estimates.Evaluate.Bytes(gpu.CPU)), Queue: "default", Priority: 3,
	}
	if diff := cmp.Diff(want, input.Devices); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	said := settingsOf(t, "device={kind: cuda, queue: night, priority: 1, learner_memory: 5, rollout_memory: 7}")
	want = workflows.Needs{Learner: need(gpu.GPU, 5), Rollout: need(gpu.GPU, 7), Evaluate: need(gpu.GPU, 7), Queue: "night", Priority: 1}
	want.Learner.Fast, want.Rollout.Fast, want.Evaluate.Fast = true, true, true
	if diff := cmp.Diff(want, Needs(said.Run, shape)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	said.Run.Device.Exact = true
	if exact := Needs(said.Run, shape); exact.Learner.Fast || exact.Rollout.Fast || exact.Evaluate.Fast {
		t.Errorf("an exact run asks for %+v", exact)
	}
}

// TestShapeOfACheckpoint reads the config.json of policy.from; a folder without one is an error at that setting.
func TestShapeOfACheckpoint(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "model")
	shape := policy.DefaultConfig()
	shape.Layers, shape.Hidden, shape.VocabSize = 2, 64, 300
	model, err := policy.New(cpu.New(), shape, policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer model.Free()
	if err := model.SaveFolder(dir, weights.Options{}); err != nil {
		t.Fatal(err)
	}
	from := settingsOf(t, "policy.from="+dir)
	got, err := Shape(from.Run)
	if err != nil || got.Layers != 2 || got.Hidden != 64 || got.VocabSize != 300 {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := os.Remove(filepath.Join(dir, "config.json")); err != nil {
		t.Fatal(err)
	}
	var at *configs.PathError
	if _, err := Input("r", from); !errors.As(err, &at) || at.Path != "policy.from" {
		t.Errorf("got %v, want an error at policy.from", err)
	}
}
