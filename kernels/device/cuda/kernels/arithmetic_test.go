package kernels

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ebitengine/purego"
)

// host has the functions of arithmetic.h for whole rows.
const host = `#include "arithmetic.h"
#define ROW(name) void name##_row(float *y, const float *x, long n) { for (long i = 0; i < n; i++) y[i] = name(x[i]); }
ROW(exponential)
ROW(logarithm)
ROW(sigmoid)
`

// rowOf is a function of arithmetic.h, compiled for the host.
type rowOf func(y, x *float32, n int)

// compiled is a function of arithmetic.h by name.
func compiled(t *testing.T) func(name string) rowOf {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, Sources); err != nil {
		t.Fatal(err)
	}
	source, library := filepath.Join(dir, "host.c"), filepath.Join(dir, "host.so")
	if err := os.WriteFile(source, []byte(host), 0o600); err != nil {
		t.Fatal(err)
	}
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	// The flags are those of the emulator.
	out, err := exec.CommandContext(t.Context(), compiler, "-std=gnu11", "-shared", "-fPIC", "-O2", "-march=native", "-ffp-contract=off", "-fno-math-errno",
		"-o", library, source).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	handle, err := purego.Dlopen(library, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		t.Fatal(err)
	}
	return func(name string) rowOf {
		var f rowOf
		purego.RegisterLibFunc(&f, handle, name+"_row")
		return f
	}
}

// at is the value of the function at one place.
func (f rowOf) at(x float32) float32 {
	var y float32
	f(&y, &x, 1)
	return y
}

// unit is a unit in the last place of a float32 of the size.
func unit(v float64) float64 {
	_, exponent := math.Frexp(v)
	return math.Ldexp(1, max(exponent-24, -149))
}

// TestArithmeticIsAccurate holds the functions to the errors that arithmetic.h states, at every 509th float32.
func TestArithmeticIsAccurate(t *testing.T) {
	function := compiled(t)
	for _, test := range []struct {
		name       string
		want       func(x float64) float64
		units      float64
		from, upto float32 // where it is told from 0 and finite
	}{
		{"exponential", math.Exp, 1.011, -104, 88.72283},
		{"logarithm", math.Log, 0.827, 1e-45, math.MaxFloat32},
		{"sigmoid", func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }, 2.481, -88.72283, math.MaxFloat32},
	} {
		f := function(test.name)
		const step, piece = 509, 1 << 16
		x, y := make([]float32, 0, piece), make([]float32, piece)
		worst, worstAt, tried := 0.0, float32(0), 0
		flush := func() {
			if len(x) == 0 {
				return
			}
			f(&y[0], &x[0], len(x))
			for i, v := range x {
				want := test.want(float64(v))
				if off := math.Abs(float64(y[i])-want) / unit(want); !(off <= worst) { // also a NaN
					worst, worstAt = off, v
				}
			}
			tried += len(x)
			x = x[:0]
		}
		for bits := uint64(0); bits < 1<<32; bits += step {
			if v := math.Float32frombits(uint32(bits)); v >= test.from && v <= test.upto {
				if x = append(x, v); len(x) == piece {
					flush()
				}
			}
		}
		flush()
		t.Logf("%s: at most %.4f units at %d numbers, at %g", test.name, worst, tried, worstAt)
		if !(worst <= test.units) {
			t.Errorf("%s(%g) is %g, which is %g units in the last place from %g; want at most %g", test.name, worstAt, f.at(worstAt), worst, test.want(float64(worstAt)), test.units)
		}
	}
}

// TestArithmeticAtTheEdges is what the functions are where they are not smooth.
func TestArithmeticAtTheEdges(t *testing.T) {
	function := compiled(t)
	infinity, nan := float32(math.Inf(1)), float32(math.NaN())
	negativeZero := float32(math.Copysign(0, -1))
	const subnormal, least = 0x1p-130, math.SmallestNonzeroFloat32
	for name, places := range map[string][]struct{ x, want float32 }{
		"exponential": {
			{0, 1}, {negativeZero, 1}, {least, 1}, {-least, 1}, {subnormal, 1}, {nan, nan}, {-nan, nan}, {infinity, infinity}, {-infinity, 0},
			{88.72284, infinity}, {89, infinity}, {math.MaxFloat32, infinity}, {-math.MaxFloat32, 0}, {-103.97, least}, {-103.98, 0}, {-104.5, 0},
			{-88, 6.0546015e-39},
		},
		"logarithm": {
			{1, 0}, {0, -infinity}, {negativeZero, -infinity}, {-1, nan}, {-least, nan}, {-infinity, nan}, {nan, nan}, {infinity, infinity},
			{least, -103.27893}, {subnormal, -90.109133}, {math.MaxFloat32, 88.722839},
		},
		"sigmoid": {
			{0, 0.5}, {negativeZero, 0.5}, {infinity, 1}, {-infinity, 0}, {nan, nan}, {40, 1}, {-89, 0}, {math.MaxFloat32, 1}, {-math.MaxFloat32, 0},
		},
	} {
		f := function(name)
		for _, p := range places {
			if got := f.at(p.x); math.Float32bits(got) != math.Float32bits(p.want) && (got == got || p.want == p.want) {
				t.Errorf("%s(%g) is %g, want %g", name, p.x, got, p.want)
			}
		}
	}
}
