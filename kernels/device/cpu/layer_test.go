package cpu

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestRotateTurnsPairsByAngles(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			half, heads := rapid.IntRange(1, 70).Draw(t, "half"), rapid.IntRange(1, 5).Draw(t, "heads")
			x, angles := drawRow(t, "x", 2*half*heads), drawRow(t, "angles", half)
			cos, sin := make([]float32, half), make([]float32, half)
			for j, a := range angles {
				cos[j], sin[j] = float32(math.Cos(float64(a))), float32(math.Sin(float64(a)))
			}
			y := append([]float32(nil), x...)
			Rotate(y, cos, sin)
			back := append([]float32(nil), x...)
			RotateBackward(back, cos, sin)
			for h := range heads {
				for j := range half {
					low, high := h*2*half+j, h*2*half+half+j
					a, b, c, s := float64(x[low]), float64(x[high]), float64(cos[j]), float64(sin[j])
					size := math.Abs(a) + math.Abs(b)
					near(t, "low", y[low], a*c-b*s, size, 2e-7)
					near(t, "high", y[high], b*c+a*s, size, 2e-7)
					near(t, "low back", back[low], a*c+b*s, size, 2e-7)
					near(t, "high back", back[high], b*c-a*s, size, 2e-7)
				}
			}
		})
	})
}

func TestRotateRefusesPartsOfHeads(t *testing.T) {
	for _, n := range []int{1, 7, 12} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%d values of heads of 8: no panic", n)
				}
			}()
			Rotate(make([]float32, n), make([]float32, 4), make([]float32, 4))
		}()
	}
	Rotate(nil, nil, nil)
	RotateBackward(nil, make([]float32, 4), make([]float32, 4))
}

// drawLogits is a row of logits, perhaps one of them impossible, and an inverse temperature.
func drawLogits(t *rapid.T) (logits []float32, inverseTemperature float32) {
	x := drawRow(t, "logits", 2+drawLength(t))
	if rapid.Bool().Draw(t, "mask") {
		x[rapid.IntRange(1, len(x)-1).Draw(t, "masked")] = float32(math.Inf(-1))
	}
	return x, float32(rapid.Float64Range(0.1, 3).Draw(t, "inverse temperature"))
}

func TestHeadRowDescribesTheDistribution(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			x, scale := drawLogits(t)
			logZ, entropy := oracleSoftmax(x, float64(scale))
			z := append([]float32(nil), x...)
			logSum, gotEntropy := HeadRow(z, scale)
			near(t, "entropy", gotEntropy, entropy, 1+entropy, 1e-5)
			top := float32(math.Inf(-1))
			for i, v := range z {
				top = max(top, v)
				if math.IsInf(float64(x[i]), -1) {
					if v != x[i] {
						t.Fatalf("impossible element: got %v", v)
					}
					continue
				}
				want := float64(scale)*float64(x[i]) - logZ
				near(t, "log-probability", v-logSum, want, 1+math.Abs(want)+math.Abs(logZ), 1e-6)
				if v-logSum > 0 {
					t.Fatalf("log-probability %v is positive", v-logSum)
				}
			}
			if top != 0 {
				t.Fatalf("largest centred logit: got %v, want 0", top)
			}
		})
	})
}

func TestHeadRowOfNearCertainty(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		for n := 1; n < 70; n++ {
			z := make([]float32, n)
			for i := range z {
				z[i] = 1000
			}
			z[n-1] = 1100
			logSum, entropy := HeadRow(z, 1)
			if logSum != 0 || math.Abs(float64(entropy)) > 1e-30 || z[n-1] != 0 {
				t.Fatalf("%d logits: got logSum %v, entropy %v and a top of %v, want zeros", n, logSum, entropy, z[n-1])
			}
		}
		if logSum, entropy := HeadRow(nil, 1); !math.IsInf(float64(logSum), -1) || entropy != 0 {
			t.Errorf("empty row: got %v and %v", logSum, entropy)
		}
	})
}

func TestHeadRowBackwardIsTheDerivative(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			x, scale := drawLogits(t)
			target := rapid.IntRange(0, len(x)-1).Draw(t, "target")
			for math.IsInf(float64(x[target]), -1) {
				target--
			}
			dLogProb, dEntropy := rapid.Float64Range(-2, 2).Draw(t, "dLogProb"), rapid.Float64Range(-2, 2).Draw(t, "dEntropy")
			if rapid.Bool().Draw(t, "without entropy") {
				dEntropy = 0
			}
			z := append([]float32(nil), x...)
			logSum, entropy := HeadRow(z, scale)
			HeadRowBackward(z, logSum, entropy, target, float32(dLogProb), float32(dEntropy), scale)

			logZ, h := oracleSoftmax(x, float64(scale))
			dLogProb, dEntropy = float64(float32(dLogProb)), float64(float32(dEntropy))
			for i, v := range x {
				l, want, size := float64(scale)*float64(v)-logZ, 0.0, 1e-7
				if p := math.Exp(l); p > 0 {
					want -= dLogProb*p + dEntropy*p*(l+h)
					size = p * (math.Abs(dLogProb) + math.Abs(dEntropy)*(math.Abs(l)+h)) * (1 + math.Abs(logZ))
				}
				if i == target {
					want += dLogProb
					size += math.Abs(dLogProb)
				}
				near(t, "gradient", z[i], want*float64(scale), (size+1e-7)*float64(scale), 3e-5)
			}
		})
	})
}
