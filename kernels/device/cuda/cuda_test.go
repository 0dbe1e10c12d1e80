package cuda

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ebitengine/purego"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/emulator"
	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

// emulated are the libraries that this package's tests open.
var emulated Libraries

func TestMain(m *testing.M) { os.Exit(withEmulator(m.Run)) }

// withEmulator builds the emulated libraries. Benchmarks do without: they run on a GPU, where there may be no compiler.
func withEmulator(run func() int) int {
	dir, err := os.MkdirTemp("", "emulator")
	if err == nil {
		defer os.RemoveAll(dir)
		var l emulator.Libraries
		l, err = emulator.Build(context.Background(), dir)
		emulated = Libraries(l)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		missing := filepath.Join(dir, "not built")
		emulated = Libraries{Driver: missing, CuBLASLt: missing}
	}
	return run()
}

// symbol finds a function of the emulated driver.
func symbol(t *testing.T, name string, function any) {
	t.Helper()
	library, err := purego.Dlopen(emulated.Driver, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		t.Fatal(err)
	}
	purego.RegisterLibFunc(function, library, name)
}

// set changes a setting of the emulated driver.
func set(t *testing.T, name string, value int64) {
	t.Helper()
	var change func(name string, value int64) int32
	symbol(t, "emulator_set", &change)
	if change(name, value) == 0 {
		t.Fatalf("the emulated driver has no setting %q", name)
	}
}

// open opens an emulated GPU.
func open(t *testing.T, o Options) *Device {
	t.Helper()
	o.poison = true
	d, err := Open(emulated, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// arithmetic marks a test of what kernels compute, which is one goroutine's: looking for races in it takes minutes and
// finds none, so -short leaves it out there.
func arithmetic(t *testing.T) {
	t.Helper()
	if raceEnabled && testing.Short() {
		t.Skip("short: no other goroutine takes part")
	}
}

// TestDeviceConforms holds the exact mode to the bits that it promises, whatever the order of a block's threads.
func TestDeviceConforms(t *testing.T) {
	arithmetic(t)
	for name, order := range orders {
		if raceEnabled && order != 0 { // which changes nothing in Go
			continue
		}
		t.Run(name, func(t *testing.T) {
			set(t, "order", order)
			defer set(t, "order", 0)
			devicetest.Run(t, open(t, Options{Exact: true}), devicetest.Options{Exact: true, Quick: order != 0 || raceEnabled || testing.Short()})
		})
	}
}

// TestSeparateAllocationsConform is the part of the suite that moves numbers about, without a shared block.
func TestSeparateAllocationsConform(t *testing.T) {
	arithmetic(t)
	for _, f := range devicetest.Check(open(t, Options{Exact: true, Separate: true}), devicetest.Options{Exact: true}, "Allocate", "Upload", "Copy", "CopyRows", "Zero") {
		t.Error(f)
	}
}
