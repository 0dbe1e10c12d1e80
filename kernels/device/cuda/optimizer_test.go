package cuda

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// TestNotFiniteShows wants what is infinite or not a number in the results of whatever reads it.
func TestNotFiniteShows(t *testing.T) {
	arithmetic(t)
	l := newLab(t)
	const n, bad = 9000, 8191
	nan, infinity := float32(math.NaN()), float32(math.Inf(1))
	for _, v := range []float32{nan, infinity, -infinity} {
		x := l.draw(n)
		x[bad] = v
		b := l.put(device.F32, x)
		if got, err := l.d.SquaredNorm(b); err != nil || !math.IsNaN(got) && !math.IsInf(got, 1) || math.IsNaN(got) != (v != v) {
			t.Errorf("SquaredNorm with a %g is %g (%v)", v, got, err)
		}
		param, m, moment := l.put(device.F32, l.draw(n)), l.put(device.F32, make([]float32, n)), l.put(device.F32, make([]float32, n))
		l.d.AdamW(device.AdamWStep{Param: param, Grad: b, M: m, V: moment, LearningRate: 0.1, Beta1: 0.9, Beta2: 0.9, Epsilon: 1e-8, BiasCorrection1: 0.1, BiasCorrection2: 0.1})
		l.d.Add(m, b, 2)
		l.d.Scale(b, 0.5)
		for what, b := range map[string]device.Buffer{"AdamW": param, "Add": m, "Scale": b} {
			if at, err := l.d.FirstNonFinite(b); err != nil || at != bad {
				t.Errorf("%s with a %g at %d: the first not finite is %d (%v)", what, v, bad, at, err)
			}
		}
	}
}

// TestLongTensors has more elements than the blocks of a launch go through at once.
func TestLongTensors(t *testing.T) {
	arithmetic(t)
	l := newLab(t)
	n := max(4*256*32*l.d.multiprocessors, 256*squaresEach) + 1234
	x := make([]float32, n)
	want := 0.0
	for i := range x {
		x[i] = float32(i%1021) - 500
		want += float64(x[i]) * float64(x[i])
	}
	b := l.put(device.F32, x)
	if got, err := l.d.SquaredNorm(b); err != nil || got != want { // integers below 2⁵³ are exact in any order
		t.Errorf("SquaredNorm is %v, want %v (%v)", got, want, err)
	}
	l.d.Scale(b, 2)
	l.d.Add(b, b, 1)
	for i := range x {
		x[i] *= 4
	}
	l.equal("4·x", l.get(b), x)
	for _, at := range []int{n - 1, n - 1234, n / 2, 3} {
		l.d.Upload(b.Slice(at, at+1), []float32{float32(math.Inf(-1))})
		if got, err := l.d.FirstNonFinite(b); err != nil || got != at {
			t.Errorf("the first not finite is %d, want %d (%v)", got, at, err)
		}
	}
}

// TestScaleInBF16 rounds to nearest even.
func TestScaleInBF16(t *testing.T) {
	arithmetic(t)
	l := newLab(t)
	x := l.draw(1000)
	b := l.put(device.BF16, x)
	l.d.Scale(b, 0.37)
	for i := range x {
		x[i] = nearest(x[i] * 0.37)
	}
	l.equal("0.37·x", l.get(b), x)
}
