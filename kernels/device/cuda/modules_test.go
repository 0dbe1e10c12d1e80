package cuda

import (
	"errors"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/ptx"
)

// loaded are the names of the files that a device has loaded, and their bytes.
func (d *Device) loaded() (names []string, bytes int) {
	for _, file := range ptx.Files() {
		if d.functions[file.Kernels[0]] != 0 {
			names, bytes = append(names, file.Name), bytes+len(file.Text)
		}
	}
	return names, bytes
}

// TestModesLoadWhatTheyComputeWith wants the exact mode to have all of its code from the start, and the fast mode less than half of all
// code, to which what the shapes of Qwen3 take adds nothing.
func TestModesLoadWhatTheyComputeWith(t *testing.T) {
	exact, fast := open(t, Options{Exact: true}), open(t, Options{})
	all := 0
	for _, file := range ptx.Files() {
		all += len(file.Text)
		if has, _ := exact.loaded(); slices.Contains(has, file.Name) == file.Fast() {
			t.Errorf("the exact mode: %s is among what is loaded: %t", file.Name, !file.Fast())
		}
	}
	names, bytes := fast.loaded()
	if len(names)+len(fallbacks) != len(ptx.Files()) || 2*bytes > all {
		t.Errorf("the fast mode has %d bytes of %d: %v", bytes, all, names)
	}
	for _, a := range []longAttention{fastAttention(1, 4, 2, 128, 1, 65, 3), fastAttention(2, 2, 1, 64, 1, 33)} {
		a.keptResults(t, fast, nil)
	}
	x := uploaded(t, fast, device.BF16, make([]float32, 64*64), 64*64)
	w, err := fast.NewWeights(x, device.BF16, 64, 64, device.ForwardBack)
	must(t, err)
	defer fast.FreeWeights(w)
	y, grad := allocate(t, fast, device.BF16, 64*64), allocate(t, fast, device.F32, 64*64)
	fast.Product(device.Dense(y, 64), device.Dense(x, 64), 64, w, false)
	fast.ProductBack(device.Dense(y, 64), device.Dense(x, 64), 64, w, false)
	fast.ProductGrad(grad, device.Dense(y, 64), device.Dense(x, 64), 64, 64, 64)
	must(t, fast.Sync())
	if after, _ := fast.loaded(); !slices.Equal(after, names) {
		t.Errorf("attention and products of Qwen3's shapes load more: %v, and before %v", after, names)
	}
}

// TestCodeIsLoadedWhenItIsNeeded has the fast mode compute attention in float32: with the exact mode's bits, by code that it did not have,
// and that nothing loads in a recording.
func TestCodeIsLoadedWhenItIsNeeded(t *testing.T) {
	d, exact := open(t, Options{}), open(t, Options{Exact: true})
	a := fastAttention(3, 4, 2, 16, 1, 7, 12)
	a.dtype = device.F32
	q := uploaded(t, d, a.dtype, nil, len(a.q))
	attended := a.on(t, d)
	attend := func() { d.Attend(device.Dense(q, a.width(true)), attended) }
	var mistake *Mistake
	if _, err := d.Record(attend); !errors.As(err, &mistake) {
		t.Errorf("code was loaded in a recording: %v", err)
	}
	if names, _ := d.loaded(); slices.Contains(names, "attention.ptx") {
		t.Error("code that was needed in a recording is loaded")
	}
	want := uploaded(t, exact, a.dtype, nil, len(a.q))
	exact.Attend(device.Dense(want, a.width(true)), a.on(t, exact))
	attend()
	if !slices.Equal(downloaded(t, d, q), downloaded(t, exact, want)) {
		t.Error("attention in float32 has other bits than in the exact mode")
	}
	g, err := d.Record(attend)
	must(t, err)
	d.Zero(q)
	g.Replay()
	if !slices.Equal(downloaded(t, d, q), downloaded(t, exact, want)) {
		t.Error("a replay has other bits")
	}
	g.Free()
}
