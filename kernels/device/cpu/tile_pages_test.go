package cpu

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// pageCase is one head's decoding over a whole number of pages and a part of the last.
type pageCase struct {
	m, headDim, positions, pad int
	q, p                       []float32 // rows headDim+pad and positions+pad apart
	keys, values               []float32 // all positions: headDim × positions, positions × headDim
	pagedKeys, pagedValues     PagesOfHead
}

func (c *pageCase) String() string {
	return fmt.Sprintf("m %d headDim %d positions %d pad %d", c.m, c.headDim, c.positions, c.pad)
}

func newPageCase(seed uint64, m, headDim, positions, pad int) *pageCase {
	random := rand.New(rand.NewPCG(seed, 3))
	c := &pageCase{m: m, headDim: headDim, positions: positions, pad: pad,
		q: normal(random, m*(headDim+pad)), p: normal(random, m*(positions+pad)),
		keys: normal(random, headDim*positions), values: normal(random, positions*headDim)}
	pages, stride := (positions+PagePositions-1)/PagePositions, PagePositions*headDim+pad
	pool := func() PagesOfHead {
		h := PagesOfHead{Pool: normal(random, (pages+3)*stride), Stride: stride, HeadDim: headDim}
		for _, number := range random.Perm(pages + 3)[:pages] {
			h.Numbers = append(h.Numbers, int32(number))
		}
		return h
	}
	c.pagedKeys, c.pagedValues = pool(), pool()
	for j := range positions {
		keys := c.pagedKeys.Pool[int(c.pagedKeys.Numbers[j/PagePositions])*stride:]
		values := c.pagedValues.Pool[int(c.pagedValues.Numbers[j/PagePositions])*stride:]
		at := j % PagePositions
		for d := range headDim {
			keys[d*PagePositions+at] = c.keys[d*positions+j]
			values[at*headDim+d] = c.values[j*headDim+d]
		}
	}
	return c
}

func TestPagesHaveTheBitsOfGemm(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			c := newPageCase(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(1, 20).Draw(t, "m"),
				rapid.SampledFrom([]int{1, 8, 24, 32, 64, 80, 96, 129}).Draw(t, "headDim"),
				rapid.IntRange(1, 140).Draw(t, "positions"), rapid.IntRange(0, 5).Draw(t, "pad"))

			want := make([]float32, c.m*c.positions)
			Gemm(false, false, c.m, c.positions, c.headDim, c.q, c.headDim+c.pad, c.keys, c.positions, want, c.positions, false)
			ld := len(c.pagedKeys.Numbers)*PagePositions + c.pad
			scores := make([]float32, c.m*ld)
			c.pagedKeys.Scores(scores, ld, c.q, c.headDim+c.pad, c.m)
			got := make([]float32, 0, len(want))
			for i := range c.m {
				got = append(got, scores[i*ld:i*ld+c.positions]...)
				for j, v := range scores[(i+1)*ld-c.pad : (i+1)*ld] {
					if v != 0 {
						t.Fatalf("%v: row %d: %v written %d behind the pages", c, i, v, j)
					}
				}
			}
			sameBits(t, c, got, want)

			want = make([]float32, c.m*c.headDim)
			Gemm(false, false, c.m, c.headDim, c.positions, c.p, c.positions+c.pad, c.values, c.headDim, want, c.headDim, false)
			got = normal(rand.New(rand.NewPCG(1, 1)), len(want))
			c.pagedValues.Mix(got, c.headDim, c.p, c.positions+c.pad, c.m, c.positions)
			sameBits(t, c, got, want)
		})
	})
}

func TestMixOfNothingIsZero(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		out := []float32{1, 2, 3, 4}
		PagesOfHead{HeadDim: 2}.Mix(out, 2, nil, 0, 2, 0)
		for _, v := range out {
			if v != 0 {
				t.Fatalf("got %v, want zeros", out)
			}
		}
		PagesOfHead{HeadDim: 2}.Scores(nil, 0, nil, 2, 1)
	})
}

func TestPagesRefuseWhatDoesNotFit(t *testing.T) {
	x := make([]float32, 2*32*32)
	h := PagesOfHead{Pool: x, Stride: 32 * 32, Numbers: []int32{1, 0}, HeadDim: 32}
	beyond := h
	beyond.Numbers = []int32{0, 2}
	before := h
	before.Numbers = []int32{-1, 0}
	for name, call := range map[string]func(){
		"scores":      func() { h.Scores(x[:127], 64, x, 32, 2) },
		"queries":     func() { h.Scores(x, 64, x[:63], 32, 2) },
		"overlap":     func() { h.Scores(x, 63, x, 32, 2) },
		"page beyond": func() { beyond.Scores(x, 64, x, 32, 2) },
		"page before": func() { before.Mix(x, 32, x, 64, 2, 33) },
		"out":         func() { h.Mix(x[:63], 32, x, 64, 2, 64) },
		"weights":     func() { h.Mix(x, 32, x[:127], 64, 2, 64) },
		"positions":   func() { h.Mix(x, 32, x, 70, 2, 65) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Fatal("no panic")
				}
			}()
			call()
		})
	}
}

func BenchmarkPages(b *testing.B) {
	for _, shape := range [][2]int{{1, 32}, {2, 32}, {4, 32}, {8, 32}, {2, 64}, {2, 128}} {
		const positions = 128
		c := newPageCase(1, shape[0], shape[1], positions, 0)
		pages, scores := len(c.pagedKeys.Numbers), make([]float32, c.m*positions)
		b.Run(fmt.Sprintf("Scores/m=%d/headDim=%d", c.m, c.headDim), func(b *testing.B) {
			for b.Loop() {
				c.pagedKeys.Scores(scores, positions, c.q, c.headDim, c.m)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(pages), "ns/page")
		})
		b.Run(fmt.Sprintf("Mix/m=%d/headDim=%d", c.m, c.headDim), func(b *testing.B) {
			for b.Loop() {
				c.pagedValues.Mix(c.q, c.headDim, scores, positions, c.m, positions)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(pages), "ns/page")
		})
	}
}
