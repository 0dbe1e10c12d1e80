package cpu

import (
	"math"
	"math/rand/v2"
	"testing"
)

// elementOf is each operation on one pair of values, as Go computes it.
var elementOf = [Elements]func(a, b, c0, c1 float32) float32{
	ElementNeg:     func(a, _, _, _ float32) float32 { return -a },
	ElementAbs:     func(a, _, _, _ float32) float32 { return float32(math.Abs(float64(a))) },
	ElementScale:   func(a, _, c0, _ float32) float32 { return c0 * a },
	ElementShift:   func(a, _, c0, _ float32) float32 { return a + c0 },
	ElementClip:    func(a, _, c0, c1 float32) float32 { return min(max(a, c0), c1) },
	ElementInside:  func(a, _, c0, c1 float32) float32 { return zeroOrOne(c0 <= a && a <= c1) },
	ElementSign:    func(a, _, _, _ float32) float32 { return zeroOrOne(a > 0) - zeroOrOne(a < 0) },
	ElementSigmoid: func(a, _, _, _ float32) float32 { return float32(1 / (1 + math.Exp(-float64(a)))) },
	ElementSqrt:    func(a, _, _, _ float32) float32 { return float32(math.Sqrt(float64(a))) },
	ElementInvert: func(a, _, _, _ float32) float32 {
		if a == 0 {
			return 0
		}
		return 1 / a
	},
	ElementAdd:     func(a, b, _, _ float32) float32 { return a + b },
	ElementSub:     func(a, b, _, _ float32) float32 { return a - b },
	ElementMul:     func(a, b, _, _ float32) float32 { return a * b },
	ElementDiv:     func(a, b, _, _ float32) float32 { return a / b },
	ElementMin:     func(a, b, _, _ float32) float32 { return min(a, b) },
	ElementMax:     func(a, b, _, _ float32) float32 { return max(a, b) },
	ElementLess:    func(a, b, _, _ float32) float32 { return zeroOrOne(a < b) },
	ElementLessEq:  func(a, b, _, _ float32) float32 { return zeroOrOne(a <= b) },
	ElementDiffers: func(a, b, _, _ float32) float32 { return zeroOrOne(a != b) },
}

func zeroOrOne(b bool) float32 {
	if b {
		return 1
	}
	return 0
}

// TestElementsAreThoseOfGo runs every operation on rows of every length up to several vectors, with values that are
// equal, zero, infinite and NaN among them, and looks at what lies behind the rows.
func TestElementsAreThoseOfGo(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	special := []float32{0, float32(math.Copysign(0, -1)), 1, -1, 0.5, float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 1e-42}
	draw := func() float32 {
		if random.IntN(3) == 0 {
			return special[random.IntN(len(special))]
		}
		return float32(random.NormFloat64())
	}
	onEveryISA(t, func(t *testing.T) {
		for e := range Elements {
			for n := range 150 {
				a, b, dst := make([]float32, n), make([]float32, n), make([]float32, n+1)
				for i := range a {
					a[i], b[i] = draw(), draw()
				}
				dst[n] = 7
				if !e.Run(dst[:n], a, b, -0.5, 1) {
					if active != isaGo {
						t.Fatalf("%v has no kernel for element %d", active, e)
					}
					continue
				}
				for i := range a {
					want, got := elementOf[e](a[i], b[i], -0.5, 1), dst[i]
					near := e == ElementSigmoid && math.Abs(float64(want-got)) <= 4e-7*float64(want)
					if want != got && !near && !(want != want && got != got) {
						t.Fatalf("element %d of %v and %v, value %d of %d: got %v, want %v", e, a[i], b[i], i, n, got, want)
					}
				}
				if dst[n] != 7 {
					t.Fatalf("element %d wrote behind a row of %d", e, n)
				}
			}
		}
	})
}

func TestSumsInDoubleAndFiniteness(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	onEveryISA(t, func(t *testing.T) {
		for n := range 150 {
			x := make([]float32, n)
			want := 0.0
			for i := range x {
				x[i] = float32(random.NormFloat64())
				want += float64(x[i])
			}
			if got := SumDouble(x); math.Abs(got-want) > 1e-12 {
				t.Fatalf("sum of %d: got %v, want %v", n, got, want)
			}
			if !Finite(x) {
				t.Fatalf("%d finite values are not", n)
			}
			for _, wrong := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
				if n > 0 {
					at := random.IntN(n)
					kept := x[at]
					x[at] = float32(wrong)
					if Finite(x) {
						t.Fatalf("%v at %d of %d passes for finite", wrong, at, n)
					}
					x[at] = kept
				}
			}
		}
	})
}
