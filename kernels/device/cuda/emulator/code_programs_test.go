package emulator

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
)

// A handwritten is a kernel of blocks of 64 threads that reads words and writes words, and what it writes.
type handwritten struct {
	name, text string
	blocks     int
	shared     int // bytes that the launch asks for
	in         []uint64
	out        int // words, which begin as zeros
	check      func(in, out []uint64) string
}

// handwrittenArgs are the kernel's struct: where its words are, and 16 words that it can have from the struct itself.
type handwrittenArgs struct {
	in, out driver.Address
	words   [16]uint64
}

// entry is the text of a kernel named program: behind its first lines %r0 is the thread, %rd0 and %rd1 are where words come from and go to, and
// %rd2 is 8 for each thread of those before.
func entry(declared string, lines ...string) string {
	return module(declared+`.visible .entry program(.param .align 8 .b8 program_param_0[144])
.maxntid 64, 1, 1
{
	.reg .pred %p<8>;
	.reg .b16 %rs<8>;
	.reg .b32 %r<32>;
	.reg .f32 %f<24>;
	.reg .f64 %fd<8>;
	.reg .b64 %rd<16>;
	mov.u32 %r0, %tid.x;
	ld.param.u64 %rd0, [program_param_0];
	ld.param.u64 %rd1, [program_param_0+8];
	mul.wide.u32 %rd2, %r0, 8;
`) + strings.Join(lines, "\n") + "\n\tret;\n}\n"
}

// run runs a program and gives what it writes.
func (r *runner) handwritten(p handwritten) []uint64 {
	r.t.Helper()
	a := handwrittenArgs{in: r.numbers(p.in), out: r.numbers(make([]uint64, p.out))}
	copy(a.words[:], p.in)
	f := r.function(p.text, "program")
	must(r.t, r.Launch(f, [3]uint32{uint32(max(p.blocks, 1)), 1, 1}, 64, uint32(p.shared), unsafe.Pointer(&a), r.stream))
	out := r.back(a.out, p.out)
	must(r.t, r.Free(a.in))
	must(r.t, r.Free(a.out))
	return out
}

// TestProgramsDoWhatTheirInstructionsSay runs programs in all orders of threads.
func TestProgramsDoWhatTheirInstructionsSay(t *testing.T) {
	r := newRunner(t)
	for _, p := range programs() {
		for _, order := range []int64{0, 1, 20261121, 8} {
			r.set("order", order)
			if wrong := p.check(p.in, r.handwritten(p)); wrong != "" {
				t.Errorf("%s, order %d: %s", p.name, order, wrong)
			}
		}
	}
}

func programs() []handwritten {
	return slices.Concat(loads(), stores(), exchanges(), tiles(), walks())
}

// spaces are the words of an opcode for where memory is.
var spaces = []string{"", ".global", ".shared", ".param"}

// random words.
func words(seed uint64, n int) []uint64 {
	random, out := rand.New(rand.NewPCG(seed, 8)), make([]uint64, n)
	for i := range out {
		out[i] = random.Uint64()
	}
	return out
}

// bytesOf are words as memory has them.
func bytesOf(w []uint64) []byte {
	var out []byte
	for _, v := range w {
		out = binary.LittleEndian.AppendUint64(out, v)
	}
	return out
}

// element is number i of a type in memory, widened to 64 bits.
func element(memory []byte, kind string, i int) uint64 {
	size := width(kind)
	var v uint64
	for b := range size {
		v |= uint64(memory[i*size+b]) << (8 * b)
	}
	if kind[0] == 's' {
		return uint64(int64(v<<(64-8*size)) >> (64 - 8*size))
	}
	return v
}

func width(kind string) int {
	return map[string]int{"8": 1, "16": 2, "32": 4, "64": 8}[kind[1:]]
}

var scalars = []string{"b8", "u8", "s8", "b16", "u16", "s16", "b32", "u32", "s32", "b64", "u64", "s64", "f32", "f64"}

// vector is registers of a type, in braces when there are several, and how words say so.
func vector(kind string, elements int) (registers []string, list, word string) {
	class := map[string]string{"f32": "%f", "f64": "%fd"}[kind]
	if class == "" {
		class = "%rd"
	}
	for e := range elements {
		registers = append(registers, fmt.Sprintf("%s%d", class, 4+e))
	}
	if elements == 1 {
		return registers, registers[0], ""
	}
	return registers, "{" + strings.Join(registers, ", ") + "}", fmt.Sprintf(".v%d", elements)
}

// loads widen what they load to 64 bits.
func loads() (out []handwritten) {
	for _, space := range spaces {
		for _, kind := range scalars {
			for _, elements := range []int{1, 2, 4} {
				if elements*width(kind) > 16 {
					continue // no GPU loads as much at once
				}
				registers, list, word := vector(kind, elements)
				opcode := "ld" + space + word + "." + kind
				lines := []string{"\tadd.s64 %rd3, %rd0, 0;"}
				declared := ""
				switch space {
				case ".shared":
					declared = ".shared .align 16 .b8 memory[2048];\n"
					lines = []string{"\tmov.u32 %r1, memory;", "\tshl.b32 %r2, %r0, 5;", "\tadd.s32 %r2, %r1, %r2;", "\tmul.wide.u32 %rd3, %r0, 32;", "\tadd.s64 %rd3, %rd0, %rd3;"}
					for i := range 4 {
						lines = append(lines, fmt.Sprintf("\tld.global.u64 %%rd4, [%%rd3+%d];\n\tst.shared.u64 [%%r2+%[1]d], %%rd4;", 8*i))
					}
					lines = append(lines, "\tbar.sync 0;", fmt.Sprintf("\tmad.lo.s32 %%r2, %%r0, %d, %%r1;", elements*width(kind)), fmt.Sprintf("\t%s %s, [%%r2];", opcode, list))
				case ".param":
					lines = []string{fmt.Sprintf("\t%s %s, [program_param_0+%d];", opcode, list, 32)} // the third of its words, at a multiple of 16
				default:
					lines = []string{fmt.Sprintf("\tmul.wide.u32 %%rd3, %%r0, %d;\n\tadd.s64 %%rd3, %%rd0, %%rd3;\n\t%s %s, [%%rd3];", elements*width(kind), opcode, list)}
				}
				lines = append(lines, fmt.Sprintf("\tmul.wide.u32 %%rd3, %%r0, %d;\n\tadd.s64 %%rd3, %%rd1, %%rd3;", 8*elements))
				for e, register := range registers {
					stored := "u64"
					if kind[0] == 'f' {
						stored = kind
					}
					lines = append(lines, fmt.Sprintf("\tst.global.%s [%%rd3+%d], %s;", stored, 8*e, register))
				}
				out = append(out, handwritten{name: opcode, text: entry(declared, lines...), in: words(1, 256), out: 64 * elements, check: func(in, got []uint64) string {
					memory := bytesOf(in)
					for i := range got {
						from := i
						if space == ".param" {
							from = 16/width(kind) + i%elements
						}
						if want := element(memory, kind, from); got[i] != want {
							return fmt.Sprintf("element %d is %#x, want %#x", i, got[i], want)
						}
					}
					return ""
				}})
			}
		}
	}
	return out
}

// stores narrow what they store from 64 bits.
func stores() (out []handwritten) {
	for _, space := range spaces[:3] {
		for _, kind := range scalars {
			for _, elements := range []int{1, 2, 4} {
				if elements*width(kind) > 16 {
					continue
				}
				registers, list, word := vector(kind, elements)
				opcode := "st" + space + word + "." + kind
				lines := []string{fmt.Sprintf("\tmul.wide.u32 %%rd3, %%r0, %d;\n\tadd.s64 %%rd3, %%rd0, %%rd3;", 8*elements)}
				for e, register := range registers {
					loaded := "u64"
					if kind[0] == 'f' {
						loaded = kind
					}
					lines = append(lines, fmt.Sprintf("\tld.global.%s %s, [%%rd3+%d];", loaded, register, 8*e))
				}
				lines = append(lines, fmt.Sprintf("\tmul.wide.u32 %%rd3, %%r0, %d;", elements*width(kind)))
				declared := ""
				if space == ".shared" {
					declared = ".shared .align 16 .b8 memory[2048];\n"
					lines = append(lines, "\tmov.u64 %rd14, memory;", "\tadd.s64 %rd3, %rd14, %rd3;", fmt.Sprintf("\t%s [%%rd3], %s;", opcode, list), "\tbar.sync 0;",
						"\tmul.wide.u32 %rd3, %r0, 32;", "\tadd.s64 %rd14, %rd14, %rd3;", "\tadd.s64 %rd3, %rd1, %rd3;")
					for i := range 4 {
						lines = append(lines, fmt.Sprintf("\tld.shared.u64 %%rd4, [%%rd14+%d];\n\tst.global.u64 [%%rd3+%[1]d], %%rd4;", 8*i))
					}
				} else {
					lines = append(lines, "\tadd.s64 %rd3, %rd1, %rd3;", fmt.Sprintf("\t%s [%%rd3], %s;", opcode, list))
				}
				out = append(out, handwritten{name: opcode, text: entry(declared, lines...), in: words(2, 256), out: 256, check: func(in, got []uint64) string {
					memory, size := bytesOf(got), width(kind)
					for i := range 64 * elements {
						mask := uint64(math.MaxUint64) >> (64 - 8*size)
						if v := element(memory, "u"+kind[1:], i); v != in[i]&mask {
							return fmt.Sprintf("element %d is %#x, want %#x", i, v, in[i]&mask)
						}
					}
					unwritten := byte(0)
					if space == ".shared" {
						unwritten = 0xff
					}
					for i, b := range memory[64*elements*size:] {
						if b != unwritten {
							return fmt.Sprintf("byte %d behind what is stored is %#x", i, b)
						}
					}
					return ""
				}})
			}
		}
	}
	return out
}

// exchanges are between threads.
func exchanges() []handwritten {
	shuffles := func(opcode, lane, clamp string, from func(l int) int) handwritten {
		return handwritten{name: opcode + " " + lane + " " + clamp, in: words(3, 64), out: 64,
			text: entry("", "\tadd.s64 %rd3, %rd0, %rd2;", "\tadd.s64 %rd4, %rd1, %rd2;", "\tld.global.u32 %r1, [%rd3];", "\tand.b32 %r3, %r0, 31;", "\txor.b32 %r3, %r3, 5;",
				fmt.Sprintf("\t%s %%r2, %%r1, %s, %s, -1;", opcode, lane, clamp), "\tst.global.u32 [%rd4], %r2;"),
			check: func(in, got []uint64) string {
				for i := range got {
					if want := in[i&^31+from(i&31)] & math.MaxUint32; got[i] != want {
						return fmt.Sprintf("thread %d has %#x, want %#x", i, got[i], want)
					}
				}
				return ""
			}}
	}
	return []handwritten{
		shuffles("shfl.sync.bfly.b32", "16", "31", func(l int) int { return l ^ 16 }),
		shuffles("shfl.sync.bfly.b32", "35", "31", func(l int) int { return l ^ 3 }),
		shuffles("shfl.sync.bfly.b32", "4", "6147", func(l int) int { // segments of 8, and lanes 3 of each at most
			if j := l ^ 4; j <= l&0x18|3 {
				return j
			}
			return l
		}),
		shuffles("shfl.sync.idx.b32", "7", "31", func(int) int { return 7 }),
		shuffles("shfl.sync.idx.b32", "%r3", "31", func(l int) int { return l ^ 5 }),
		shuffles("shfl.sync.idx.b32", "%r3", "7199", func(l int) int { return l&0x1c | (l^5)&3 }), // segments of 4
		{name: "atom.global.cas", in: words(4, 64), out: 65, blocks: 2,
			text: entry("", "\tadd.s64 %rd3, %rd1, %rd2;", "\tadd.s32 %r1, %r0, 1;", "\tatom.global.cas.b32 %r2, [%rd1+512], 0, %r1;", "\tmov.u32 %r4, %ctaid.x;",
				"\tsetp.ne.s32 %p1, %r4, 0;", "\t@%p1 ret;", "\tst.global.u32 [%rd3], %r2;"),
			check: func(_, got []uint64) string {
				first := got[64]
				for i := range 64 {
					if first == 0 || first > 64 || got[i] != 0 && got[i] != first {
						return fmt.Sprintf("thread %d has got %d, and %d is there", i, got[i], first)
					}
				}
				return ""
			}},
		{name: "bar.warp.sync", in: words(5, 64), out: 64, text: entry(".shared .align 8 .b8 memory[512];\n", "\tadd.s64 %rd3, %rd0, %rd2;", "\tadd.s64 %rd4, %rd1, %rd2;",
			"\tld.global.u64 %rd5, [%rd3];", "\tmov.u64 %rd6, memory;", "\tadd.s64 %rd7, %rd6, %rd2;", "\tst.shared.u64 [%rd7], %rd5;", "\tbar.warp.sync -1;",
			"\txor.b32 %r1, %r0, 31;", "\tmul.wide.u32 %rd8, %r1, 8;", "\tadd.s64 %rd7, %rd6, %rd8;", "\tld.shared.u64 %rd5, [%rd7];", "\tst.global.u64 [%rd4], %rd5;"),
			check: func(in, got []uint64) string {
				for i := range got {
					if got[i] != in[i^31] {
						return fmt.Sprintf("thread %d has %#x, want %#x", i, got[i], in[i^31])
					}
				}
				return ""
			}},
		{name: "halves", in: words(6, 64), out: 128, text: entry("", "\tadd.s64 %rd3, %rd0, %rd2;", "\tshl.b64 %rd4, %rd2, 1;", "\tadd.s64 %rd4, %rd1, %rd4;", "\tld.global.u64 %rd5, [%rd3];",
			"\tmov.b64 {%r1, %r2}, %rd5;", "\tmov.b32 {%rs1, %rs2}, %r1;", "\tmov.b32 %r3, {%rs2, %rs1};", "\tmov.b64 %rd6, {%r2, %r3};", "\tst.global.u64 [%rd4], %rd6;",
			"\t{ .reg .b16 tmp; mov.b32 {tmp, %rs3}, %r2; }", "\tst.global.u16 [%rd4+8], %rs3;"),
			check: func(in, got []uint64) string {
				for i, v := range in {
					if want := v>>32 | v&0xffff<<48 | v>>16&0xffff<<32; got[2*i] != want || got[2*i+1] != v>>48 {
						return fmt.Sprintf("halves of %#x are turned to %#x and %#x", v, got[2*i], got[2*i+1])
					}
				}
				return ""
			}},
		copies(),
	}
}

// copies copies thread t's 16 bytes in two groups, t mod 17 bytes of them in the first, and looks before it waits, and after each wait.
func copies() handwritten {
	lines := []string{"\tmov.u32 %r1, memory;", "\tshl.b32 %r2, %r0, 4;", "\tadd.s32 %r2, %r1, %r2;", "\tmul.wide.u32 %rd3, %r0, 16;", "\tadd.s64 %rd3, %rd0, %rd3;",
		"\trem.u32 %r3, %r0, 17;", "\tcp.async.cg.shared.global [%r2], [%rd3], 16, %r3;", "\tcp.async.commit_group;",
		"\tcp.async.cg.shared.global [%r2+1024], [%rd3], 16, 16;", "\tcp.async.commit_group;", "\tmul.wide.u32 %rd4, %r0, 64;", "\tadd.s64 %rd4, %rd1, %rd4;"}
	look := func(at, to int) {
		lines = append(lines, fmt.Sprintf("\tld.shared.v2.u64 {%%rd5, %%rd6}, [%%r2+%d];\n\tst.global.v2.u64 [%%rd4+%d], {%%rd5, %%rd6};", at, to))
	}
	look(0, 0)
	lines = append(lines, "\tcp.async.wait_group 1;")
	look(0, 16)
	look(1024, 32)
	lines = append(lines, "\tcp.async.wait_group 0;")
	look(1024, 48)
	return handwritten{name: "cp.async", text: entry(".extern .shared .align 16 .b8 memory[];\n", lines...), shared: 2048, in: words(7, 128), out: 512, check: func(in, got []uint64) string {
		const nobodys = math.MaxUint64
		for i := range 64 {
			part := bytesOf(in[2*i : 2*i+2])
			clear(part[i%17:])
			first, second := binary.LittleEndian.Uint64(part), binary.LittleEndian.Uint64(part[8:])
			want := []uint64{nobodys, nobodys, first, second, nobodys, nobodys, in[2*i], in[2*i+1]}
			if !slices.Equal(got[8*i:8*i+8], want) {
				return fmt.Sprintf("thread %d has seen %#x, want %#x", i, got[8*i:8*i+8], want)
			}
		}
		return ""
	}}
}
