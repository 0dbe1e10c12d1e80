package main

import (
	"math"
	"strconv"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// A row kernel walks rows of float32 from the front: whole vectors, then one masked vector for what is
// left. Absent lanes load as zero and are never stored, so alignment and length past the end do not
// matter, and every reduction has one order for a given length.

// lanes is one step of such a walk, the place where a body reads and writes.
type lanes struct {
	isa    isa
	index  reg.Register // elements done
	unroll int          // which of several vectors of this step
	masked bool
	k      reg.OpmaskVirtual // AVX-512: the lanes that exist
	m      reg.VecVirtual    // AVX2: the same, all ones in each
}

func (l lanes) mem(base reg.Register) Mem {
	return Mem{Base: base, Index: l.index, Scale: 4, Disp: l.unroll * l.isa.vectorBytes()}
}

// load reads the vector of a row.
func (l lanes) load(base reg.Register) reg.VecVirtual { return l.loadAt(l.mem(base)) }

func (l lanes) loadAt(m Mem) reg.VecVirtual {
	v := l.isa.vector()
	switch {
	case !l.masked:
		VMOVUPS(m, v)
	case l.isa == avx512:
		VMOVUPS_Z(m, l.k, v)
	default:
		VMASKMOVPS(m, l.m, v)
	}
	return v
}

// store writes the vector of a row.
func (l lanes) store(v reg.VecVirtual, base reg.Register) { l.storeAt(v, l.mem(base)) }

func (l lanes) storeAt(v reg.VecVirtual, m Mem) {
	switch {
	case !l.masked:
		VMOVUPS(v, m)
	case l.isa == avx512:
		VMOVUPS(v, l.k, m)
	default:
		VMASKMOVPS(v, l.m, m)
	}
}

// zeroAbsent clears the lanes that do not exist.
func (l lanes) zeroAbsent(v reg.VecVirtual) {
	switch {
	case !l.masked:
	case l.isa == avx512:
		VMOVAPS_Z(v, l.k, v)
	default:
		VANDPS(l.m, v, v)
	}
}

// fillAbsent gives the lanes that do not exist the value of other.
func (l lanes) fillAbsent(v, other reg.VecVirtual) {
	switch {
	case !l.masked:
	case l.isa == avx512:
		kept := ZMM()
		VMOVAPS(other, kept)
		VMOVAPS(v, l.k, kept)
		VMOVAPS(kept, v)
	default:
		VBLENDVPS(l.m, v, other, v)
	}
}

// rowFunction starts a kernel. Its parameters are named in the signature; n is the length of its rows.
func rowFunction(i isa, name, signature, doc string) {
	TEXT(name+string(i), NOSPLIT, signature)
	Pragma("noescape")
	Doc(name + string(i) + " " + doc)
}

func pointer(name string) reg.Register { return Load(Param(name), GP64()) }

// walk emits the loop over n elements. With unroll above one, the body is first repeated for so many
// vectors at a time, each with its own value of lanes.unroll.
func walk(i isa, unroll int, body func(l lanes)) { walkAgain(i, "", unroll, body) }

// walkAgain is walk in a kernel that walks several times; pass tells its labels apart.
func walkAgain(i isa, pass string, unroll int, body func(l lanes)) {
	n, index := Load(Param("n"), GP64()), GP64()
	width := i.vectorBytes() / 4
	XORQ(index, index)
	step := func(label string, vectors int) {
		label += pass
		Label(label)
		CMPQ(n, Imm(uint64(vectors*width)))
		JLT(LabelRef(label + "End"))
		for u := range vectors {
			body(lanes{isa: i, index: index, unroll: u})
		}
		ADDQ(Imm(uint64(vectors*width)), index)
		SUBQ(Imm(uint64(vectors*width)), n)
		JMP(LabelRef(label))
		Label(label + "End")
	}
	if unroll > 1 {
		step("several", unroll)
	}
	step("single", 1)
	TESTQ(n, n)
	JZ(LabelRef("walked" + pass))
	l := lanes{isa: i, index: index, masked: true}
	if i == avx512 {
		bits := GP32()
		XORL(bits, bits)
		BTSL(n.(reg.GPVirtual).As32(), bits)
		DECL(bits)
		l.k = K()
		KMOVW(bits, l.k)
	} else {
		table := GP64()
		LEAQ(tailMasks, table)
		NEGQ(n)
		l.m = YMM()
		VMOVUPS(Mem{Base: table, Index: n, Scale: 4, Disp: 32}, l.m)
	}
	body(l)
	Label("walked" + pass)
}

// tailMasks is every AVX2 mask: the eight lanes from the (8-r)th on are r with all bits, then zeros.
var tailMasks Mem

// emitTailMasks defines tailMasks.
func emitTailMasks() {
	tailMasks = GLOBL("tailMasks", RODATA|NOPTR)
	for i := range 16 {
		var lane uint32
		if i < 8 {
			lane = math.MaxUint32
		}
		DATA(4*i, U32(lane))
	}
}

// constants holds one 64-byte vector per value, under the value's bits.
var constants = map[uint32]Mem{}

// constantTable defines the vectors that the kernels use.
func constantTable(values ...float32) {
	for _, value := range values {
		bits := math.Float32bits(value)
		constants[bits] = GLOBL("constant"+strconv.FormatUint(uint64(bits), 16), RODATA|NOPTR)
		for i := range 16 {
			DATA(4*i, U32(bits))
		}
	}
}

// constant is a value in all lanes, as an operand: AVX-512 has registers to keep it in, AVX2 reads it
// where it is used.
func (i isa) constant(value float32) Op {
	if i == avx512 {
		return i.constantRegister(value)
	}
	return constants[math.Float32bits(value)]
}

// constantRegister is a value in all lanes of a register.
func (i isa) constantRegister(value float32) reg.VecVirtual {
	v := i.vector()
	VMOVUPS(constants[math.Float32bits(value)], v)
	return v
}

// parameter is a float32 argument in all lanes.
func (i isa) parameter(name string) reg.VecVirtual {
	p, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	v := i.vector()
	VBROADCASTSS(p.Addr, v)
	return v
}

// zeros is n cleared registers.
func (i isa) zeros(n int) []reg.VecVirtual {
	vs := make([]reg.VecVirtual, n)
	for j := range vs {
		vs[j] = i.vector()
		VXORPS(vs[j], vs[j], vs[j])
	}
	return vs
}

// combine folds registers, then lanes, by halves and leaves the value in lane 0 of the result.
func (i isa) combine(vs []reg.VecVirtual, op func(a, b, dst Op)) reg.VecVirtual {
	for n := len(vs) / 2; n > 0; n /= 2 {
		for j := range n {
			op(vs[j+n], vs[j], vs[j])
		}
	}
	y := vs[0].AsY()
	if i == avx512 {
		high := YMM()
		VEXTRACTF64X4(Imm(1), vs[0], high)
		op(high, y, y)
	}
	x, t := vs[0].AsX(), XMM()
	VEXTRACTF128(Imm(1), y, t)
	op(t, x, x)
	VPERMILPD(Imm(1), x, t)
	op(t, x, x)
	VPSHUFD(Imm(1), x, t)
	op(t, x, x)
	return vs[0]
}

// everywhere copies lane 0 to all lanes.
func (i isa) everywhere(v reg.VecVirtual) reg.VecVirtual {
	all := i.vector()
	VBROADCASTSS(v.AsX(), all)
	return all
}

// returnLane stores lane 0 as the named result.
func returnLane(v reg.VecVirtual, name string) {
	Store(v.AsX(), Return(name))
}

// finish ends a kernel.
func finish() {
	VZEROUPPER()
	RET()
}
