package gpubench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/emulator"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

var (
	require   = flag.Bool("require", false, "fail on a machine without a GPU, in place of emulating one")
	out       = flag.String("out", "", "write the results, in JSON, to this file in place of standard output; after each measurement it has what was measured until then")
	models    = flag.String("models", "0.6b,1.7b", "shapes of Qwen3, on a GPU")
	measures  = flag.String("measure", "kernels,train,decode,step", "what is measured of each: kernels, train, decode, step; the ceilings always are")
	lengths   = flag.String("lengths", "32x1024;4x8192", "batches to train on, on a GPU: NUMBERxLENGTH or lengths, with commas; several batches with semicolons")
	steps     = flag.Int("steps", 5, "timed steps of training; as many rounds of decoding are 1 + a fifth of it")
	warm      = flag.Int("warm", 2, "steps before the timed ones")
	micro     = flag.Int("micro", 32768, "tokens of a pass of training at most, on a GPU")
	recompute = flag.Bool("recompute", false, "compute activations again in the backward pass")
	stored    = flag.String("stored", "f32", "the type that trained matrices are kept in between steps: f32 or bf16")
	sequences = flag.Int("sequences", 64, "sequences decoded at once, on a GPU")
	groups    = flag.Int("groups", 32, "prompts of a step, on a GPU")
	groupSize = flag.Int("group-size", 8, "episodes of a prompt, on a GPU")
	prompt    = flag.Int("prompt", 512, "tokens of a prompt, on a GPU")
	fresh     = flag.Int("new", 512, "tokens sampled behind a prompt, on a GPU")
	full      = flag.Bool("full", false, "give the emulated GPU what is measured on a GPU; with EMULATED_IDLE=1 it computes nothing, and -measure kernels tells the launches of each")
	layers    = flag.Int("layers", 0, "take only so many layers of each network; 0 is all")
	rewrite   = flag.Bool("rewrite", false, "write the tables of docs/gpu.md, in the repository")
)

var (
	// libraries are the driver's and cuBLASLt's, emulated or not.
	libraries cuda.Libraries
	emulated  bool
	// absent is why there is no GPU to measure, not even an emulated one.
	absent error
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gpubench")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	absent = find(dir)
	return m.Run()
}

// find finds the machine's GPU or emulates one in the folder.
func find(dir string) error {
	libraries = cuda.Libraries{Driver: os.Getenv("TURNWISE_CUDA_DRIVER"), CuBLASLt: os.Getenv("TURNWISE_CUBLASLT")}
	found, err := cuda.Probe(libraries)
	var none *cuda.Absent
	if errors.As(err, &none) && !*require {
		var l emulator.Libraries
		if l, err = emulator.Build(context.Background(), dir); err == nil {
			libraries = cuda.Libraries(l)
			found, err = cuda.Probe(libraries)
		}
	}
	if err == nil {
		emulated = found[0].Name == emulatedName
	}
	return err
}

// emulatedName is that of the emulated GPU, however it was found.
const emulatedName = "emulated GPU"

// open opens the GPU in the fast mode. Each measurement opens it anew, so that peaks are its own.
func open(t *testing.T) *cuda.Device {
	t.Helper()
	d, err := cuda.Open(libraries, cuda.Options{})
	must(t, err)
	return d
}

func shut(t *testing.T, d *cuda.Device) {
	t.Helper()
	must(t, d.Close())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// on is one thing on a GPU and another on the emulated one.
func on[T any](gpu, emulator T) T {
	if emulated && !*full {
		return emulator
	}
	return gpu
}

// qwen3 are the shapes measured on a GPU.
var qwen3 = map[string]policy.Config{
	"0.6b": {Family: policy.Qwen3, Layers: 28, Hidden: 1024, Heads: 16, KVHeads: 8, HeadDim: 128, FFN: 3072, RopeTheta: 1e6, NormEps: 1e-6, MaxPositions: 40960, VocabSize: 151936},
	"1.7b": {Family: policy.Qwen3, Layers: 28, Hidden: 2048, Heads: 16, KVHeads: 8, HeadDim: 128, FFN: 6144, RopeTheta: 1e6, NormEps: 1e-6, MaxPositions: 40960, VocabSize: 151936},
}

// tiny is what is measured on the emulated GPU.
func tiny() policy.Config {
	c := policy.DefaultConfig()
	c.Layers, c.Hidden, c.Heads, c.KVHeads, c.HeadDim, c.FFN, c.VocabSize, c.MaxPositions = 2, 32, 4, 2, 8, 48, 67, 64
	return c
}

// chosen are the networks to measure, by name.
func chosen(t *testing.T) []Network {
	t.Helper()
	if emulated && !*full {
		return []Network{{Name: "tiny", Config: tiny()}}
	}
	var all []Network
	for _, name := range strings.Split(*models, ",") {
		c, ok := qwen3[name]
		if !ok {
			t.Fatalf("-models %s: know 0.6b and 1.7b, not %q", *models, name)
		}
		if *layers > 0 {
			c.Layers = min(c.Layers, *layers)
			name = fmt.Sprintf("%s, %d layers", name, c.Layers)
		}
		all = append(all, Network{Name: name, Config: c.Complete()})
	}
	return all
}

// kept is the type that trained matrices are kept in.
func kept(t *testing.T) device.DType {
	t.Helper()
	switch *stored {
	case "f32":
		return device.F32
	case "bf16":
		return device.BF16
	}
	t.Fatalf("-stored %s: know f32 and bf16", *stored)
	return 0
}

// asked are the measurements to make.
func asked(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{"kernels": true, "train": true, "decode": true, "step": true}
	all := map[string]bool{}
	for _, name := range strings.Split(*measures, ",") {
		if name != "" && !known[name] {
			t.Fatalf("-measure %s: know kernels, train, decode and step, not %q", *measures, name)
		}
		all[name] = true
	}
	return all
}
