package gpucheck

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/emulator"
)

var (
	require  = flag.Bool("require", false, "fail on a machine without a GPU, in place of emulating one")
	separate = flag.Bool("separate", false, "take each allocation from the driver by itself, for compute-sanitizer")
	rewrite  = flag.Bool("rewrite", false, "write testdata/digests.json, on the emulated GPU, in the repository")
	tokens   = flag.Int("tokens", 4096, "tokens of a training step of the large network, on a GPU")
	steps    = flag.Int("steps", 5, "training steps of the large network")
)

var (
	// libraries are the driver's and cuBLASLt's, emulated or not.
	libraries cuda.Libraries
	emulated  bool
)

// Variables in the environment of a process that plays a part in a test of another one: which, and whether on the
// emulated GPU.
const (
	roleVariable     = "GPUCHECK_ROLE"
	emulatedVariable = "GPUCHECK_EMULATED"
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gpucheck")
	if err == nil {
		defer os.RemoveAll(dir)
		err = find(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if role := os.Getenv(roleVariable); role != "" {
		return play(role)
	}
	return m.Run()
}

// find finds the machine's GPU or emulates one in the folder.
func find(dir string) error {
	libraries = cuda.Libraries{Driver: os.Getenv("TURNWISE_CUDA_DRIVER"), CuBLASLt: os.Getenv("TURNWISE_CUBLASLT")}
	emulated = os.Getenv(emulatedVariable) != ""
	found, err := cuda.Probe(libraries)
	var absent *cuda.Absent
	if errors.As(err, &absent) && !*require {
		fmt.Printf("%v\nan emulated GPU is checked instead, with -require none is\n", err)
		var l emulator.Libraries
		l, err = emulator.Build(context.Background(), dir)
		libraries, emulated = cuda.Libraries(l), true
		if err == nil {
			found, err = cuda.Probe(libraries)
		}
	}
	for _, f := range found {
		fmt.Printf("cuda:%d is a %s, %s, compute capability %d.%d, %.1f GiB\n", f.Ordinal, f.Name, f.UUID, f.Capability[0], f.Capability[1], float64(f.Memory)/(1<<30))
	}
	return err
}

// open opens the GPU, the only thing that the test computes on.
func open(t *testing.T, exact bool) *cuda.Device {
	t.Helper()
	d, err := cuda.Open(libraries, cuda.Options{Exact: exact, Separate: *separate})
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	return d
}

// modes runs a test in the exact and in the fast mode.
func modes(t *testing.T, test func(t *testing.T, d *cuda.Device)) {
	for _, exact := range []bool{true, false} {
		t.Run(map[bool]string{true: "exact", false: "fast"}[exact], func(t *testing.T) { test(t, open(t, exact)) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// on is one thing on a GPU and another on the emulated one.
func on[T any](gpu, emulator T) T {
	if emulated {
		return emulator
	}
	return gpu
}
