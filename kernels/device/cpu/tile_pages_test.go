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

// TestTwoHeadsHaveTheBitsOfEach computes two heads together and one after the other.
func TestTwoHeadsHaveTheBitsOfEach(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			m, pad := rapid.IntRange(1, 3).Draw(t, "m"), rapid.IntRange(0, 5).Draw(t, "pad")
			headDim := rapid.SampledFrom([]int{8, 32, 64, 96, 160}).Draw(t, "headDim")
			positions := rapid.IntRange(0, 140).Draw(t, "positions")
			random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 4))
			block, pages := PagePositions*headDim, (positions+PagePositions-1)/PagePositions
			pool := normal(random, (pages+3)*4*block) // keys, values, and both of the second head
			keys := twoHeads{PagesOfHead{Pool: pool, Stride: 4 * block, HeadDim: headDim}, 2 * block}
			for _, number := range random.Perm(pages + 3)[:pages+1] {
				keys.Numbers = append(keys.Numbers, int32(number))
			}
			values := keys
			values.Pool = pool[block:]
			next := keys.PagesOfHead
			next.Numbers = next.Numbers[:random.IntN(len(next.Numbers)+1)]

			ldQ, ld := headDim+pad, pages*PagePositions+pad
			q, got, want := normal(random, 2*m*ldQ), make([]float32, 2*m*ld), make([]float32, 2*m*ld)
			keys.scores(got, ld, q, ldQ, m, positions, rapid.SampledFrom([]int{0, block}).Draw(t, "ahead"))
			one := keys.PagesOfHead
			one.Numbers = one.Numbers[:pages]
			one.Scores(want, ld, q, ldQ, m)
			one.Pool = pool[2*block:]
			one.Scores(want[m*ld:], ld, q[m*ldQ:], ldQ, m)
			for row := range 2 * m {
				sameBits(t, label("scores"), got[row*ld:row*ld+positions], want[row*ld:row*ld+positions])
				for j, v := range got[row*ld+pages*PagePositions : (row+1)*ld] {
					if v != 0 {
						t.Fatalf("row %d: %v written %d behind the pages", row, v, j)
					}
				}
			}

			out, expected := normal(random, 2*m*ldQ), make([]float32, 2*m*ldQ)
			copy(expected, out)
			values.mix(out, ldQ, want, ld, m, positions, next)
			one.Pool = pool[block:]
			one.Mix(expected, ldQ, want, ld, m, positions)
			one.Pool = pool[3*block:]
			one.Mix(expected[m*ldQ:], ldQ, want[m*ld:], ld, m, positions)
			sameBits(t, label("mix"), out, expected)
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
