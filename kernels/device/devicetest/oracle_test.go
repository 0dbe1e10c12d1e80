package devicetest

import (
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// fixture is what testdata/oracle.py has PyTorch compute.
type fixture struct {
	Norm struct {
		N, Width                      int
		Eps                           float64
		X, Weight, Dy, Y, Dx, DWeight []float64
	}
	SwiGLU struct {
		N, Width               int
		GateUp, Dy, Y, DGateUp []float64
	}
	Rotate struct {
		N, Count, Dim                           int
		Eps                                     float64
		Positions                               []int32
		Cos, Sin, X, Weight, Dy, Y, Dx, DWeight []float64
	}
	Attend struct {
		Heads, KVHeads, Dim            int
		Offsets                        []int32
		Scale                          float64
		Q, K, V, DOut, Out, Dq, Dk, Dv []float64
	}
	Score struct {
		N, Hidden, Vocabulary                                       int
		Inverse                                                     float64
		Targets                                                     []int32
		X, W, DLogProbs, DEntropies, LogProbs, Entropies, Dx, DHead []float64
	}
	AdamW struct {
		Rate, Beta1, Beta2, Epsilon, Decay float64
		Start                              []float64
		Gradients, After                   [][]float64
	}
}

func readFixture(t *testing.T) fixture {
	t.Helper()
	text, err := os.ReadFile("testdata/oracle.json")
	if err != nil {
		t.Fatal(err)
	}
	var f fixture
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// near compares numbers that differ by the order of float64 operations alone.
func near(t *testing.T, name string, got, want []float64) {
	t.Helper()
	if len(got) != len(want) || len(want) == 0 {
		t.Fatalf("%s: %d numbers, want %d", name, len(got), len(want))
	}
	for i := range got {
		if !(math.Abs(got[i]-want[i]) <= 1e-12*(1+math.Abs(want[i]))) {
			t.Errorf("%s: element %d: got %v, want %v", name, i, got[i], want[i])
		}
	}
}

func TestOracleAgreesWithPyTorch(t *testing.T) {
	f := readFixture(t)
	t.Run("norm", func(t *testing.T) {
		c := f.Norm
		y, roots := rmsNorm(c.X, c.Weight, c.N, c.Width, c.Eps)
		near(t, "y", y.value, c.Y)
		dx, dw := rmsNormBack(make([]float64, len(c.X)), make([]float64, c.Width), c.Dy, c.X, c.Weight, roots.value, c.N, c.Width)
		near(t, "dx", dx.value, c.Dx)
		near(t, "dWeight", dw.value, c.DWeight)
	})
	t.Run("swiGLU", func(t *testing.T) {
		c := f.SwiGLU
		near(t, "y", swiGLU(c.GateUp, c.N, c.Width).value, c.Y)
		near(t, "dGateUp", swiGLUBack(c.Dy, c.GateUp, c.N, c.Width).value, c.DGateUp)
	})
	t.Run("rotate", func(t *testing.T) {
		c := f.Rotate
		h := heads{x: c.X, n: c.N, count: c.Count, dim: c.Dim, positions: c.Positions, cos: c.Cos, sin: c.Sin, weight: c.Weight, eps: c.Eps}
		y, roots := rotate(h)
		near(t, "y", y.value, c.Y)
		dx, dw := rotateBack(make([]float64, c.Dim), c.Dy, roots.value, h)
		near(t, "dx", dx.value, c.Dx)
		near(t, "dWeight", dw.value, c.DWeight)
	})
	t.Run("attend", func(t *testing.T) {
		c := f.Attend
		a := attended{q: c.Q, k: c.K, v: c.V, offsets: c.Offsets, heads: c.Heads, kvHeads: c.KVHeads, dim: c.Dim, scale: c.Scale}
		near(t, "out", attend(a).value, c.Out)
		dq, dk, dv := attendBack(c.DOut, a)
		near(t, "dq", dq.value, c.Dq)
		near(t, "dk", dk.value, c.Dk)
		near(t, "dv", dv.value, c.Dv)
	})
	t.Run("score", func(t *testing.T) {
		c := f.Score
		logits := product(nil, c.X, c.W, c.N, c.Vocabulary, c.Hidden)
		logProbs, entropies := score(logits, c.Targets, c.Vocabulary, c.Inverse)
		near(t, "logProbs", logProbs.value, c.LogProbs)
		near(t, "entropies", entropies.value, c.Entropies)
		g, _ := scoreBack(logits, c.Targets, c.DLogProbs, c.DEntropies, c.Vocabulary, c.Inverse)
		near(t, "dx", productBack(nil, g, c.W, c.N, c.Vocabulary, c.Hidden).value, c.Dx)
		near(t, "dHead", productGrad(make([]float64, len(c.W)), g, c.X, c.N, c.Vocabulary, c.Hidden).value, c.DHead)
	})
	t.Run("adamW", func(t *testing.T) {
		c := f.AdamW
		w, m, v := c.Start, make([]float64, len(c.Start)), make([]float64, len(c.Start))
		for i, g := range c.Gradients {
			s := adamWStep{rate: c.Rate, beta1: c.Beta1, beta2: c.Beta2, epsilon: c.Epsilon, decay: c.Decay,
				correction1: 1 - math.Pow(c.Beta1, float64(i+1)), correction2: 1 - math.Pow(c.Beta2, float64(i+1))}
			newW, newM, newV := adamW(s, w, g, m, v)
			w, m, v = newW.value, newM.value, newV.value
			near(t, "parameters", w, c.After[i])
		}
	})
}

// dot is how a gradient of results becomes one number to differentiate.
func dot(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

// differences compares a gradient with central differences of f at x, which f sees changed in place.
func differences(t *testing.T, name string, x, gradient []float64, f func() float64) {
	t.Helper()
	if len(gradient) != len(x) {
		t.Fatalf("%s: %d derivatives for %d numbers", name, len(gradient), len(x))
	}
	const step = 1e-5
	for i := range x {
		old := x[i]
		x[i] = old + step
		above := f()
		x[i] = old - step
		below := f()
		x[i] = old
		if want := (above - below) / (2 * step); !(math.Abs(gradient[i]-want) <= 1e-7*(1+math.Abs(want))) {
			t.Errorf("%s: derivative %d is %v, differences give %v", name, i, gradient[i], want)
		}
	}
}

func drawn(r *rand.Rand, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = r.NormFloat64()
	}
	return out
}

func TestOracleGradientsAgainstDifferences(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 7))
	t.Run("ProductBack and ProductGrad", func(t *testing.T) {
		const n, out, in = 3, 4, 5
		x, w, dy := drawn(r, n*in), drawn(r, out*in), drawn(r, n*out)
		f := func() float64 { return dot(dy, product(nil, x, w, n, out, in).value) }
		differences(t, "dx", x, productBack(nil, dy, w, n, out, in).value, f)
		differences(t, "dw", w, productGrad(make([]float64, len(w)), dy, x, n, out, in).value, f)
	})
	t.Run("RMSNormBack", func(t *testing.T) {
		const n, width = 3, 7
		x, w, dy := drawn(r, n*width), drawn(r, width), drawn(r, n*width)
		_, roots := rmsNorm(x, w, n, width, 0.1)
		dx, dw := rmsNormBack(make([]float64, n*width), make([]float64, width), dy, x, w, roots.value, n, width)
		f := func() float64 { y, _ := rmsNorm(x, w, n, width, 0.1); return dot(dy, y.value) }
		differences(t, "dx", x, dx.value, f)
		differences(t, "dWeight", w, dw.value, f)
	})
	t.Run("SwiGLUBack", func(t *testing.T) {
		const n, width = 4, 5
		x, dy := drawn(r, 2*n*width), drawn(r, n*width)
		differences(t, "dGateUp", x, swiGLUBack(dy, x, n, width).value, func() float64 { return dot(dy, swiGLU(x, n, width).value) })
	})
	for name, normed := range map[string]bool{"RotateBack": false, "RotateBack with a norm": true} {
		t.Run(name, func(t *testing.T) {
			h := heads{x: drawn(r, 4*2*6), n: 4, count: 2, dim: 6, positions: []int32{2, 0, 1, 2}, cos: drawn(r, 9), sin: drawn(r, 9), eps: 0.1}
			if normed {
				h.weight = drawn(r, 6)
			}
			dy := drawn(r, len(h.x))
			_, roots := rotate(h)
			dx, dw := rotateBack(make([]float64, 6), dy, roots.value, h)
			f := func() float64 { y, _ := rotate(h); return dot(dy, y.value) }
			differences(t, "dx", h.x, dx.value, f)
			if normed {
				differences(t, "dWeight", h.weight, dw.value, f)
			}
		})
	}
	t.Run("AttendBack", func(t *testing.T) {
		a := attended{offsets: []int32{0, 4, 4, 5, 10}, heads: 6, kvHeads: 2, dim: 3, scale: 0.6}
		a.q, a.k, a.v = drawn(r, 10*18), drawn(r, 10*6), drawn(r, 10*6)
		dOut := drawn(r, 10*18)
		dq, dk, dv := attendBack(dOut, a)
		f := func() float64 { return dot(dOut, attend(a).value) }
		differences(t, "dq", a.q, dq.value, f)
		differences(t, "dk", a.k, dk.value, f)
		differences(t, "dv", a.v, dv.value, f)
	})
	t.Run("ScoreBack", func(t *testing.T) {
		const n, vocabulary, inverse = 3, 6, 1.7
		logits, targets, dl, de := drawn(r, n*vocabulary), []int32{5, 0, 2}, drawn(r, n), drawn(r, n)
		g, _ := scoreBack(exactly(logits), targets, dl, de, vocabulary, inverse)
		differences(t, "logits", logits, g, func() float64 {
			l, e := score(exactly(logits), targets, vocabulary, inverse)
			return dot(dl, l.value) + dot(de, e.value)
		})
	})
}

// TestFusedRoundsOnce compares fused with arithmetic that does not round before the end.
func TestFusedRoundsOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	doubled := 0
	for range 200000 {
		a, b := float32(r.NormFloat64()), float32(r.NormFloat64())
		c := float32(math.Ldexp(r.NormFloat64(), r.IntN(60)-30))
		if r.IntN(3) == 0 { // sums that end just beside halfway between two float32
			a, b = float32(1+math.Ldexp(1, -r.IntN(24))), float32(1+math.Ldexp(1, -r.IntN(24)))
			c = float32(math.Ldexp(float64(r.IntN(5)-2), -r.IntN(90)))
		}
		exact := new(big.Float).SetPrec(600).SetFloat64(float64(a))
		exact.Mul(exact, new(big.Float).SetFloat64(float64(b)))
		exact.Add(exact, new(big.Float).SetPrec(600).SetFloat64(float64(c)))
		want, _ := exact.Float32()
		if got := fused(a, b, c); got != want {
			t.Fatalf("%v·%v + %v: got %v, want %v", a, b, c, got, want)
		}
		if float32(float64(a)*float64(b)+float64(c)) != want {
			doubled++
		}
	}
	if doubled == 0 {
		t.Error("no sum would have been rounded twice: this tests nothing")
	}
}

// TestRoundingAgainstKnownNumbers pins the rounding by scaling to float32's own and to known halves.
func TestRoundingAgainstKnownNumbers(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 100000 {
		v := math.Ldexp(r.NormFloat64(), r.IntN(320)-170)
		if got := roundTo(v, 24, -126, 127); float32(got) != float32(v) || float64(float32(got)) != got {
			t.Fatalf("%v rounds to %v, want %v", v, got, float32(v))
		}
	}
	for _, c := range []struct {
		name       string
		got, wants float64
	}{
		{"f16 largest", round(device.F16, 65519.99), 65504},
		{"f16 halfway beyond the largest", round(device.F16, 65520), math.Inf(1)},
		{"f16 least", round(device.F16, math.Ldexp(1, -24)), math.Ldexp(1, -24)},
		{"f16 half of the least", round(device.F16, math.Ldexp(1, -25)), 0},
		{"f16 above half of the least", round(device.F16, math.Ldexp(1.001, -25)), math.Ldexp(1, -24)},
		{"f16 third", round(device.F16, 1.0/3), 0.333251953125},
		{"bf16 halfway to an odd", round(device.BF16, 1+1.0/256), 1},
		{"bf16 halfway to an even", round(device.BF16, 1+3.0/256), 1 + 4.0/256},
		{"bf16 negative", round(device.BF16, -math.Pi), -3.140625},
		{"bf16 largest", round(device.BF16, 3.3895313892515355e38), 3.3895313892515355e38},
		{"bf16 beyond", round(device.BF16, math.MaxFloat32), math.Inf(1)},
	} {
		if c.got != c.wants {
			t.Errorf("%s: got %v, want %v", c.name, c.got, c.wants)
		}
	}
}

// TestCutsByHand pins the distribution after cuts to cases worked out on paper.
func TestCutsByHand(t *testing.T) {
	of := func(p ...float64) []float64 { // logits whose shares are these
		out := make([]float64, len(p))
		for i, v := range p {
			out[i] = math.Log(v)
		}
		return out
	}
	for _, c := range []struct {
		name string
		p    []float64
		how  sampling
		want []float64
	}{
		{"nothing cut", of(0.1, 0.6, 0.3), sampling{temperature: 1, topP: 1}, []float64{0.1, 0.6, 0.3}},
		{"temperature", of(0.2, 0.4, 0.4), sampling{temperature: 0.5, topP: 1}, []float64{1. / 9, 4. / 9, 4. / 9}},
		{"top-k", of(0.1, 0.6, 0.3), sampling{temperature: 1, topP: 1, topK: 2}, []float64{0, 2. / 3, 1. / 3}},
		{"top-k, the smaller of equals", of(0.25, 0.25, 0.5), sampling{temperature: 1, topP: 1, topK: 2}, []float64{1. / 3, 0, 2. / 3}},
		{"top-p ends at the share", of(0.1, 0.6, 0.3), sampling{temperature: 1, topP: 0.59}, []float64{0, 1, 0}},
		{"top-p goes beyond the share", of(0.1, 0.6, 0.3), sampling{temperature: 1, topP: 0.61}, []float64{0, 2. / 3, 1. / 3}},
		{"top-p of what top-k left", of(0.1, 0.5, 0.4), sampling{temperature: 1, topK: 2, topP: 0.55}, []float64{0, 1, 0}},
		{"min-p", of(0.1, 0.6, 0.3), sampling{temperature: 1, topP: 1, minP: 0.4}, []float64{0, 2. / 3, 1. / 3}},
		{"all three", of(0.05, 0.4, 0.3, 0.2, 0.05), sampling{temperature: 1, topK: 4, topP: 0.9, minP: 0.6}, []float64{0, 4. / 7, 3. / 7, 0, 0}},
	} {
		t.Run(c.name, func(t *testing.T) { near(t, "shares", cut(c.p, c.how), c.want) })
	}
}
