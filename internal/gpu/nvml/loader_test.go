//go:build linux && cgo

package nvml

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// oldLibrary names the compiled testdata/oldnvml.c to a process of its own, which it is for: what is loaded once stays.
const oldLibrary = "TURNWISE_TEST_OLD_NVML"

// TestOldLibraryIsAskedForWhatItHas loads a real library that lacks most functions. To call one of those ends the
// process at once, which no mock shows.
func TestOldLibraryIsAskedForWhatItHas(t *testing.T) {
	if path := os.Getenv(oldLibrary); path != "" {
		askOldLibrary(t, path)
		return
	}
	compiler, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no gcc to make a library with")
	}
	path := filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
	if out, err := exec.CommandContext(t.Context(), compiler, "-shared", "-fPIC", "-o", path, filepath.Join("testdata", "oldnvml.c")).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	again.Env = append(os.Environ(), oldLibrary+"="+path)
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func askOldLibrary(t *testing.T, path string) {
	t.Helper()
	l := newLibrary(nvml.New(nvml.WithLibraryPath(path)))
	s := newSource(l)
	for range 2 { // the library is closed in between
		inventory := mustList(t, s)
		want := gpu.Inventory{Driver: "390.1", Devices: []gpu.Device{{UUID: "GPU-old", Kind: gpu.GPU, Name: "Tesla P100", MemoryTotalBytes: 16 << 30, PCI: "00000000:1B:00.0"}}}
		if diff := cmp.Diff(want, inventory); diff != "" {
			t.Error(diff)
		}
		readings, err := s.Read(t.Context())
		if err != nil {
			t.Error(err)
		}
		used, watts := int64(1<<30), 123.0
		if diff := cmp.Diff([]gpu.Reading{{UUID: "GPU-old", MemoryUsedBytes: &used, PowerWatts: &watts}}, readings); diff != "" {
			t.Error(diff)
		}
	}
	reopen(t, l)
	defer l.close()
	if _, err := l.listen(); err == nil {
		t.Error("events of a device that cannot say which it tells")
	}
}
