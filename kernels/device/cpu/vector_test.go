package cpu

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// ulps is the distance of got from want in units of the last place of a float32 near want.
func ulps(got float32, want float64) float64 {
	if math.IsNaN(want) || math.IsNaN(float64(got)) {
		if math.IsNaN(want) && math.IsNaN(float64(got)) {
			return 0
		}
		return math.Inf(1)
	}
	if float64(got) == want {
		return 0
	}
	if want > math.MaxFloat32 { // overflow rounds at half a unit above the largest number
		want = min(want, 0x1p128)
		if math.IsInf(float64(got), 1) {
			return 0
		}
	}
	exponent := max(math.Ilogb(want), -126)
	return math.Abs(float64(got)-want) / math.Ldexp(1, exponent-23)
}

func TestExpIsWithinOneUnitInTheLastPlace(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		src := make([]float32, 0, 1<<16)
		dst := make([]float32, 1<<16)
		worst, worstAt := 0.0, float32(0)
		check := func() {
			Exp(dst[:len(src)], src)
			for i, x := range src {
				if d := ulps(dst[i], math.Exp(float64(x))); d > worst {
					worst, worstAt = d, x
				}
			}
			src = src[:0]
		}
		for bits := uint64(0); bits < 1<<32; bits += 2003 {
			if src = append(src, math.Float32frombits(uint32(bits))); len(src) == cap(src) {
				check()
			}
		}
		for x := float32(-110); x < 95; x += 1.0 / 4096 {
			if src = append(src, x); len(src) == cap(src) {
				check()
			}
		}
		src = append(src, 0, float32(math.Copysign(0, -1)), float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()),
			88.72283, 88.72284, -103.97208, -103.97209, -87.33655)
		check()
		if worst > 1 {
			t.Errorf("exp(%v) is off by %.3f units in the last place", worstAt, worst)
		}
		t.Logf("worst %.3f units in the last place, at %v", worst, worstAt)
	})
}

// drawRow is a row of up to 150 values of mixed magnitude.
func drawRow(t *rapid.T, name string, n int) []float32 {
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, name), 2))
	x := normal(random, n)
	for i := range x {
		x[i] *= float32(math.Exp(random.Float64()*4 - 2))
	}
	return x
}

func drawLength(t *rapid.T) int { return rapid.IntRange(0, 150).Draw(t, "n") }

// near fails unless got is within tolerance·magnitude of want.
func near(t *rapid.T, what string, got float32, want, magnitude, tolerance float64) {
	t.Helper()
	if diff := math.Abs(float64(got) - want); !(diff <= tolerance*magnitude+1e-30) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func TestReductionsAreCloseToFloat64(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			n := drawLength(t)
			x, y := drawRow(t, "x", n), drawRow(t, "y", n)
			top := math.Inf(-1)
			var sum, sumOf, dot, dotOf, square float64
			for i := range x {
				a, b := float64(x[i]), float64(y[i])
				sum, sumOf = sum+a, sumOf+math.Abs(a)
				dot, dotOf = dot+a*b, dotOf+math.Abs(a*b)
				top = max(top, a)
				square += a * a
			}
			near(t, "Sum", Sum(x), sum, sumOf, 2e-6)
			near(t, "Dot", Dot(x, y), dot, dotOf, 2e-6)
			if got := SquaredNorm(x); math.Abs(got-square) > 1e-14*square {
				t.Fatalf("SquaredNorm: got %v, want %v", got, square)
			}
			if got := Max(x); float64(got) != top {
				t.Fatalf("Max: got %v, want %v", got, top)
			}
		})
	})
}

func TestMaxKeepsNaN(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		for n := 1; n < 140; n++ {
			for at := range n {
				x := make([]float32, n)
				x[at] = float32(math.NaN())
				if got := Max(x); got == got {
					t.Fatalf("NaN at %d of %d: got %v", at, n, got)
				}
				x[at] = float32(math.Inf(-1))
				if got := Max(x[at : at+1]); got != x[at] {
					t.Fatalf("got %v, want -Inf", got)
				}
			}
		}
	})
}

func TestSoftmaxAndEntropy(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			x := drawRow(t, "x", 1+drawLength(t))
			scale := float32(rapid.Float64Range(0.1, 3).Draw(t, "scale"))
			if len(x) > 1 && rapid.Bool().Draw(t, "mask") {
				x[rapid.IntRange(1, len(x)-1).Draw(t, "masked")] = float32(math.Inf(-1))
			}
			logZ, entropy := oracleSoftmax(x, float64(scale))
			about := describe(x, scale)
			near(t, "logZ", float32(about.scale*about.top+about.logSum), logZ, 1+math.Abs(logZ), 2e-6)
			near(t, "entropy", about.entropy, entropy, 1+entropy, 1e-5)
			logZ, _ = oracleSoftmax(x, 1)
			about = describe(x, 1)
			near(t, "untempered logZ", float32(about.top+about.logSum), logZ, 1+math.Abs(logZ), 2e-6)

			p := append([]float32(nil), x...)
			top, sum := SoftmaxScaled(p, 1)
			near(t, "max + log sumExp", top+float32(math.Log(float64(sum))), logZ, 1+math.Abs(logZ), 2e-6)
			for i := range p {
				want := math.Exp(float64(x[i]) - logZ)
				near(t, "probability", p[i], want, want, 2e-5)
			}

			logZ, _ = oracleSoftmax(x, float64(scale))
			copy(p, x)
			top, sum = SoftmaxScaled(p, scale)
			near(t, "scaled max + log sumExp", scale*top+float32(math.Log(float64(sum))), logZ, 1+math.Abs(logZ), 2e-6)
			for i := range p {
				want := math.Exp(float64(scale)*float64(x[i]) - logZ)
				near(t, "scaled probability", p[i], want, want, 4e-5)
			}
		})
	})
}

// oracleSoftmax is logZ and entropy of softmax(scale·x) in float64.
func oracleSoftmax(x []float32, scale float64) (logZ, entropy float64) {
	total := 0.0
	for _, v := range x {
		total += math.Exp(scale * float64(v))
	}
	logZ = math.Log(total)
	for _, v := range x {
		if l := scale*float64(v) - logZ; !math.IsInf(l, -1) {
			entropy -= math.Exp(l) * l
		}
	}
	return logZ, entropy
}

func TestEmptyAndMaskedRows(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		low := float32(math.Inf(-1))
		for _, row := range [][]float32{{low}, {low, low, low}} {
			if about := describe(row, 0.5); !math.IsNaN(about.logSum) || about.entropy == about.entropy {
				t.Errorf("%v: got logSum %v entropy %v, want neither to be a number", row, about.logSum, about.entropy)
			}
		}
		if top, sum := SoftmaxScaled(nil, 1); top != low || sum != 0 {
			t.Errorf("empty row: got max %v sum %v, want -Inf and 0", top, sum)
		}
		if Sum(nil) != 0 || Dot(nil, nil) != 0 {
			t.Error("an empty sum is not 0")
		}
	})
}

func TestSquaredNormShowsWhatIsNotFinite(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		for n := 1; n < 140; n++ {
			x := make([]float32, n)
			for i := range x {
				x[i] = math.MaxFloat32
			}
			if got := SquaredNorm(x); math.IsInf(got, 0) || got < float64(n)*1e77/1.1 {
				t.Fatalf("%d times the largest number: got %v", n, got)
			}
			for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
				x[n/2] = float32(bad)
				if got := SquaredNorm(x); !math.IsNaN(got) && !math.IsInf(got, 1) {
					t.Fatalf("%v at %d of %d: got %v", bad, n/2, n, got)
				}
			}
		}
	})
}

func TestSoftmaxBackwardIsTheDerivative(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			n := drawLength(t)
			d, p := drawRow(t, "d", n), drawRow(t, "p", n)
			total, scale := float32(rapid.Float64Range(-2, 2).Draw(t, "total")), float32(rapid.Float64Range(0.1, 2).Draw(t, "scale"))
			got := append([]float32(nil), d...)
			SoftmaxBackward(got, p, total, scale)
			for i := range got {
				factor := float64(scale) * float64(p[i])
				near(t, "gradient", got[i], factor*(float64(d[i])-float64(total)), math.Abs(factor)*(math.Abs(float64(d[i]))+math.Abs(float64(total))), 4e-7)
			}
		})
	})
}

func TestElementwise(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			n := drawLength(t)
			x, y, alpha := drawRow(t, "x", n), drawRow(t, "y", n), float32(rapid.Float64Range(-2, 2).Draw(t, "alpha"))
			sum := append([]float32(nil), y...)
			Axpy(alpha, x, sum)
			scaled := append([]float32(nil), x...)
			Scale(alpha, scaled)
			activated := make([]float32, n)
			SiLUMul(activated, x, y)
			for i := range n {
				a, b := float64(x[i]), float64(y[i])
				near(t, "Axpy", sum[i], b+float64(alpha)*a, math.Abs(b)+math.Abs(float64(alpha)*a), 2e-7)
				near(t, "Scale", scaled[i], float64(alpha)*a, math.Abs(float64(alpha)*a), 1e-7)
				want := a / (1 + math.Exp(-a)) * b
				near(t, "SiLUMul", activated[i], want, math.Abs(want), 5e-7)
			}
		})
	})
}

func TestSiLUMulBackwardIsTheDerivative(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			n := drawLength(t)
			gate, up, dOut := drawRow(t, "gate", n), drawRow(t, "up", n), drawRow(t, "dOut", n)
			dGate, dUp := make([]float32, n), make([]float32, n)
			SiLUMulBackward(dGate, dUp, dOut, gate, up)
			silu := func(x float64) float64 { return x / (1 + math.Exp(-x)) }
			const h = 1e-5
			for i := range n {
				g, d := float64(gate[i]), float64(dOut[i])
				slope := (silu(g+h) - silu(g-h)) / (2 * h)
				near(t, "dGate", dGate[i], d*float64(up[i])*slope, math.Abs(d*float64(up[i]))*(1+math.Abs(g)), 1e-6)
				near(t, "dUp", dUp[i], d*silu(g), math.Abs(d*silu(g)), 1e-6)
			}
		})
	})
}

func TestSiLUMulOfExtremeGates(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		gate, ones, dst := []float32{-1000, -100, 0, 100, 1000}, []float32{1, 1, 1, 1, 1}, make([]float32, 5)
		SiLUMul(dst, gate, ones)
		dGate, dUp := make([]float32, 5), make([]float32, 5)
		SiLUMulBackward(dGate, dUp, ones, gate, ones)
		wantSlope := []float64{0, 0, 0.5, 1, 1}
		for i, want := range []float64{0, 0, 0, 100, 1000} {
			if math.Abs(float64(dst[i])-want) > 1e-30 || math.Abs(float64(dGate[i])-wantSlope[i]) > 1e-30 {
				t.Errorf("silu(%v): got %v slope %v, want %v slope %v", gate[i], dst[i], dGate[i], want, wantSlope[i])
			}
		}
	})
}

func TestRMSNorm(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			n := 1 + drawLength(t)
			x, weight, dy := drawRow(t, "x", n), drawRow(t, "weight", n), drawRow(t, "dy", n)
			const eps = 1e-6
			norm := func(x []float64, i int) float64 {
				square := 0.0
				for _, v := range x {
					square += v * v
				}
				return x[i] / math.Sqrt(square/float64(n)+eps) * float64(weight[i])
			}
			x64 := make([]float64, n)
			for i := range x {
				x64[i] = float64(x[i])
			}
			dst := make([]float32, n)
			inv := RMSNorm(dst, x, weight, eps)
			for i := range dst {
				near(t, "RMSNorm", dst[i], norm(x64, i), math.Abs(norm(x64, i)), 3e-6)
			}
			before := drawRow(t, "before", n)
			dx, dWeight := append([]float32(nil), before...), append([]float32(nil), before...)
			RMSNormBackward(dx, dWeight, dy, x, weight, inv)
			j := rapid.IntRange(0, n-1).Draw(t, "element")
			near(t, "dWeight", dWeight[j], float64(before[j])+float64(dy[j])*norm(x64, j)/float64(weight[j]),
				1+math.Abs(float64(dWeight[j])), 1e-5)
			loss := func(at float64) (total float64) {
				moved := append([]float64(nil), x64...)
				moved[j] = at
				for i := range moved {
					total += float64(dy[i]) * norm(moved, i)
				}
				return total
			}
			h := 1e-5 / float64(inv) // small beside the root mean square, the scale on which the norm bends
			slope := (loss(x64[j]+h) - loss(x64[j]-h)) / (2 * h)
			magnitude := 0.0
			for i := range dy {
				magnitude += math.Abs(float64(dy[i]*weight[i])) * float64(inv)
			}
			near(t, "dx", dx[j], float64(before[j])+slope, 1+math.Abs(float64(before[j]))+magnitude, 2e-5)
		})
	})
}

func TestAdamW(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			n := drawLength(t)
			param, grad, m, v := drawRow(t, "param", n), drawRow(t, "grad", n), drawRow(t, "m", n), drawRow(t, "v", n)
			for i := range v {
				v[i] = v[i] * v[i]
			}
			const lr, beta1, beta2, eps, decay, correction1, correction2 = 3e-3, 0.9, 0.999, 1e-8, 0.1, 0.271, 0.002997
			p, first, second := append([]float32(nil), param...), append([]float32(nil), m...), append([]float32(nil), v...)
			AdamW(p, grad, first, second, lr, beta1, beta2, eps, decay, correction1, correction2)
			for i := range p {
				g := float64(grad[i])
				wantM := beta1*float64(m[i]) + (1-beta1)*g
				wantV := beta2*float64(v[i]) + (1-beta2)*g*g
				update := lr * wantM / correction1 / (math.Sqrt(wantV/correction2) + eps)
				near(t, "m", first[i], wantM, math.Abs(float64(m[i]))+math.Abs(g), 3e-7)
				near(t, "v", second[i], wantV, wantV, 2e-5)
				near(t, "param", p[i], float64(param[i])*(1-lr*decay)-update, math.Abs(float64(param[i]))+math.Abs(update), 2e-5)
			}
		})
	})
}

// rowFunctions are all vector functions as functions of five equal rows, two of which they may write.
var rowFunctions = map[string]func(a, b, x, y, z []float32) float32{
	"Exp":             func(a, b, x, y, z []float32) float32 { Exp(a, x); return 0 },
	"Dot":             func(a, b, x, y, z []float32) float32 { return Dot(x, y) },
	"Axpy":            func(a, b, x, y, z []float32) float32 { Axpy(0.3, x, a); return 0 },
	"Sum":             func(a, b, x, y, z []float32) float32 { return Sum(x) },
	"Max":             func(a, b, x, y, z []float32) float32 { return Max(x) },
	"Scale":           func(a, b, x, y, z []float32) float32 { Scale(0.3, a); return 0 },
	"SiLUMul":         func(a, b, x, y, z []float32) float32 { SiLUMul(a, x, y); return 0 },
	"SiLUMulBackward": func(a, b, x, y, z []float32) float32 { SiLUMulBackward(a, b, x, y, z); return 0 },
	"RMSNorm":         func(a, b, x, y, z []float32) float32 { return RMSNorm(a, x, y, 1e-6) },
	"RMSNormBackward": func(a, b, x, y, z []float32) float32 { RMSNormBackward(a, b, x, y, z, 0.4); return 0 },
	"SoftmaxScaled":   func(a, b, x, y, z []float32) float32 { top, sum := SoftmaxScaled(a, 0.3); return top + sum },
	"SoftmaxBackward": func(a, b, x, y, z []float32) float32 { SoftmaxBackward(a, x, 0.7, 0.3); return 0 },
	"SquaredNorm":     func(a, b, x, y, z []float32) float32 { return float32(SquaredNorm(x)) },
	"HeadRow":         func(a, b, x, y, z []float32) float32 { l, e := HeadRow(a, 0.7); return l + e },
	"HeadRowBackward": func(a, b, x, y, z []float32) float32 {
		if len(a) > 0 {
			HeadRowBackward(a, 1.5, 0.7, len(a)/2, 0.3, -0.2, 0.7)
		}
		return 0
	},
	"Rotate": func(a, b, x, y, z []float32) float32 {
		whole := len(a) / 2 * 2
		Rotate(a[:whole], x[:len(x)/2], y[:len(y)/2])
		RotateBackward(b[:whole], x[:len(x)/2], y[:len(y)/2])
		return 0
	},
	"AdamW": func(a, b, x, y, z []float32) float32 {
		v := append([]float32(nil), z...)
		for i := range v {
			v[i] *= v[i]
		}
		AdamW(a, x, b, v, 0.1, 0.9, 0.99, 1e-8, 0.1, 0.5, 0.5)
		return Sum(v)
	},
}

// TestRowsIgnoreTheirPlace moves the same rows through memory: results keep their bits, and nothing
// beyond a row is written.
func TestRowsIgnoreTheirPlace(t *testing.T) {
	const fence = 12345
	onEveryISA(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			n := drawLength(t)
			var rows [5][]float32
			for i := range rows {
				rows[i] = drawRow(t, "row", n)
			}
			place := func(offset int) (fenced [5][]float32, inside [5][]float32) {
				for i, row := range rows {
					fenced[i] = make([]float32, n+40)
					for j := range fenced[i] {
						fenced[i][j] = fence
					}
					inside[i] = fenced[i][offset+i%2 : offset+i%2+n]
					copy(inside[i], row)
				}
				return fenced, inside
			}
			offset := rapid.IntRange(1, 17).Draw(t, "offset")
			for name, function := range rowFunctions {
				_, want := place(0)
				wantValue := function(want[0], want[1], want[2], want[3], want[4])
				fenced, got := place(offset)
				value := function(got[0], got[1], got[2], got[3], got[4])
				if math.Float32bits(value) != math.Float32bits(wantValue) {
					t.Fatalf("%s at %d: got %v, want %v", name, offset, value, wantValue)
				}
				for i := range rows {
					for j, v := range fenced[i] {
						w, at := float32(fence), j-offset-i%2
						if at >= 0 && at < n {
							w = want[i][at]
						}
						if math.Float32bits(v) != math.Float32bits(w) {
							t.Fatalf("%s at %d: row %d element %d: got %v, want %v", name, offset, i, at, v, w)
						}
					}
				}
			}
		})
	})
}

func TestRowsOfDifferentLengthsPanic(t *testing.T) {
	x, y := make([]float32, 8), make([]float32, 6)
	ofOneRow := []string{"Sum", "Max", "Scale", "SoftmaxScaled", "SquaredNorm", "HeadRow", "HeadRowBackward"}
	for name, function := range rowFunctions {
		if slices.Contains(ofOneRow, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			function(x, x, y, x, x)
		})
	}
}
