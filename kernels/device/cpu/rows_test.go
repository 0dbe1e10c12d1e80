package cpu

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// TestAttentionDoesNotSeeWhatComesLater puts infinities and NaN into the last key and value: the rows
// before keep their bits.
func TestAttentionDoesNotSeeWhatComesLater(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		for _, poison := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
			const length, dim = 100, 32
			b := newBench(t)
			a := b.attended(4, 2, dim, length)
			out := device.Dense(b.zeros(length*4*dim), 4*dim)
			b.d.Attend(out, a)
			want := b.values(out.Data)
			for _, later := range []device.Rows{a.K, a.V} {
				values := b.values(later.Data)
				for i := (length - 1) * 2 * dim; i < len(values); i++ {
					values[i] = poison
				}
				b.d.Upload(later.Data, values)
			}
			b.d.Attend(out, a)
			got := b.values(out.Data)
			sameBits(t, label("Attend"), got[:(length-1)*4*dim], want[:(length-1)*4*dim])
			if got[len(got)-1] == got[len(got)-1] {
				t.Errorf("the last row is %v, want NaN", got[len(got)-1])
			}
			p, err := b.d.NewPages(device.PageShape{DType: device.F32, Layers: 1, KVHeads: 2, Dim: dim, Pages: 4})
			if err != nil {
				t.Fatal(err)
			}
			at := &device.Placement{Offsets: a.Offsets.Host, Cached: []int32{0}, Tables: [][]int32{{2, 0, 3, 1}}}
			b.d.WritePages(p, 0, a.K, a.V, at)
			b.d.AttendPages(out, a.Q, p, 0, 4, a.Scale, at)
			sameBits(t, label("AttendPages"), b.values(out.Data)[:(length-1)*4*dim], want[:(length-1)*4*dim])
		}
	})
}

func TestARowWithoutADistributionHasNoToken(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	onEveryISA(t, func(t *testing.T) {
		b := newBench(t)
		logits := b.allocate(device.F32, 5*3)
		b.d.Upload(logits, []float32{1, nan, 2, 1, inf, 2, -inf, -inf, -inf, -inf, 3, -inf, 1, 2, 1})
		for _, temperature := range []float32{0, 1, 0.7} {
			for _, topK := range []int{0, 2} {
				dst, how := make([]device.Sampled, 5), make([]device.Sampling, 5)
				for i := range how {
					how[i] = device.Sampling{Temperature: temperature, TopK: topK, TopP: 1, Uniform: 0.5}
				}
				var draws device.Draws
				if err := b.d.PlaceSampling(&draws, how, 3); err != nil {
					t.Fatal(err)
				}
				b.d.Draw(&draws, device.Dense(logits, 3))
				if err := b.d.Drawn(dst, &draws); err != nil {
					t.Fatal(err)
				}
				for i, token := range []int32{-1, -1, -1, 1, 1} {
					if dst[i].Token != token {
						t.Errorf("temperature %v top-k %d row %d: got token %d, want %d", temperature, topK, i, dst[i].Token, token)
					}
					if valid := token >= 0; (dst[i].LogProb == dst[i].LogProb) != valid || (dst[i].Entropy == dst[i].Entropy) != valid {
						t.Errorf("temperature %v top-k %d row %d: got %+v", temperature, topK, i, dst[i])
					}
				}
				if dst[3].LogProb != 0 || dst[3].Entropy != 0 {
					t.Errorf("a certain token has %+v", dst[3])
				}
			}
		}
	})
}

func TestFirstNonFinite(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		b := newBench(t)
		const n = 3*normBlock + 17
		buffer := b.allocate(device.F32, n)
		for _, at := range []int{0, normBlock - 1, normBlock, n - 1} {
			for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(-1))} {
				values := normal(b.random, n)
				values[n/2], values[at] = math.MaxFloat32, bad
				b.d.Upload(buffer, values)
				if got, err := b.d.FirstNonFinite(buffer); got != at || err != nil {
					t.Errorf("%v at %d: got %d, %v", bad, at, got, err)
				}
			}
		}
	})
}

func TestIndicesOutOfRangePanicBeforeAnythingIsWritten(t *testing.T) {
	b := newBench(t)
	d := b.d
	x := device.Dense(b.zeros(6), 3)
	table := device.Dense(b.normal(12), 3)
	panics(t, "Gather: index: want one of 4 rows, got 4 at 1", func() { d.Gather(x, table, b.ints(1, 4), 2, 3) })
	panics(t, "ScatterAdd: index: want one of 4 rows, got -1 at 1", func() { d.ScatterAdd(table, b.ints(1, -1), x, 2, 3) })
	h := device.Heads{X: device.Dense(b.normal(4), 2), Rows: 2, Count: 1, Dim: 2, Positions: b.ints(0, 5), Cos: b.normal(5), Sin: b.normal(5)}
	panics(t, "Rotate: Positions: want one of the 5 positions of Cos, got 5 in row 1", func() { d.Rotate(x, h) })
	w, matrix := b.weights(4, 3)
	s := device.Scored{X: table, Rows: 2, Head: w, Matrix: matrix, Targets: b.ints(3, 4), InverseTemperature: 1, LogProbs: b.zeros(2), Entropies: b.zeros(2)}
	panics(t, "Score: Targets: want one of 4 tokens, got 4 in row 1", func() { d.Score(s) })
	for i, v := range b.values(x.Data) {
		if v != 0 {
			t.Errorf("element %d has been written", i)
		}
	}
}

// TestWeighIsDescribeThatKeepsItsExponentials asks for the bits of both kernels it stands for.
func TestWeighIsDescribeThatKeepsItsExponentials(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			n := rapid.IntRange(1, 700).Draw(t, "n")
			random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 5))
			logits := normal(random, n)
			Scale(rapid.SampledFrom([]float32{1, 30, 200}).Draw(t, "spread"), logits)
			logits[random.IntN(n)] = 1
			if impossible := random.IntN(n); n > 1 && rapid.Bool().Draw(t, "impossible") {
				logits[impossible] = float32(math.Inf(-1))
			}
			scale := rapid.SampledFrom([]float32{1, 1 / float32(0.7), 0.25}).Draw(t, "scale")
			weights, want := make([]float32, n), make([]float32, n)
			got, about := weigh(weights, logits, scale), describe(logits, scale)
			if got != about && about.logSum == about.logSum {
				t.Fatalf("n %d scale %v: weigh %+v, describe %+v", n, scale, got, about)
			}
			running().expRow(want, logits, scale, about.shift)
			sameBits(t, label("weights"), weights, want)
		})
	})
}
