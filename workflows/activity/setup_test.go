package activity

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/kernels/graph"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/workflows"
)

// smallRun is a run that takes a fraction of a second and still changes the weights in every step.
const smallRun = `
name: small
seed: 3
method:
  preset: matchtir
environments:
  - type: lookup
  - type: calc
tokenizer: {vocab_size: 300}
policy: {layers: 1, hidden: 32, heads: 2, kv_heads: 1, head_dim: 16, ffn: 64}
warm_start: {steps: 2, updates_per_step: 30, demonstrations: 16, batch_size: 4, learning_rate: 0.01}
training: {steps: 3, groups_per_step: 3, group_size: 3, minibatches: 2, learning_rate_end: 0.5, micro_batch_tokens: 600}
sampling: {max_turns: 3, max_turn_tokens: 24, max_tokens: 250, slots: 2}
evaluation: {tasks: 1, every: 2, temperature: 1}
checkpoint: {every: 3, keep: 1}
`

const runID = "small-1"

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(template.dir)
		os.RemoveAll(emulated.dir)
		os.Exit(code)
	}))
}

// template is a prepared folder of smallRun, made once and copied for each test.
var template struct {
	once sync.Once
	dir  string
	err  error
}

// resolve reads smallRun with settings changed.
func resolve(t *testing.T, overrides ...string) *configs.Resolved {
	t.Helper()
	resolved, err := configs.Load([]configs.Source{{Name: "small.yaml", Data: []byte(smallRun)}}, overrides)
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

// open are leases that hold for ever.
type open struct{ device.Device }

func (o open) Use(ctx context.Context, _ int, _ []string) (context.Context, func(bool) (device.Device, error), func(), error) {
	ctx, release := context.WithCancel(ctx)
	return ctx, func(bool) (device.Device, error) { return o.Device, nil }, release, nil
}

func (o open) Failed(string, *device.Failure) {}

// on opens a device for whoever asks.
func on(d device.Device) opener { return func(*run) (device.Device, error) { return d, nil } }

// fresh returns activities of a process that has just started.
func fresh(dataDir string) *Activities {
	processor := cpu.New()
	return &Activities{
		DataDir: dataDir, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Leases: open{processor}, Processor: processor,
		NewEvaluator: func() trainer.Evaluator { return graph.New[float32]() },
		Arithmetic:   graph.NewArithmetic(),
	}
}

// prepared returns a data folder with a prepared run whose settings are changed in ways that do not
// touch what preparing makes.
func prepared(t *testing.T, overrides ...string) string {
	t.Helper()
	template.once.Do(func() {
		if template.dir, template.err = os.MkdirTemp("", "turnwise-template"); template.err == nil {
			_, template.err = fresh(template.dir).prepare(t.Context(), workflows.PrepareInput{Run: runID, Config: string(resolve(t).YAML())})
		}
	})
	if template.err != nil {
		t.Fatal(template.err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(template.dir)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(runfolder.Runs(dir), runID, runfolder.ConfigKey)
	if err := os.WriteFile(path, resolve(t, overrides...).YAML(), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// learnerAlone marks a test of the learner, which is one goroutine's: looking for races in it takes minutes
// and finds none, so -short leaves it out.
func learnerAlone(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("a learner has no goroutines that race")
	}
}
