//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package weights

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFileThatShrinksIsAnError reads behind the end of a mapped file, which would otherwise end the process.
func TestFileThatShrinksIsAnError(t *testing.T) {
	folder := t.TempDir()
	values := make([]float32, 1<<18)
	if err := Save(folder, []Tensor{{"x", []int{len(values)}, FromSlice(values)}}, Options{}); err != nil {
		t.Fatal(err)
	}
	f, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(filepath.Join(folder, singleName), 1<<19); err != nil {
		t.Fatal(err)
	}
	err = f.Read("x", values)
	want := "tensor x of model.safetensors: the file became shorter while it was open: load again when nobody writes to it"
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	if err := f.ReadRange("x", 0, values[:1<<16]); err != nil {
		t.Errorf("what is still there: %v", err)
	}
}

// TestOtherPanicsGoOn keeps the recovery from swallowing mistakes that have nothing to do with the file.
func TestOtherPanicsGoOn(t *testing.T) {
	folder := t.TempDir()
	if err := Save(folder, []Tensor{{"x", []int{2}, FromSlice([]float32{1, 2})}}, Options{}); err != nil {
		t.Fatal(err)
	}
	c, size, err := openContent(filepath.Join(folder, singleName))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	defer func() {
		if got := recover(); got != "a mistake" {
			t.Errorf("recovered %v, want the visitor's panic", got)
		}
	}()
	err = c.pieces(0, size, func([]byte) error { panic("a mistake") })
	t.Errorf("returned %v", err)
}
