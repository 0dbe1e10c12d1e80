package cpu

// kernel computes one tile; strides are in bytes. See internal/asm.
type kernel func(k int, a *float32, rowStride, stepStride int, b *float32, bStep, panelStride int,
	c *float32, ldc int, mask uint64, accumulate int)

// Kernels by number of rows.
var (
	avx512Wide = [...]kernel{nil, gemmAVX512_1x8, gemmAVX512_2x8}
	avx512Half = [...]kernel{nil, gemmAVX512_1x4, gemmAVX512_2x4, gemmAVX512_3x4, gemmAVX512_4x4}
	avx512Tile = [...]kernel{nil, gemmAVX512_1x2, gemmAVX512_2x2, gemmAVX512_3x2, gemmAVX512_4x2, gemmAVX512_5x2,
		gemmAVX512_6x2, gemmAVX512_7x2, gemmAVX512_8x2, gemmAVX512_9x2, gemmAVX512_10x2, gemmAVX512_11x2,
		gemmAVX512_12x2, gemmAVX512_13x2, gemmAVX512_14x2}
	avx2Wide = [...]kernel{nil, gemmAVX2_1x8}
	avx2Half = [...]kernel{nil, gemmAVX2_1x4, gemmAVX2_2x4}
	avx2Tile = [...]kernel{nil, gemmAVX2_1x2, gemmAVX2_2x2, gemmAVX2_3x2, gemmAVX2_4x2, gemmAVX2_5x2, gemmAVX2_6x2}
)

// tile computes rows×columns elements of C over some steps of k. Element at of A is the tile's first.
func (i isa) tile(p *product, at, row, rows, column, columns, first, steps int, accumulate bool) {
	if i == isaGo || steps == 0 {
		p.tileGo(at, row, rows, column, columns, first, steps, accumulate)
		return
	}
	for columns > 0 {
		var f kernel
		var done int
		if i == isaAVX512 {
			f, done = pickAVX512(rows, columns)
		} else {
			f, done = pickAVX2(rows, columns)
		}
		if f == nil {
			p.edge(at, row, rows, column, columns, first, steps, accumulate)
			return
		}
		from := 0
		if accumulate {
			from = 1
		}
		f(steps, &p.a[at], 4*p.rowStride, 4*p.stepStride,
			&p.b[p.bt(first, column)], 4*p.bStep, 4*p.panelStride,
			&p.c[row*p.ldc+column], 4*p.ldc, ^uint64(0)>>(64-min(done, 64)), from)
		columns -= done
		column += done
	}
}

// pickAVX512 gives the kernel for the next columns and how many it computes.
func pickAVX512(rows, columns int) (kernel, int) {
	switch {
	case rows <= 2 && columns >= 128:
		return avx512Wide[rows], 128
	case rows <= 4 && columns > panelColumns:
		return avx512Half[rows], min(columns, 64)
	default:
		return avx512Tile[rows], min(columns, panelColumns)
	}
}

// pickAVX2 gives the kernel for the next columns and how many it computes; nil where fewer than 16 are
// left.
func pickAVX2(rows, columns int) (kernel, int) {
	switch {
	case rows <= 1 && columns >= 64:
		return avx2Wide[rows], 64
	case rows <= 2 && columns >= 32:
		return avx2Half[rows], 32
	case columns >= 16:
		return avx2Tile[rows], 16
	default:
		return nil, 0
	}
}

// edge computes a tile of fewer than 16 columns with AVX2, by way of a full tile beside C. B must be
// packed, so that its absent columns can be read.
func (p *product) edge(at, row, rows, column, columns, first, steps int, accumulate bool) {
	var whole [6 * 16]float32
	from := 0
	if accumulate {
		from = 1
		for r := range rows {
			copy(whole[r*16:r*16+columns], p.c[(row+r)*p.ldc+column:])
		}
	}
	// Called by name: an array passed to a function in a variable would be allocated.
	a, b := &p.a[at], &p.b[p.bt(first, column)]
	rowStride, stepStride, bStep, panelStride := 4*p.rowStride, 4*p.stepStride, 4*p.bStep, 4*p.panelStride
	switch rows {
	case 1:
		gemmAVX2_1x2(steps, a, rowStride, stepStride, b, bStep, panelStride, &whole[0], 4*16, 0, from)
	case 2:
		gemmAVX2_2x2(steps, a, rowStride, stepStride, b, bStep, panelStride, &whole[0], 4*16, 0, from)
	case 3:
		gemmAVX2_3x2(steps, a, rowStride, stepStride, b, bStep, panelStride, &whole[0], 4*16, 0, from)
	case 4:
		gemmAVX2_4x2(steps, a, rowStride, stepStride, b, bStep, panelStride, &whole[0], 4*16, 0, from)
	case 5:
		gemmAVX2_5x2(steps, a, rowStride, stepStride, b, bStep, panelStride, &whole[0], 4*16, 0, from)
	default:
		gemmAVX2_6x2(steps, a, rowStride, stepStride, b, bStep, panelStride, &whole[0], 4*16, 0, from)
	}
	for r := range rows {
		copy(p.c[(row+r)*p.ldc+column:(row+r)*p.ldc+column+columns], whole[r*16:])
	}
}

// readsUnpacked says whether kernels can read a B of n columns where it lies.
func readsUnpacked(n int) bool { return active != isaAVX2 || n%16 == 0 }

// transposeBlocks writes the first rows of src, one vector's worth of the at most so many, as far as
// whole square blocks go, as columns of a panel. It returns how many rows and how many values of each
// are done; 0 rows where there is no kernel or not enough to do.
func transposeBlocks(dst, src []float32, ld, k, rows int) (done, steps int) {
	switch {
	case active == isaAVX512 && k >= 16 && rows >= 16:
		transposeAVX512(&dst[0], 4*panelColumns, &src[0], 4*ld, k/16)
		return 16, k / 16 * 16
	case active == isaAVX2 && k >= 8 && rows >= 8:
		transposeAVX2(&dst[0], 4*panelColumns, &src[0], 4*ld, k/8)
		return 8, k / 8 * 8
	default:
		return 0, 0
	}
}

// scoresPages computes the scores of all pages, and reports whether there are kernels for it.
func (i isa) scoresPages(scores []float32, ldScores int, q []float32, ldQ, m int, h PagesOfHead) bool {
	if i != isaAVX512 || h.HeadDim == 0 {
		return false
	}
	for row := 0; row < m; row += 4 {
		c, a, b, numbers := &scores[row*ldScores], &q[row*ldQ], &h.Pool[0], &h.Numbers[0]
		switch m - row {
		case 1:
			scoresPagesAVX512_1(c, 4*ldScores, a, 4*ldQ, h.HeadDim, b, numbers, len(h.Numbers), 4*h.Stride)
		case 2:
			scoresPagesAVX512_2(c, 4*ldScores, a, 4*ldQ, h.HeadDim, b, numbers, len(h.Numbers), 4*h.Stride)
		case 3:
			scoresPagesAVX512_3(c, 4*ldScores, a, 4*ldQ, h.HeadDim, b, numbers, len(h.Numbers), 4*h.Stride)
		default:
			scoresPagesAVX512_4(c, 4*ldScores, a, 4*ldQ, h.HeadDim, b, numbers, len(h.Numbers), 4*h.Stride)
		}
	}
	return true
}

// mixKernel mixes values; strides are in bytes. See internal/asm.
type mixKernel func(out *float32, ldOut int, p *float32, ldP, positions int, pool *float32, pages *int32, valueStride, pageStride int)

// Kernels of 32 and of 64 columns by number of rows.
var (
	mix32 = [...]mixKernel{nil, mixPagesAVX512_1x2, mixPagesAVX512_2x2, mixPagesAVX512_3x2, mixPagesAVX512_4x2}
	mix64 = [...]mixKernel{nil, mixPagesAVX512_1x4, mixPagesAVX512_2x4, mixPagesAVX512_3x4, mixPagesAVX512_4x4}
)

// mixPages mixes the values of all pages, and reports whether there are kernels for it.
func (i isa) mixPages(out []float32, ldOut int, p []float32, ldP, m, positions int, h PagesOfHead) bool {
	if i != isaAVX512 || h.HeadDim%32 != 0 {
		return false
	}
	for row := 0; row < m; row += 4 {
		rows := min(4, m-row)
		for column := 0; column < h.HeadDim; {
			f, width := mix64[rows], 64
			if h.HeadDim-column < 64 {
				f, width = mix32[rows], 32
			}
			f(&out[row*ldOut+column], 4*ldOut, &p[row*ldP], 4*ldP, positions, &h.Pool[column], &h.Numbers[0], 4*h.HeadDim, 4*h.Stride)
			column += width
		}
	}
	return true
}

// computesHeads says whether scoresHeads and mixHeads have kernels for m rows of each head.
func (i isa) computesHeads(m, headDim int) bool {
	return i == isaAVX512 && (m == 1 || m == 2) && headDim > 0 && headDim%32 == 0
}

// scoresHeads computes the scores of m rows of each of two heads.
func (i isa) scoresHeads(scores []float32, ldScores int, q []float32, ldQ, m, positions, ahead int, h twoHeads) {
	f := scoresHeadsAVX512_1
	if m == 2 {
		f = scoresHeadsAVX512_2
	}
	f(&scores[0], 4*ldScores, &q[0], 4*ldQ, h.HeadDim, &h.Pool[0], &h.Numbers[0], positions, 4*h.Stride, 4*h.apart, 4*ahead)
}

// mixHeads mixes the values of m rows of each of two heads.
func (i isa) mixHeads(out []float32, ldOut int, p []float32, ldP, m, positions int, h twoHeads, next PagesOfHead) {
	nextPool, nextNumbers := &h.Pool[0], &h.Numbers[0] // not read where there are no next ones
	if len(next.Numbers) > 0 {
		nextPool, nextNumbers = &next.Pool[0], &next.Numbers[0]
	}
	for column := 0; column < h.HeadDim; {
		f, width := mixHeadsAVX512_1x4, 64
		switch narrow := h.HeadDim-column < 64; {
		case narrow && m == 1:
			f, width = mixHeadsAVX512_1x2, 32
		case narrow:
			f, width = mixHeadsAVX512_2x2, 32
		case m == 2:
			f = mixHeadsAVX512_2x4
		}
		f(&out[column], 4*ldOut, &p[0], 4*ldP, positions, &h.Pool[column], &h.Numbers[0], 4*h.HeadDim, 4*h.Stride, 4*h.apart,
			nextPool, nextNumbers, len(next.Numbers))
		column += width
		next.Numbers = nil
	}
}

// transposeStrip writes as many columns of 16 rows of A as whole square blocks hold as rows of 16, and
// returns how many.
func transposeStrip(dst, src []float32, ld, k int) int {
	if active != isaAVX512 || k < 16 {
		return 0
	}
	transposeAVX512(&dst[0], 4*packedRows, &src[0], 4*ld, k/16)
	return k / 16 * 16
}
