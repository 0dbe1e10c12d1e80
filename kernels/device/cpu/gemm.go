// Package cpu is the transformer arithmetic of a machine's processor, in float32.
//
// A row of a result never depends on the other rows of the batch, on padding or on the number of
// threads: every sum runs in a fixed order. That is what makes log-probabilities of the sampler and
// the learner agree to the last bit.
//
// The arithmetic runs on AVX-512, AVX2 or portable Go code, whichever is the best that the machine has
// (see ISA). Slices of wrong length are a programmer's error and panic.
package cpu

import (
	"fmt"
	"sync"
)

// panelColumns is the width of a panel of B, the unit that kernels and packing work on.
const panelColumns = 32

// product is one C = A·B with both operands behind strides, all counted in elements.
// Element (p, j) of B is b[p*bStep + j/32*panelStride + j%32].
type product struct {
	m, n, k               int
	a                     []float32
	rowStride, stepStride int // element (i, p) of A is a[i*rowStride + p*stepStride]
	b                     []float32
	bStep, panelStride    int
	c                     []float32
	ldc                   int
	accumulate            bool
	stepBlock             int // k is walked in blocks of this many steps, in order
}

// directRows is the number of rows of C up to which B is read where it lies; packing costs as much as
// about as many rows.
const directRows = 64

// Blocks of k: a packed panel of the longer one, or an unpacked one of the shorter, fits the caches.
const (
	packedStepBlock = 1024
	directStepBlock = 512
)

// maxPackedElements bounds the buffer that Gemm packs B into; a larger B is packed in parts.
const maxPackedElements = 4 << 20

// Gemm computes C = op(A)·op(B), or C += op(A)·op(B) when accumulate is true. op(A) is m×k, op(B) is
// k×n and C is m×n, all row-major with leading dimensions lda, ldb and ldc of the matrices as stored.
// Each element of C is one chain of multiply-adds over k in ascending order (fused on AVX-512 and
// AVX2), which starts from zero or from the element of C; so it depends on nothing but its row of
// op(A) and its column of op(B). C must not overlap A or B.
func Gemm(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, accumulate bool) {
	if transA {
		checkMatrix("A", a, k, m, lda)
	} else {
		checkMatrix("A", a, m, k, lda)
	}
	checkB(transB, n, k, b, ldb)
	checkMatrix("C", c, m, n, ldc)
	if m == 0 || n == 0 {
		return
	}
	p := product{m: m, n: n, k: k, a: a, rowStride: lda, stepStride: 1, c: c, ldc: ldc, accumulate: accumulate}
	if transA {
		p.rowStride, p.stepStride = 1, lda
	}
	if !transB && (transA || m <= directRows) && readsUnpacked(n) {
		p.b, p.bStep, p.panelStride, p.stepBlock = b, ldb, panelColumns, directStepBlock
		p.run()
		return
	}
	p.runPacking(transB, b, ldb)
}

// packBuffers recycles the buffers that Gemm packs B into.
var packBuffers = sync.Pool{New: func() any { return new([]float32) }}

// runPacking packs B, or as many of its columns at a time as the buffer takes, and multiplies.
func (p *product) runPacking(transB bool, b []float32, ldb int) {
	buffer := packBuffers.Get().(*[]float32)
	defer packBuffers.Put(buffer)
	columns := max(maxPackedElements/max(p.k, 1)/panelColumns, 1) * panelColumns
	for j := 0; j < p.n; j += columns {
		part := *p
		part.n = min(columns, p.n-j)
		part.c = p.c[j:]
		from := j * ldb
		if !transB {
			from = j
		}
		packed := Packed{n: part.n, k: p.k}
		if size := packed.size(); cap(*buffer) < size {
			*buffer = make([]float32, size)
		}
		packed.data = (*buffer)[:packed.size()]
		if p.k > 0 {
			packed.fill(transB, b[from:], ldb)
		}
		part.usePacked(&packed)
		part.run()
	}
}

func (p *product) usePacked(b *Packed) {
	p.b, p.bStep, p.panelStride, p.stepBlock = b.data, panelColumns, panelColumns*b.k, packedStepBlock
}

// checkMatrix panics unless a row-major rows×columns matrix with the leading dimension fits in data.
func checkMatrix(name string, data []float32, rows, columns, ld int) {
	if rows < 0 || columns < 0 || ld < columns {
		panic(fmt.Sprintf("cpu: matrix %s of %d×%d with leading dimension %d", name, rows, columns, ld))
	}
	if rows == 0 || columns == 0 {
		return
	}
	if need := (rows-1)*ld + columns; len(data) < need {
		panic(fmt.Sprintf("cpu: matrix %s of %d×%d with leading dimension %d has %d values, needs %d",
			name, rows, columns, ld, len(data), need))
	}
}

func checkB(transB bool, n, k int, b []float32, ldb int) {
	if transB {
		checkMatrix("B", b, n, k, ldb)
		return
	}
	checkMatrix("B", b, k, n, ldb)
}
