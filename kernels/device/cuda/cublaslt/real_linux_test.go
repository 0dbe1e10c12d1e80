package cublaslt

import (
	"os"
	"testing"
	"unsafe"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// TestRealLibraryTakesDescriptions describes products to NVIDIA's own library, for which no GPU is needed. It refuses
// attributes that it does not know and values of another size; the emulator refuses what we think it does.
func TestRealLibraryTakesDescriptions(t *testing.T) {
	path := os.Getenv("TURNWISE_CUBLASLT")
	if path == "" {
		t.Skip("TURNWISE_CUBLASLT names no library of NVIDIA's")
	}
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s is version %v", l.Path(), l.Version())
	m, err := NewMultiplier(&Handle{library: l}, maxAlignment, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	matrix := Matrix{Address: 64, Stride: 128}
	for _, matrix.Type = range []device.DType{device.F32, device.BF16} {
		for f := range forms {
			if _, err := m.operation(form(f), matrix.Type); err != nil {
				t.Errorf("form %d of %v: %v", f, matrix.Type, err)
			}
		}
		var layout uintptr
		if err := m.layout(&layout, matrix, 3, 5); err != nil {
			t.Errorf("layout of %v: %v", matrix.Type, err)
		}
		if err := l.destroy(matrixLayoutDestroy, layout); err != nil {
			t.Error(err)
		}
	}
	for _, attribute := range []uintptr{preferAlignmentA, preferAlignmentB, preferAlignmentC, preferAlignmentD} {
		if err := m.prefer(attribute, matrix); err != nil {
			t.Errorf("preference %d: %v", attribute, err)
		}
	}
	wrong := uint32(1)
	if err := l.call(matmulPreferenceSetAttribute, m.preference, preferMaxWorkspace, uintptr(unsafe.Pointer(&wrong)), 4); err == nil {
		t.Error("a size of workspace in 4 bytes is taken: the library does not look at what it is given")
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
