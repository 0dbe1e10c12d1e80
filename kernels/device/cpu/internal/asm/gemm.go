package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// isa is an instruction set that kernels are written for.
type isa string

const (
	avx512 isa = "AVX512"
	avx2   isa = "AVX2"
)

// tileShape is the block of C that one kernel computes: rows, and columns in vectors of the ISA.
type tileShape struct{ rows, vectors int }

// gemmShapes lists the kernels of an ISA. Few rows take more columns, so that at least eight chains of
// fused multiply-adds are in flight and hide each other's latency.
func (i isa) gemmShapes() []tileShape {
	if i == avx512 {
		shapes := []tileShape{{1, 8}, {2, 8}, {1, 4}, {2, 4}, {3, 4}, {4, 4}}
		for rows := 1; rows <= 14; rows++ {
			shapes = append(shapes, tileShape{rows, 2})
		}
		return shapes
	}
	shapes := []tileShape{{1, 8}, {1, 4}, {2, 4}}
	for rows := 1; rows <= 6; rows++ {
		shapes = append(shapes, tileShape{rows, 2})
	}
	return shapes
}

// vectorBytes is the width of a vector register.
func (i isa) vectorBytes() int {
	if i == avx512 {
		return 64
	}
	return 32
}

// vector allocates a register of the ISA's width.
func (i isa) vector() reg.VecVirtual {
	if i == avx512 {
		return ZMM()
	}
	return YMM()
}

// panelBytes is the width of a panel of B: 32 columns.
const panelBytes = 128

const gemmSignature = "func(k int, a *float32, rowStride, stepStride int, b *float32, bStep, panelStride int, " +
	"c *float32, ldc int, mask uint64, accumulate int)"

// gemm emits C = A·B or C += A·B for one tile. Strides are in bytes. Every element is one chain of
// fused multiply-adds over k in ascending order, the same in every shape and in both ISAs.
func gemm(i isa, s tileShape) {
	TEXT(fmt.Sprintf("gemm%s_%dx%d", i, s.rows, s.vectors), NOSPLIT, gemmSignature)
	Pragma("noescape")
	Doc(fmt.Sprintf("gemm%s_%dx%d computes %d rows of %d columns of C.", i, s.rows, s.vectors, s.rows, s.vectors*i.vectorBytes()/4))

	t := &tile{isa: i, shape: s}
	t.masks()
	t.prefetchNext()
	t.loadC()
	t.loop()
	t.storeC()
	VZEROUPPER()
	RET()
}

// tile holds the registers of the kernel being emitted.
type tile struct {
	isa   isa
	shape tileShape
	acc   [][]reg.VecVirtual
	mask  []reg.OpmaskVirtual // nil: every column exists
}

// masks splits the column mask over the vectors. Only AVX-512 kernels of up to 64 columns have masks;
// the others are called for whole tiles only.
func (t *tile) masks() {
	if t.isa != avx512 || t.shape.vectors > 4 {
		return
	}
	bits := Load(Param("mask"), GP64())
	for v := range t.shape.vectors {
		k := K()
		KMOVW(bits.(reg.GPVirtual).As32(), k)
		t.mask = append(t.mask, k)
		if v+1 < t.shape.vectors {
			SHRQ(Imm(16), bits)
		}
	}
}

func (t *tile) load(v int, m Mem, dst reg.VecVirtual) {
	if t.mask == nil {
		VMOVUPS(m, dst)
		return
	}
	VMOVUPS_Z(m, t.mask[v], dst)
}

func (t *tile) store(v int, src reg.VecVirtual, m Mem) {
	if t.mask == nil {
		VMOVUPS(src, m)
		return
	}
	VMOVUPS(src, t.mask[v], m)
}

// stepsAhead is how far ahead of its use a row of B is fetched. The processor fetches ahead by itself,
// but stops at the border of every 4 KiB page.
const stepsAhead = 32

// prefetches says whether the kernel has time to fetch ahead: whether it computes many rows.
func (t *tile) prefetches() bool { return t.isa == avx512 && t.shape.rows >= 8 }

// prefetchSteps is the number of steps from which a tile takes long enough to fetch the next one meanwhile.
const prefetchSteps = 192

// prefetchNext asks for the tile of C below this one, which is mostly the next to be computed.
func (t *tile) prefetchNext() {
	if !t.prefetches() {
		return
	}
	k := Load(Param("k"), GP64())
	CMPQ(k, U32(prefetchSteps))
	JLT(LabelRef("fetched"))
	c := Load(Param("c"), GP64())
	ldc := Load(Param("ldc"), GP64())
	below := GP64()
	IMUL3Q(Imm(uint64(t.shape.rows)), ldc, below)
	ADDQ(below, c)
	for r := range t.shape.rows {
		PREFETCHT0(Mem{Base: c})
		PREFETCHT0(Mem{Base: c, Disp: 64})
		if r+1 < t.shape.rows {
			ADDQ(ldc, c)
		}
	}
	Label("fetched")
}

// loadC fills the accumulators from C, or with zeros where the product replaces it.
func (t *tile) loadC() {
	t.acc = make([][]reg.VecVirtual, t.shape.rows)
	for r := range t.acc {
		for range t.shape.vectors {
			t.acc[r] = append(t.acc[r], t.isa.vector())
		}
	}
	accumulate := Load(Param("accumulate"), GP64())
	for _, row := range t.acc {
		for _, acc := range row {
			if t.isa == avx512 {
				VPXORD(acc, acc, acc)
			} else {
				VXORPS(acc, acc, acc)
			}
		}
	}
	TESTQ(accumulate, accumulate)
	JZ(LabelRef("start"))
	c := Load(Param("c"), GP64())
	ldc := Load(Param("ldc"), GP64())
	for r, row := range t.acc {
		for v, acc := range row {
			t.load(v, Mem{Base: c, Disp: v * t.isa.vectorBytes()}, acc)
		}
		if r+1 < len(t.acc) {
			ADDQ(ldc, c)
		}
	}
	Label("start")
}

func (t *tile) storeC() {
	c := Load(Param("c"), GP64())
	ldc := Load(Param("ldc"), GP64())
	for r, row := range t.acc {
		for v, acc := range row {
			t.store(v, acc, Mem{Base: c, Disp: v * t.isa.vectorBytes()})
		}
		if r+1 < len(t.acc) {
			ADDQ(ldc, c)
		}
	}
}

// rowsPerPointer is how many rows one pointer into A reaches with the strides 0, 1, 2, 3 and 4.
const rowsPerPointer = 5

// loop emits the walk over k.
func (t *tile) loop() {
	rows := t.shape.rows
	stride := Load(Param("rowStride"), GP64())
	step := Load(Param("stepStride"), GP64())
	stride3 := GP64()
	if rows > 3 {
		LEAQ(Mem{Base: stride, Index: stride, Scale: 2}, stride3)
	}
	a := []reg.Register{Load(Param("a"), GP64())}
	for r := rowsPerPointer; r < rows; r += rowsPerPointer {
		next := GP64()
		LEAQ(Mem{Base: a[len(a)-1], Index: stride, Scale: 4}, next)
		ADDQ(stride, next)
		a = append(a, next)
	}
	row := func(r int) Mem {
		base := a[r/rowsPerPointer]
		switch r % rowsPerPointer {
		case 0:
			return Mem{Base: base}
		case 3:
			return Mem{Base: base, Index: stride3, Scale: 1}
		default:
			return Mem{Base: base, Index: stride, Scale: uint8(r % rowsPerPointer)}
		}
	}

	b := Load(Param("b"), GP64())
	bStep := Load(Param("bStep"), GP64())
	column := t.columns(b)
	k := Load(Param("k"), GP64())

	var ahead reg.Register
	if t.prefetches() {
		ahead = GP64()
		IMUL3Q(Imm(stepsAhead), bStep, ahead)
		ADDQ(b, ahead)
	}
	TESTQ(k, k)
	JZ(LabelRef("done"))
	bv := make([]reg.VecVirtual, t.shape.vectors)
	for v := range bv {
		bv[v] = t.isa.vector()
	}
	broadcast := []reg.VecVirtual{t.isa.vector(), t.isa.vector()}
	Label("loop")
	for v := range bv {
		t.load(v, column(v), bv[v])
	}
	if t.prefetches() {
		PREFETCHT0(Mem{Base: ahead})
		PREFETCHT0(Mem{Base: ahead, Disp: 64})
		ADDQ(bStep, ahead)
	}
	for r := range rows {
		x := broadcast[r%2]
		VBROADCASTSS(row(r), x)
		for v := range bv {
			VFMADD231PS(bv[v], x, t.acc[r][v])
		}
	}
	for _, p := range a {
		ADDQ(step, p)
	}
	ADDQ(bStep, b)
	DECQ(k)
	JNZ(LabelRef("loop"))
	Label("done")
}

// columns gives the address of each vector of the current row of B: panels are panelStride apart.
func (t *tile) columns(b reg.Register) func(v int) Mem {
	perPanel := panelBytes / t.isa.vectorBytes()
	panels := t.shape.vectors / perPanel
	var stride, stride3 reg.Register
	if panels > 1 {
		stride = Load(Param("panelStride"), GP64())
	}
	if panels > 3 {
		stride3 = GP64()
		LEAQ(Mem{Base: stride, Index: stride, Scale: 2}, stride3)
	}
	return func(v int) Mem {
		m := Mem{Base: b, Disp: v % perPanel * t.isa.vectorBytes()}
		switch v / perPanel {
		case 1, 2:
			m.Index, m.Scale = stride, uint8(v/perPanel)
		case 3:
			m.Index, m.Scale = stride3, 1
		}
		return m
	}
}
