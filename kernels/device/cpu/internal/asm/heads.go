package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// headRows is the most rows a head has in a kernel over the pages of two heads. With more, one head alone
// has enough chains in flight.
const headRows = 2

// heads emits the AVX-512 kernels that decode two key heads at once. One head of few rows leaves the
// multipliers waiting for their own results. Where they are told to, the kernels also fetch what the next one
// reads: the processor itself looks ahead to the end of 4 KiB only, which may be one page of one head.
func heads() {
	for rows := 1; rows <= headRows; rows++ {
		scoresHeads(rows)
		for _, vectors := range []int{2, 4} {
			mixHeads(rows, vectors)
		}
	}
}

// pageAt emits the address of the page with the number at index, whose pool and stride are parameters.
func pageAt(pool string, index reg.Register) reg.Register {
	page, from := GP64(), GP64()
	MOVLQSX(Mem{Base: index}, page)
	Load(Param("pageStride"), from)
	IMULQ(from, page)
	Load(Param(pool), from)
	ADDQ(from, page)
	return page
}

// fetch emits the prefetch of lines from the address on.
func fetch(at Mem, lines int) {
	for line := range lines {
		at.Disp = line * 64
		PREFETCHT0(at)
	}
}

// scoresHeads emits scoresPages for two heads of so many rows each, without the second half of the last page
// where no position lies in it. While it reads the keys of a page, it fetches the values of its positions,
// which lie ahead of them by the distance between both; nothing where that is 0.
func scoresHeads(rows int) {
	name := fmt.Sprintf("scoresHeadsAVX512_%d", rows)
	TEXT(name, NOSPLIT, "func(scores *float32, ldScores int, q *float32, ldQ, headDim int, pool *float32, pages *int32, positions, pageStride, headStride, ahead int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s computes the scores of %d rows of each of two heads, for positions up to a multiple of 16. Strides are in bytes.", name, rows))
	scores, ldScores := pointer("scores"), pointer("ldScores")
	q, ldQ, index := pointer("q"), pointer("ldQ"), pointer("pages")
	ldQ3, ldScores3 := GP64(), GP64()
	LEAQ(Mem{Base: ldQ, Index: ldQ, Scale: 2}, ldQ3)
	LEAQ(Mem{Base: ldScores, Index: ldScores, Scale: 2}, ldScores3)
	left, headStride := pointer("positions"), pointer("headStride")

	Label("page")
	keys := pageAt("pool", index)
	ADDQ(Imm(4), index)
	values, end := Load(Param("ahead"), GP64()), Load(Param("headDim"), GP64())
	ADDQ(keys, values)
	IMULQ(left, end)
	LEAQ(Mem{Base: values, Index: end, Scale: 4}, end)
	row, steps := GP64(), Load(Param("headDim"), GP64())
	MOVQ(q, row)
	page := func(label string, vectors int, fetches bool) {
		acc := chains(2*rows, vectors)
		Label(label)
		for head := range 2 {
			key, value := Mem{Base: keys}, Mem{Base: values}
			if head > 0 {
				key.Index, key.Scale, value.Index, value.Scale = headStride, 1, headStride, 1
			}
			if fetches {
				fetch(value, 2)
			}
			accumulate(acc[head*rows:][:rows], key, func(r int) Mem { return strided(row, ldQ, ldQ3, head*rows+r) })
		}
		if fetches {
			ADDQ(U32(panelBytes), values)
			CMPQ(values, end)
			CMOVQCC(keys, values) // which are near already
		}
		ADDQ(U32(panelBytes), keys)
		ADDQ(Imm(4), row)
		DECQ(steps)
		JNZ(LabelRef(label))
		for r := range acc {
			for v := range acc[r] {
				m := strided(scores, ldScores, ldScores3, r)
				m.Disp = v * 64
				VMOVUPS(acc[r][v], m)
			}
		}
	}
	turn := func() {
		ADDQ(U32(panelBytes), scores)
		SUBQ(Imm(panelBytes/4), left)
		JG(LabelRef("page"))
		finish()
	}
	CMPQ(values, keys)
	JNE(LabelRef("fetching"))
	CMPQ(left, Imm(panelBytes/8))
	JLE(LabelRef("half"))
	page("steps", 2, false)
	turn()
	Label("half")
	page("halfSteps", 1, false)
	finish()
	Label("fetching")
	CMPQ(left, Imm(panelBytes/8))
	JLE(LabelRef("halfFetching"))
	page("stepsFetching", 2, true)
	turn()
	Label("halfFetching")
	page("halfStepsFetching", 1, true)
	finish()
}

// accumulate emits one step of some rows of chains: the vectors at b times a number of each row.
func accumulate(acc [][]reg.VecVirtual, b Mem, x func(row int) Mem) {
	vectors := make([]reg.VecVirtual, len(acc[0]))
	for v := range vectors {
		vectors[v] = ZMM()
		b.Disp = v * 64
		VMOVUPS(b, vectors[v])
	}
	for r := range acc {
		all := ZMM()
		VBROADCASTSS(x(r), all)
		for v := range vectors {
			VFMADD231PS(vectors[v], all, acc[r][v])
		}
	}
}

// mixHeads emits mixPages for two heads of so many rows each. While it reads a page of values, it fetches as
// much of a page of the keys that come next.
func mixHeads(rows, vectors int) {
	name := fmt.Sprintf("mixHeadsAVX512_%dx%d", rows, vectors)
	TEXT(name, NOSPLIT, "func(out *float32, ldOut int, p *float32, ldP, positions int, pool *float32, pages *int32, valueStride, pageStride, headStride int, nextPool *float32, nextPages *int32, nextCount int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s computes %d columns of the mixes of %d rows of each of two heads. Strides are in bytes.", name, 16*vectors, rows))
	p, ldP, left, index := pointer("p"), pointer("ldP"), pointer("positions"), pointer("pages")
	valueStride, headStride := pointer("valueStride"), pointer("headStride")
	nextIndex, nextLeft := pointer("nextPages"), pointer("nextCount")
	ldP3 := GP64()
	LEAQ(Mem{Base: ldP, Index: ldP, Scale: 2}, ldP3)
	acc := chains(2*rows, vectors)

	Label("page")
	values := pageAt("pool", index)
	ADDQ(Imm(4), index)
	steps, next := GP64(), GP64()
	MOVQ(I32(panelBytes/4), steps)
	CMPQ(left, steps)
	CMOVQLT(left, steps)
	SUBQ(steps, left)
	walk := func(label string, fetches bool) {
		Label(label)
		for head := range 2 {
			value, key := Mem{Base: values}, Mem{Base: next}
			if head > 0 {
				key.Index, key.Scale, value.Index, value.Scale = headStride, 1, headStride, 1
			}
			if fetches {
				fetch(key, vectors)
			}
			accumulate(acc[head*rows:][:rows], value, func(r int) Mem { return strided(p, ldP, ldP3, head*rows+r) })
		}
		ADDQ(valueStride, values)
		if fetches {
			ADDQ(U32(vectors*64), next)
		}
		ADDQ(Imm(4), p)
		DECQ(steps)
		JNZ(LabelRef(label))
		TESTQ(left, left)
		JNZ(LabelRef("page"))
	}
	TESTQ(nextLeft, nextLeft)
	JNZ(LabelRef("fetching"))
	walk("steps", false)
	JMP(LabelRef("mixed"))
	Label("fetching")
	MOVQ(pageAt("nextPool", nextIndex), next)
	ADDQ(Imm(4), nextIndex)
	DECQ(nextLeft)
	walk("stepsFetching", true)

	Label("mixed")
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
