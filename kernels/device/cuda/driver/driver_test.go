package driver

import (
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
