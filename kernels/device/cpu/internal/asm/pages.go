package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// pageRows is the most rows of a kernel over pages.
const pageRows = 4

// pages emits the AVX-512 kernels that decode over pages of 32 positions.
func pages() {
	for rows := 1; rows <= pageRows; rows++ {
		scoresPages(rows)
		for _, vectors := range []int{2, 4} {
			mixPages(rows, vectors)
		}
	}
}

// pagePointer emits the address of the page whose number is at index, and moves index on.
func pagePointer(pool, index, stride reg.Register) reg.Register {
	page := GP64()
	MOVLQSX(Mem{Base: index}, page)
	IMULQ(stride, page)
	ADDQ(pool, page)
	ADDQ(Imm(4), index)
	return page
}

// chains are accumulators of rows × vectors, cleared.
func chains(rows, vectors int) [][]reg.VecVirtual {
	acc := make([][]reg.VecVirtual, rows)
	for r := range acc {
		for range vectors {
			v := ZMM()
			VPXORD(v, v, v)
			acc[r] = append(acc[r], v)
		}
	}
	return acc
}

// scoresPages emits the products of rows queries with the keys of a list of pages, two pages at a time so
// that more chains are in flight.
func scoresPages(rows int) {
	name := fmt.Sprintf("scoresPagesAVX512_%d", rows)
	TEXT(name, NOSPLIT, "func(scores *float32, ldScores int, q *float32, ldQ, headDim int, pool *float32, pages *int32, count, pageStride int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s computes %d rows of 32·count scores. Strides are in bytes.", name, rows))
	scores, ldScores := pointer("scores"), pointer("ldScores")
	q, ldQ := pointer("q"), pointer("ldQ")
	pool, index, stride := pointer("pool"), pointer("pages"), pointer("pageStride")
	count := GP64()
	Load(Param("count"), count)
	ldQ3, ldScores3 := GP64(), GP64()
	LEAQ(Mem{Base: ldQ, Index: ldQ, Scale: 2}, ldQ3)
	LEAQ(Mem{Base: ldScores, Index: ldScores, Scale: 2}, ldScores3)

	group := func(label string, together int) {
		Label(label)
		CMPQ(count, Imm(uint64(together)))
		JLT(LabelRef(label + "End"))
		at := make([]reg.Register, together)
		for i := range at {
			at[i] = pagePointer(pool, index, stride)
		}
		acc := chains(rows, 2*together)
		row, steps := GP64(), Load(Param("headDim"), GP64())
		MOVQ(q, row)
		Label(label + "Steps")
		b := make([]reg.VecVirtual, 2*together)
		for v := range b {
			b[v] = ZMM()
			VMOVUPS(Mem{Base: at[v/2], Disp: v % 2 * 64}, b[v])
		}
		for r := range rows {
			x := ZMM()
			VBROADCASTSS(strided(row, ldQ, ldQ3, r), x)
			for v := range b {
				VFMADD231PS(b[v], x, acc[r][v])
			}
		}
		for _, p := range at {
			ADDQ(Imm(panelBytes), p)
		}
		ADDQ(Imm(4), row)
		DECQ(steps)
		JNZ(LabelRef(label + "Steps"))
		for r := range acc {
			for v := range acc[r] {
				m := strided(scores, ldScores, ldScores3, r)
				m.Disp = v * 64
				VMOVUPS(acc[r][v], m)
			}
		}
		ADDQ(U32(together*panelBytes), scores)
		SUBQ(Imm(uint64(together)), count)
		JMP(LabelRef(label))
		Label(label + "End")
	}
	group("pair", 2)
	group("last", 1)
	finish()
}

// mixPages emits the mix of the values of a list of pages. The chains stay in registers from page to page.
func mixPages(rows, vectors int) {
	name := fmt.Sprintf("mixPagesAVX512_%dx%d", rows, vectors)
	TEXT(name, NOSPLIT, "func(out *float32, ldOut int, p *float32, ldP, positions int, pool *float32, pages *int32, valueStride, pageStride int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s computes %d rows of %d columns of the mix. Strides are in bytes.", name, rows, 16*vectors))
	p, ldP, left := pointer("p"), pointer("ldP"), pointer("positions")
	pool, index := pointer("pool"), pointer("pages")
	valueStride, stride := pointer("valueStride"), pointer("pageStride")
	ldP3 := GP64()
	LEAQ(Mem{Base: ldP, Index: ldP, Scale: 2}, ldP3)
	acc := chains(rows, vectors)

	Label("page")
	value := pagePointer(pool, index, stride)
	steps := GP64()
	MOVQ(I32(panelBytes/4), steps)
	CMPQ(left, steps)
	CMOVQLT(left, steps)
	SUBQ(steps, left)
	Label("steps")
	b := make([]reg.VecVirtual, vectors)
	for v := range b {
		b[v] = ZMM()
		VMOVUPS(Mem{Base: value, Disp: v * 64}, b[v])
	}
	for r := range rows {
		x := ZMM()
		VBROADCASTSS(strided(p, ldP, ldP3, r), x)
		for v := range b {
			VFMADD231PS(b[v], x, acc[r][v])
		}
	}
	ADDQ(valueStride, value)
	ADDQ(Imm(4), p)
	DECQ(steps)
	JNZ(LabelRef("steps"))
	TESTQ(left, left)
	JNZ(LabelRef("page"))

	out, ldOut := pointer("out"), pointer("ldOut")
	for r, row := range acc {
		for v, a := range row {
			VMOVUPS(a, Mem{Base: out, Disp: v * 64})
		}
		if r+1 < len(acc) {
			ADDQ(ldOut, out)
		}
	}
	finish()
}
