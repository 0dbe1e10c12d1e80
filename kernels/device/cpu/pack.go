package cpu

import "sync"

// Packed is a matrix op(B) in the order in which the kernels read it. It is worth its memory where the
// same matrix is multiplied often, as the weights of a decoder are.
type Packed struct {
	n, k int
	data []float32 // panels of 32 columns, each k rows of 32 values; absent columns are zero
}

// PackB copies op(B), a k×n matrix stored as in Gemm, into the order of GemmPacked. Later changes of b
// do not reach the copy.
func PackB(transB bool, n, k int, b []float32, ldb int) *Packed {
	checkB(transB, n, k, b, ldb)
	p := &Packed{n: n, k: k}
	p.data = make([]float32, p.size())
	if p.size() > 0 {
		p.fill(transB, b, ldb)
	}
	return p
}

// GemmPacked computes C = A·B, or C += A·B when accumulate is true, for a row-major m×k matrix A and a
// packed B. Every bit of the result is that of Gemm.
func GemmPacked(m int, a []float32, lda int, b *Packed, c []float32, ldc int, accumulate bool) {
	checkMatrix("A", a, m, b.k, lda)
	checkMatrix("C", c, m, b.n, ldc)
	if m == 0 || b.n == 0 {
		return
	}
	p := product{m: m, n: b.n, k: b.k, a: a, rowStride: lda, stepStride: 1, c: c, ldc: ldc, accumulate: accumulate}
	p.usePacked(b)
	p.run()
}

func (p *Packed) panels() int { return (p.n + panelColumns - 1) / panelColumns }

func (p *Packed) size() int { return p.panels() * panelColumns * p.k }

// packPart is the number of elements that are worth another goroutine when packing.
const packPart = 64 << 10

// fill copies op(B) into the panels.
func (p *Packed) fill(transB bool, b []float32, ldb int) {
	if p.size() < 2*packPart {
		p.fillPanels(0, p.panels(), transB, b, ldb)
		return
	}
	perPanel := panelColumns * p.k
	if j := takeJob(partsOf(p.panels(), (packPart+perPanel-1)/perPanel)); j != nil {
		j.panels = panels{*p, transB, b, ldb}
		if j.run(&j.panels) {
			return
		}
	}
	p.fillPanels(0, p.panels(), transB, b, ldb)
}

// panels are the parts of packing a matrix.
type panels struct {
	packed Packed
	transB bool
	b      []float32
	ldb    int
}

func (x *panels) part(part, parts int) {
	n := x.packed.panels()
	x.packed.fillPanels(part*n/parts, (part+1)*n/parts, x.transB, x.b, x.ldb)
}

func (p *Packed) fillPanels(lo, hi int, transB bool, b []float32, ldb int) {
	perPanel := panelColumns * p.k
	for panel := lo; panel < hi; panel++ {
		j := panel * panelColumns
		columns := min(panelColumns, p.n-j)
		dst := p.data[panel*perPanel : (panel+1)*perPanel]
		if transB {
			packTransposed(dst, b[j*ldb:], ldb, p.k, columns)
		} else {
			packRows(dst, b[j:], ldb, columns)
		}
	}
}

// packRows copies the first columns of each row of src into rows of 32 values.
func packRows(dst, src []float32, ld, columns int) {
	for at := 0; len(dst) > 0; at += ld {
		row := dst[:panelColumns]
		if columns == panelColumns {
			*(*[panelColumns]float32)(row) = *(*[panelColumns]float32)(src[at:])
		} else {
			copy(row, src[at:at+columns])
			clear(row[columns:])
		}
		dst = dst[panelColumns:]
	}
}

// transposeSteps is how many steps of k are transposed at a time where no kernel does it, so that the
// part of the panel being written stays in the first-level cache.
const transposeSteps = 32

// packTransposed turns rows of src, each k values and one per column of the panel, into k rows of 32.
func packTransposed(dst, src []float32, ld, k, columns int) {
	if columns < panelColumns {
		clear(dst)
	}
	for done := 0; done < columns; {
		rows, steps := transposeBlocks(dst[done:], src[done*ld:], ld, k, columns-done)
		if rows == 0 {
			rows = columns - done
		}
		transposePart(dst, src, ld, done, done+rows, steps, k)
		done += rows
	}
}

// transposePart transposes columns lo..hi of the panel from the given step on.
func transposePart(dst, src []float32, ld, lo, hi, step, k int) {
	for ; step < k; step += transposeSteps {
		end := min(step+transposeSteps, k)
		for i := lo; i < hi; i++ {
			for p, v := range src[i*ld+step : i*ld+end] {
				dst[(step+p)*panelColumns+i] = v
			}
		}
	}
}

// packedRows is the number of rows of a strip of packed A: those of the largest kernel, and what makes
// whole vectors of them.
const packedRows = 16

// packedA is some steps of some strips of A in the order in which the kernels read them: strip by strip,
// each step by step, the values of 16 rows. Rows beyond a strip's own are the next strip's, or stale.
type packedA struct{ data []float32 }

// packedAs recycles buffers.
var packedAs = sync.Pool{New: func() any { return new(packedA) }}

// worthPackingA says whether so many columns of C are worth a copy of A. Only where A does not fit the
// caches do its rows, far apart, cost more than the copy.
func (p *product) worthPackingA(i isa, columns int) bool {
	return i == isaAVX512 && p.stepStride == 1 && p.m >= packedRows && p.k > packedStepBlock && columns >= 256
}

// fill copies some steps of strips s0 … s1-1 and returns them.
func (a *packedA) fill(p *product, strips, s0, s1, first, steps int) []float32 {
	size := steps * packedRows
	if cap(a.data) < (s1-s0)*size {
		a.data = make([]float32, (s1-s0)*size)
	}
	data := a.data[:(s1-s0)*size]
	for s := s0; s < s1; s++ {
		lo := s * p.m / strips
		packStrip(data[(s-s0)*size:(s-s0+1)*size], p.a[p.at(lo, first):], p.rowStride, steps, min(packedRows, p.m-lo))
	}
	return data
}

// packStrip turns rows of src into columns of 16 values.
func packStrip(dst, src []float32, ld, k, rows int) {
	done := 0
	if rows == packedRows {
		done = transposeStrip(dst, src, ld, k)
	}
	for r := range rows {
		for step := done; step < k; step++ {
			dst[step*packedRows+r] = src[r*ld+step]
		}
	}
}
