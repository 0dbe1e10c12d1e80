package cpu

import "fmt"

// PagePositions is the number of positions of a page of keys or values: the width of a panel of B.
const PagePositions = panelColumns

// PagesOfHead is what one key-value head of one sequence has in a cache: its pages lie in Pool, where number t
// begins at Pool[t*Stride]. A page of keys holds dimension d of position j at d*32+j, one of values
// at j*HeadDim+d.
type PagesOfHead struct {
	Pool    []float32
	Stride  int
	Numbers []int32 // the sequence's pages in order; page i holds the positions 32·i and on
	HeadDim int
}

// Scores computes the products of m query rows with the keys of all positions of all pages, those beyond the
// end of the sequence included: scores[i*ldScores+j] = Σ_d q[i*ldQ+d]·key_j[d], with every bit of Gemm's.
// It runs on the calling goroutine, allocates nothing, and is meant for the few rows of decoding.
func (h PagesOfHead) Scores(scores []float32, ldScores int, q []float32, ldQ, m int) {
	pages := len(h.Numbers)
	if m <= 0 || pages == 0 {
		return
	}
	h.check("Scores", m, scores, ldScores, pages*PagePositions, q, ldQ, h.HeadDim, PagePositions*h.HeadDim)
	i := running()
	if i.scoresPages(scores, ldScores, q, ldQ, m, h) {
		return
	}
	p := product{m: m, n: PagePositions, k: h.HeadDim, a: q, rowStride: ldQ, stepStride: 1, bStep: panelColumns, ldc: ldScores}
	for j, number := range h.Numbers {
		p.b, p.c = h.Pool[int(number)*h.Stride:], scores[j*PagePositions:]
		p.strips(i)
	}
}

// Mix computes the mean of the values of the first positions, m times with the weights of m rows:
// out[i*ldOut+d] = Σ_j p[i*ldP+j]·value_j[d], one chain of multiply-adds in ascending order of positions, with
// every bit of Gemm's. It runs on the calling goroutine, like Scores.
func (h PagesOfHead) Mix(out []float32, ldOut int, p []float32, ldP, m, positions int) {
	pages := (positions + PagePositions - 1) / PagePositions
	if positions < 0 || pages > len(h.Numbers) {
		panic(fmt.Sprintf("cpu: Mix: %d positions in %d pages", positions, len(h.Numbers)))
	}
	if m <= 0 || h.HeadDim == 0 {
		return
	}
	h.Numbers = h.Numbers[:pages]
	h.check("Mix", m, out, ldOut, h.HeadDim, p, ldP, positions, PagePositions*h.HeadDim)
	i := running()
	if pages > 0 && i.mixPages(out, ldOut, p, ldP, m, positions, h) {
		return
	}
	x := product{m: m, n: h.HeadDim, a: p, rowStride: ldP, stepStride: 1, bStep: h.HeadDim, panelStride: panelColumns, c: out, ldc: ldOut}
	if pages == 0 {
		x.strips(i)
		return
	}
	for j, number := range h.Numbers {
		x.a, x.b, x.k, x.accumulate = p[j*PagePositions:], h.Pool[int(number)*h.Stride:], min(PagePositions, positions-j*PagePositions), j > 0
		if readsUnpacked(x.n) {
			x.strips(i)
		} else {
			Gemm(false, false, m, x.n, x.k, x.a, ldP, x.b, x.n, out, ldOut, x.accumulate)
		}
	}
}

// twoHeads are two key-value heads of one sequence: the pages of the first, and how far behind them the pages
// of the second are in the pool. Rows belong to the heads by halves.
type twoHeads struct {
	PagesOfHead
	apart int
}

// second is the second head.
func (h twoHeads) second() PagesOfHead {
	one := h.PagesOfHead
	one.Pool = one.Pool[h.apart:]
	return one
}

// scores is Scores for m rows of each head, of so many positions at least. It also fetches the values of
// these, which are ahead elements behind the keys; with 0 it fetches nothing.
func (h twoHeads) scores(scores []float32, ldScores int, q []float32, ldQ, m, positions, ahead int) {
	h.Numbers = h.Numbers[:(positions+PagePositions-1)/PagePositions]
	i, second := running(), h.second()
	if !i.computesHeads(m, h.HeadDim) || positions == 0 {
		h.PagesOfHead.Scores(scores, ldScores, q, ldQ, m)
		second.Scores(scores[m*ldScores:], ldScores, q[m*ldQ:], ldQ, m)
		return
	}
	h.check("scores", 2*m, scores, ldScores, len(h.Numbers)*PagePositions, q, ldQ, h.HeadDim, h.apart+PagePositions*h.HeadDim)
	i.scoresHeads(scores, ldScores, q, ldQ, m, positions, ahead, h)
}

// mix is Mix for m rows of each head. It also fetches the keys of the next two heads, which may be none.
func (h twoHeads) mix(out []float32, ldOut int, p []float32, ldP, m, positions int, next PagesOfHead) {
	i, second := running(), h.second()
	if !i.computesHeads(m, h.HeadDim) || positions == 0 {
		h.PagesOfHead.Mix(out, ldOut, p, ldP, m, positions)
		second.Mix(out[m*ldOut:], ldOut, p[m*ldP:], ldP, m, positions)
		return
	}
	h.Numbers = h.Numbers[:(positions+PagePositions-1)/PagePositions]
	h.check("mix", 2*m, out, ldOut, h.HeadDim, p, ldP, positions, h.apart+PagePositions*h.HeadDim)
	i.mixHeads(out, ldOut, p, ldP, m, positions, h, next)
}

// strips computes a product of one block of k on the calling goroutine.
func (p *product) strips(i isa) {
	rows := i.tileRows()
	for lo := 0; lo < p.m; lo += rows {
		i.tile(p, p.at(lo, 0), lo, min(rows, p.m-lo), 0, p.n, 0, p.k, p.accumulate)
	}
}

// check panics unless m rows of c and of a, and all pages, are as long as they must be.
func (h PagesOfHead) check(function string, m int, c []float32, ldc, columns int, a []float32, lda, steps, size int) {
	if len(c) < (m-1)*ldc+columns || len(a) < (m-1)*lda+steps || columns < 0 || steps < 0 || m > 1 && (ldc < columns || lda < steps) {
		panic(fmt.Sprintf("cpu: %s: %d rows of %d of %d values %d apart, of %d of %d values %d apart",
			function, m, columns, len(c), ldc, steps, len(a), lda))
	}
	for _, number := range h.Numbers {
		if from := int(number) * h.Stride; from < 0 || len(h.Pool) < from+size {
			panic(fmt.Sprintf("cpu: %s: page %d of %d values begins at %d of %d", function, number, size, from, len(h.Pool)))
		}
	}
}
