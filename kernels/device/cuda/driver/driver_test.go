package driver

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// TestMissingLibraryIsNamed opens a library that is not there from goroutines that keep being moved between the system's
// threads, each of which has loader errors of its own.
func TestMissingLibraryIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "no-driver")
	var all sync.WaitGroup
	for range 4 * runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for range 2000 {
				if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
					t.Errorf("got %v, want what is missing named", err)
					return
				}
			}
		})
	}
	all.Wait()
}

// TestRealDriverHasAllCalls opens NVIDIA's own driver, for which no GPU is needed: it has every call, and where it sees no GPU
// says so.
func TestRealDriverHasAllCalls(t *testing.T) {
	path := os.Getenv("TURNWISE_CUDA_DRIVER")
	if path == "" {
		t.Skip("TURNWISE_CUDA_DRIVER names no driver of NVIDIA's")
	}
	d, err := Open(path)
	if CodeOf(err) == NoDevice {
		t.Log(err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if version, err := d.Version(); err != nil || version < 12000 {
		t.Errorf("it supports CUDA %d, %v", version, err)
	}
}
