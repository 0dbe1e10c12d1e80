package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// transpose512 emits the transpose of blocks of 16×16 values: 16 rows of src, srcStride bytes apart,
// become rows of dst of 16 values each, dstStride bytes apart, for blocks consecutive 16-column blocks.
func transpose512() {
	TEXT("transposeAVX512", NOSPLIT, "func(dst *float32, dstStride int, src *float32, srcStride int, blocks int)")
	Pragma("noescape")
	Doc("transposeAVX512 writes 16 rows of src, 16·blocks values each, as 16·blocks rows of 16 values.")
	dst := Load(Param("dst"), GP64())
	dstStride := Load(Param("dstStride"), GP64())
	src := Load(Param("src"), GP64())
	srcStride := Load(Param("srcStride"), GP64())
	blocks := Load(Param("blocks"), GP64())
	dstStride3, srcStride3 := GP64(), GP64()
	LEAQ(Mem{Base: dstStride, Index: dstStride, Scale: 2}, dstStride3)
	LEAQ(Mem{Base: srcStride, Index: srcStride, Scale: 2}, srcStride3)

	Label("block")
	rows := make([]reg.VecVirtual, 16)
	p := GP64()
	MOVQ(src, p)
	for r := range rows {
		rows[r] = ZMM()
		VMOVUPS(strided(p, srcStride, srcStride3, r%4), rows[r])
		if r%4 == 3 {
			LEAQ(Mem{Base: p, Index: srcStride, Scale: 4}, p)
		}
	}
	// Within 128-bit lanes: pairs of rows, then quadruples, as in the 4×4 transpose.
	pairs := make([]reg.VecVirtual, 16)
	for r := 0; r < 16; r += 2 {
		pairs[r], pairs[r+1] = ZMM(), ZMM()
		VUNPCKLPS(rows[r+1], rows[r], pairs[r])
		VUNPCKHPS(rows[r+1], rows[r], pairs[r+1])
	}
	quads := make([]reg.VecVirtual, 16) // quads[4g+c]: rows 4g..4g+3 of columns c, 4+c, 8+c, 12+c
	for g := 0; g < 16; g += 4 {
		for c := range 4 {
			quads[g+c] = ZMM()
			low, high := pairs[g+c/2], pairs[g+2+c/2]
			if c%2 == 0 {
				VUNPCKLPD(high, low, quads[g+c])
			} else {
				VUNPCKHPD(high, low, quads[g+c])
			}
		}
	}
	// Across lanes: lane l of quads[4g+c] belongs to row 4l+c of the result, at lane g.
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
	for r := range out {
		VMOVUPS(out[r], strided(dst, dstStride, dstStride3, r%4))
		if r%4 == 3 {
			LEAQ(Mem{Base: dst, Index: dstStride, Scale: 4}, dst)
		}
	}
	ADDQ(Imm(64), src)
	DECQ(blocks)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
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
