package footprint_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/turnwise-rl/turnwise/internal/footprint"
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/emulator"
)

// emulated are NVIDIA's libraries, emulated, built once for all tests.
var emulated struct {
	once sync.Once
	dir  string
	emulator.Libraries
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if emulated.dir != "" {
		os.RemoveAll(emulated.dir)
	}
	os.Exit(code)
}

// emulatedGPU is a GPU that computes on the host and counts its memory as a real one does.
func emulatedGPU(t *testing.T, exact bool) *cuda.Device {
	t.Helper()
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skipf("no C compiler to build the emulated driver with: %v", err)
	}
	emulated.once.Do(func() {
		if emulated.dir, emulated.err = os.MkdirTemp("", "emulator"); emulated.err == nil {
			emulated.Libraries, emulated.err = emulator.Build(context.Background(), emulated.dir)
		}
	})
	if emulated.err != nil {
		t.Fatal(emulated.err)
	}
	dev, err := cuda.Open(cuda.Libraries(emulated.Libraries), cuda.Options{Exact: exact})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	return dev
}

// brief are passes that an emulated GPU computes in a moment.
var brief = setting{"brief", []string{"policy={layers: 2, hidden: 64, heads: 4, kv_heads: 2, head_dim: 16, ffn: 192}", "tokenizer.vocab_size=512",
	"training.micro_batch_tokens=256", "sampling={max_tokens: 64, slots: 6}"}}

// The ways in which a GPU computes.
var ways = []setting{
	{"f32 exact", []string{"device={kind: cuda, exact: true, precision: f32}"}},
	{"bf16 exact", []string{"device={kind: cuda, exact: true, precision: bf16}"}},
	{"bf16 fast", []string{"device=cuda"}},
	{"bf16 stored", []string{"device=cuda", "policy.stored=bf16"}},
}

// TestLearnerOnAGPU compares what a GPU's allocations come to with what is estimated, without what belongs to the process.
func TestLearnerOnAGPU(t *testing.T) {
	for _, way := range ways {
		for _, manner := range manners {
			if testing.Short() && manner.name != "all weights" || way.name == "bf16 stored" && strings.HasPrefix(manner.name, "adapters") {
				continue
			}
			t.Run(way.name+"/"+manner.name, func(t *testing.T) {
				run, shape := load(t, brief, manner, way)
				run.Training.MicroBatchTokens = 256
				dev := emulatedGPU(t, run.Device.Exact)
				opened := dev.Usage().Bytes
				estimate := footprint.Of(run, shape).Learner
				model, optimizer := learn(t, dev, run, shape)
				within(t, "learner", own(estimate, footprint.Context), dev.Usage().Peak-opened, most)
				compareParts(t, estimate, model, optimizer)
				if context := lineOf(estimate, footprint.Context, gpu.GPU); context < opened {
					t.Errorf("an open device holds %d bytes, estimated %d", opened, context)
				}
				model.Free()
				optimizer.Free()
				if left := dev.Usage().Bytes; left != opened {
					t.Errorf("%d bytes stay behind", left-opened)
				}
			})
		}
	}
}

// TestSamplerOnAGPU does so for a pool and an evaluation.
func TestSamplerOnAGPU(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			run, shape := load(t, brief, way)
			for _, swaps := range []bool{true, false} {
				dev := emulatedGPU(t, run.Device.Exact)
				opened := dev.Usage().Bytes
				e := footprint.Of(run, shape).Evaluate
				if swaps {
					e = footprint.Of(run, shape).Rollout
				}
				engine := play(t, dev, run, shape, published(t, run, shape), swaps)
				// How long prompts are cut depends on what arrives together.
				within(t, "sampler", own(e, footprint.Context), dev.Usage().Peak-opened, anything)
				if err := engine.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestDrawingOnAGPU compares what a GPU holds to draw a pass's tokens, of a vocabulary as large ones have it, with what is estimated.
func TestDrawingOnAGPU(t *testing.T) {
	run, shape := load(t, brief, ways[2])
	shape.VocabSize = 151_936
	dev := emulatedGPU(t, run.Device.Exact)
	before := dev.Usage().Bytes
	var draws device.Draws
	defer dev.FreeDraws(&draws)
	how := make([]device.Sampling, run.Sampling.Slots)
	for i := range how {
		how[i].TopP = 1
	}
	if err := dev.PlaceSampling(&draws, how, shape.VocabSize); err != nil {
		t.Fatal(err)
	}
	logits := int64(device.F32.Size()) * int64(len(how)) * int64(shape.VocabSize)
	within(t, "logits", lineOf(footprint.Of(run, shape).Rollout, footprint.Logits, gpu.GPU), logits+dev.Usage().Bytes-before, most)
}
