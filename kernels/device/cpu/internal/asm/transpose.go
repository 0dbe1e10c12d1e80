package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// transpose emits the transpose of square blocks, 16×16 values with AVX-512 and 8×8 with AVX2: rows of
// src, srcStride bytes apart, become columns of dst, whose rows are dstStride bytes apart, for blocks
// consecutive blocks.
func transpose(i isa) {
	size := i.vectorBytes() / 4
	TEXT("transpose"+string(i), NOSPLIT, "func(dst *float32, dstStride int, src *float32, srcStride int, blocks int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("transpose%s writes %d rows of src, %d·blocks values each, as the columns of dst.", i, size, size))
	dst := Load(Param("dst"), GP64())
	dstStride := Load(Param("dstStride"), GP64())
	src := Load(Param("src"), GP64())
	srcStride := Load(Param("srcStride"), GP64())
	blocks := Load(Param("blocks"), GP64())
	dstStride3, srcStride3 := GP64(), GP64()
	LEAQ(Mem{Base: dstStride, Index: dstStride, Scale: 2}, dstStride3)
	LEAQ(Mem{Base: srcStride, Index: srcStride, Scale: 2}, srcStride3)

	Label("block")
	rows := make([]reg.VecVirtual, size)
	p := GP64()
	MOVQ(src, p)
	for r := range rows {
		rows[r] = i.vector()
		VMOVUPS(strided(p, srcStride, srcStride3, r%4), rows[r])
		if r%4 == 3 {
			LEAQ(Mem{Base: p, Index: srcStride, Scale: 4}, p)
		}
	}
	quads := transposeWithinLanes(i, rows)
	out := transposeLanes(i, quads)
	for r := range out {
		VMOVUPS(out[r], strided(dst, dstStride, dstStride3, r%4))
		if r%4 == 3 {
			LEAQ(Mem{Base: dst, Index: dstStride, Scale: 4}, dst)
		}
	}
	ADDQ(Imm(uint64(i.vectorBytes())), src)
	DECQ(blocks)
	JNZ(LabelRef("block"))
	finish()
}

// transposeWithinLanes makes pairs and then quadruples of rows within 128-bit lanes, as in the 4×4
// transpose: lane l of result 4g+c holds column 4l+c of rows 4g to 4g+3.
func transposeWithinLanes(i isa, rows []reg.VecVirtual) []reg.VecVirtual {
	pairs := make([]reg.VecVirtual, len(rows))
	for r := 0; r < len(rows); r += 2 {
		pairs[r], pairs[r+1] = i.vector(), i.vector()
		VUNPCKLPS(rows[r+1], rows[r], pairs[r])
		VUNPCKHPS(rows[r+1], rows[r], pairs[r+1])
	}
	quads := make([]reg.VecVirtual, len(rows))
	for g := 0; g < len(rows); g += 4 {
		for c := range 4 {
			quads[g+c] = i.vector()
			low, high := pairs[g+c/2], pairs[g+2+c/2]
			if c%2 == 0 {
				VUNPCKLPD(high, low, quads[g+c])
			} else {
				VUNPCKHPD(high, low, quads[g+c])
			}
		}
	}
	return quads
}

// transposeLanes brings the lanes of each column together.
func transposeLanes(i isa, quads []reg.VecVirtual) []reg.VecVirtual {
	if i == avx512 {
		return transposeLanesAVX512(quads)
	}
	return transposeLanesAVX2(quads)
}

// transposeLanesAVX2 brings the two lanes of each column together.
func transposeLanesAVX2(quads []reg.VecVirtual) []reg.VecVirtual {
	out := make([]reg.VecVirtual, 8)
	for c := range 4 {
		out[c], out[4+c] = YMM(), YMM()
		VPERM2F128(Imm(0x20), quads[4+c], quads[c], out[c])
		VPERM2F128(Imm(0x31), quads[4+c], quads[c], out[4+c])
	}
	return out
}

// transposeLanesAVX512 brings the four lanes of each column together.
func transposeLanesAVX512(quads []reg.VecVirtual) []reg.VecVirtual {
	out := make([]reg.VecVirtual, 16)
	for c := range 4 {
		low0, high0, low1, high1 := ZMM(), ZMM(), ZMM(), ZMM()
		VSHUFF32X4(Imm(0x44), quads[4+c], quads[c], low0)     // lanes 0,1 of g0, 0,1 of g1
		VSHUFF32X4(Imm(0xee), quads[4+c], quads[c], high0)    // lanes 2,3 of g0, 2,3 of g1
		VSHUFF32X4(Imm(0x44), quads[12+c], quads[8+c], low1)  // the same of g2 and g3
		VSHUFF32X4(Imm(0xee), quads[12+c], quads[8+c], high1) //
		for l := range 4 {
			out[4*l+c] = ZMM()
		}
		VSHUFF32X4(Imm(0x88), low1, low0, out[c])
		VSHUFF32X4(Imm(0xdd), low1, low0, out[4+c])
		VSHUFF32X4(Imm(0x88), high1, high0, out[8+c])
		VSHUFF32X4(Imm(0xdd), high1, high0, out[12+c])
	}
	return out
}

// strided is base + r·stride for r in 0..3; stride3 holds 3·stride.
func strided(base, stride, stride3 reg.Register, r int) Mem {
	switch r {
	case 0:
		return Mem{Base: base}
	case 3:
		return Mem{Base: base, Index: stride3, Scale: 1}
	default:
		return Mem{Base: base, Index: stride, Scale: uint8(r)}
	}
}
