package cpu

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// halfValue is what 16 bits stand for, by the definition of IEEE 754: the oracle of both narrow types.
func halfValue(h uint16, exponentBits, fractionBits int) float64 {
	sign := 1.0
	if h>>15 > 0 {
		sign = -1
	}
	bias := 1<<(exponentBits-1) - 1
	exponent, fraction := int(h>>fractionBits)&(1<<exponentBits-1), int(h)&(1<<fractionBits-1)
	switch {
	case exponent == 1<<exponentBits-1 && fraction > 0:
		return math.NaN()
	case exponent == 1<<exponentBits-1:
		return sign * math.Inf(1)
	case exponent == 0:
		return sign * math.Ldexp(float64(fraction), 1-bias-fractionBits)
	}
	return sign * math.Ldexp(float64(fraction+1<<fractionBits), exponent-bias-fractionBits)
}

// narrowTypes are the storage types with their fields.
var narrowTypes = []struct {
	dtype          device.DType
	exponent, bits int
	narrow         func(float32) uint16
	widen          func(uint16) float32
}{{device.BF16, 8, 7, bf16, fromBF16}, {device.F16, 5, 10, f16, fromF16}}

func TestEveryHalfIsWidenedExactlyAndComesBack(t *testing.T) {
	for _, n := range narrowTypes {
		for h := range 1 << 16 {
			want, got := halfValue(uint16(h), n.exponent, n.bits), n.widen(uint16(h))
			if math.IsNaN(want) {
				if got == got {
					t.Fatalf("%v %#04x: got %v, want NaN", n.dtype, h, got)
				}
				if back := n.narrow(got); !math.IsNaN(halfValue(back, n.exponent, n.bits)) || back>>15 != uint16(h)>>15 {
					t.Fatalf("%v %#04x: NaN comes back as %#04x", n.dtype, h, back)
				}
				continue
			}
			if float64(got) != want || math.Signbit(float64(got)) != math.Signbit(want) {
				t.Fatalf("%v %#04x: got %v, want %v", n.dtype, h, got, want)
			}
			if back := n.narrow(got); back != uint16(h) {
				t.Fatalf("%v %#04x: comes back as %#04x", n.dtype, h, back)
			}
		}
	}
}

// TestNarrowingRoundsToNearestEven takes, for every pair of neighbours, the numbers just below, at and just
// above the middle between them.
func TestNarrowingRoundsToNearestEven(t *testing.T) {
	for _, n := range narrowTypes {
		infinite := uint16(1<<n.exponent-1) << n.bits
		for h := range infinite {
			low, high := halfValue(h, n.exponent, n.bits), halfValue(h+1, n.exponent, n.bits)
			if h+1 == infinite { // overflow rounds as if the exponent went on
				high = math.Ldexp(1, 1<<(n.exponent-1))
			}
			middle := float32(low + (high-low)/2) // exact: it has one bit more
			even := h + h&1
			for _, c := range []struct {
				v    float32
				want uint16
			}{{math.Nextafter32(middle, 0), h}, {middle, even}, {math.Nextafter32(middle, math.MaxFloat32), h + 1}} {
				if n.dtype == device.BF16 && middle == 0 {
					continue
				}
				for sign, v := range []float32{c.v, -c.v} {
					if got, want := n.narrow(v), c.want|uint16(sign)<<15; got != want {
						t.Fatalf("%v of %v: got %#04x, want %#04x", n.dtype, v, got, want)
					}
				}
			}
		}
		for _, v := range []float32{math.MaxFloat32, float32(math.Inf(1))} {
			if got := n.narrow(v); got != infinite {
				t.Errorf("%v of %v: got %#04x, want infinity", n.dtype, v, got)
			}
		}
	}
}

func TestCopyConvertsBetweenAllTypes(t *testing.T) {
	b := newBench(t)
	source := b.normal(1000)
	types := []device.DType{device.F32, device.BF16, device.F16}
	for _, from := range types {
		first := b.allocate(from, 1000)
		b.d.Copy(first, source)
		for _, to := range types {
			second := b.allocate(to, 1000)
			b.d.Copy(second, first)
			want := b.allocate(to, 1000)
			b.d.Upload(want, b.values(first))
			sameBits(t, label(from.String()+" to "+to.String()), b.values(second), b.values(want))
		}
	}
}

// refused fails unless the error is that of a device without memory, in these words.
func refused(t *testing.T, err error, words string) {
	t.Helper()
	var out *device.OutOfMemory
	if !errors.As(err, &out) || err.Error() != words {
		t.Errorf("got error %v, want %s", err, words)
	}
}

func TestMemoryIsCountedAndLimited(t *testing.T) {
	d := New(MaxBytes(1000))
	first, err := d.Allocate(device.ForGradients, device.F32, 100)
	if err != nil {
		t.Fatal(err)
	}
	second, err := d.Allocate(device.ForWorkspace, device.BF16, 101)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := d.Usage(), (device.Usage{Bytes: 602, Peak: 602}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	_, err = d.Allocate(device.ForActivations, device.I32, 100)
	refused(t, err, "cpu has no 400 bytes left for activations: 398 bytes of 1000 bytes are free; this process holds 400 bytes of gradients, 202 bytes of workspace")
	d.Free(second)
	w, err := d.NewWeights(first, device.F32, 10, 10, device.ForwardBack) // two packed forms of one panel
	refused(t, err, "cpu has no 2560 bytes left for weights: 600 bytes of 1000 bytes are free; this process holds 400 bytes of gradients")
	if w != nil {
		t.Errorf("got weights besides the error")
	}
	p, err := d.NewPages(device.PageShape{DType: device.F32, Layers: 1, KVHeads: 1, Dim: 8, Pages: 1})
	refused(t, err, "cpu has no 2048 bytes left for cache: 600 bytes of 1000 bytes are free; this process holds 400 bytes of gradients")
	if p != nil {
		t.Errorf("got pages besides the error")
	}
	if got, want := d.Usage(), (device.Usage{Bytes: 400, Peak: 602}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	d.Free(first)
	d.Free(device.Buffer{})
	if got, want := d.Usage(), (device.Usage{Peak: 602}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestWeightsAndPagesAreCounted(t *testing.T) {
	b := newBench(t)
	held := b.d.Usage().Bytes
	w, _ := b.weights(40, 70)
	p, err := b.d.NewPages(device.PageShape{DType: device.F32, Layers: 2, KVHeads: 3, Dim: 16, Pages: 5})
	if err != nil {
		t.Fatal(err)
	}
	const want = 4 * (40*70 + 64*70 + 96*40 + 5*2*2*3*16*32)
	if got := b.d.Usage().Bytes - held; got != want {
		t.Errorf("got %d bytes, want %d", got, want)
	}
	b.d.FreeWeights(w)
	b.d.FreePages(p)
	b.d.FreeWeights(nil)
	b.d.FreePages(nil)
	if got := b.d.Usage().Bytes - held; got != 4*40*70 {
		t.Errorf("got %d bytes after freeing, want %d", got, 4*40*70)
	}
}

// panics fails unless the call panics with a text that contains the words.
func panics(t *testing.T, words string, call func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if text, _ := recover().(string); !strings.Contains(text, words) {
			t.Errorf("got panic %q, want one with %q", text, words)
		}
	}()
	call()
}

func TestMemoryIsNotUsedWrongly(t *testing.T) {
	b := newBench(t)
	d, buffer := b.d, b.normal(10)
	panics(t, "want the allocation of 10 elements, got 4 from element 2", func() { d.Free(buffer.Slice(2, 6)) })
	panics(t, "another device", func() { New().Free(buffer) })
	d.Free(buffer)
	panics(t, "freed before", func() { d.Free(buffer) })
	panics(t, "-1 elements", func() { _, _ = d.Allocate(device.ForWorkspace, device.F32, -1) })
	w, _ := b.weights(4, 4)
	panics(t, "another device", func() { New().FreeWeights(w) })
	d.FreeWeights(w)
	panics(t, "weights of 4×4 have been freed", func() { d.Refresh(w) })
	frozen, err := d.NewWeights(b.normal(16), device.F32, 4, 4, device.Forward)
	if err != nil {
		t.Fatal(err)
	}
	x := device.Dense(b.normal(16), 4)
	panics(t, "ProductBack: weights of 4×4 were made for Forward, want ForwardBack", func() { d.ProductBack(x, x, 4, frozen, false) })
	pages, at := b.cache(4, 2, 8)
	panics(t, "another device", func() { New().FreePages(pages) })
	d.FreePages(pages)
	panics(t, "the pages have been freed", func() { d.AttendPages(x, x, pages, 0, 4, 1, at) })
}

// TestNarrowTypesAreForStorage refuses to compute in them.
func TestNarrowTypesAreForStorage(t *testing.T) {
	b := newBench(t)
	_, weights := b.d.NewWeights(b.normal(12), device.BF16, 3, 4, device.Forward)
	_, pages := b.d.NewPages(device.PageShape{DType: device.BF16, Layers: 1, KVHeads: 1, Dim: 8, Pages: 2})
	for want, err := range map[string]error{
		"packing a matrix of 3×4: cpu computes in f32, not in bf16": weights, "cache of 2 pages: cpu computes in f32, not in bf16": pages,
	} {
		if err == nil || err.Error() != want {
			t.Errorf("got error %v, want %s", err, want)
		}
	}
	half := b.allocate(device.BF16, 16)
	panics(t, "cpu computes on elements of f32, got bf16", func() { b.d.SwiGLU(device.Dense(half, 4), device.Dense(half, 8), 2, 4) })
	panics(t, "cpu computes on elements of f32, got bf16", func() { b.d.Scale(half, 2) })
}
