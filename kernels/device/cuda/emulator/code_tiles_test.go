package emulator

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
)

// bfloats are words of four random numbers in BF16.
func bfloats(seed uint64, n int) []uint64 {
	random, out := rand.New(rand.NewPCG(seed, 8)), make([]uint64, n)
	for i := range out {
		for e := range 4 {
			out[i] |= uint64(math.Float32bits(float32(random.NormFloat64()))>>16) << (16 * e)
		}
	}
	return out
}

// half is 16-bit number i of words.
func half(w []uint64, i int) uint64 { return w[i/4] >> (16 * (i % 4)) & 0xffff }

func bfloat(w []uint64, i int) float64 {
	return float64(math.Float32frombits(uint32(half(w, i)) << 16))
}

// tiles are ldmatrix and mma. Both warps of the block do the same.
func tiles() (out []handwritten) {
	for _, turned := range []bool{false, true} {
		opcode := "ldmatrix.sync.aligned.m8n8.x4.shared.b16"
		if turned {
			opcode = "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16"
		}
		// Lane l has row 31 − l of 8 elements, so row r of matrix m is row 31 − 8m − r of what is there.
		text := entry(".shared .align 16 .b8 memory[512];\n", "\tand.b32 %r1, %r0, 31;", "\tmov.u32 %r2, memory;", "\tmul.wide.u32 %rd3, %r1, 16;", "\tadd.s64 %rd3, %rd0, %rd3;",
			"\tld.global.v2.u64 {%rd4, %rd5}, [%rd3];", "\tshl.b32 %r3, %r1, 4;", "\tadd.s32 %r3, %r2, %r3;", "\tst.shared.v2.u64 [%r3], {%rd4, %rd5};", "\tbar.sync 0;",
			"\txor.b32 %r4, %r1, 31;", "\tshl.b32 %r4, %r4, 4;", "\tadd.s32 %r4, %r2, %r4;", "\t"+opcode+" {%r5, %r6, %r7, %r8}, [%r4];",
			"\tmul.wide.u32 %rd6, %r0, 16;", "\tadd.s64 %rd6, %rd1, %rd6;", "\tst.global.v4.u32 [%rd6], {%r5, %r6, %r7, %r8};")
		out = append(out, handwritten{name: opcode, text: text, in: words(8, 64), out: 128, check: func(in, got []uint64) string {
			at := func(matrix, row, column int) uint64 { return half(in, 8*(31-8*matrix-row)+column) }
			for thread := range 64 {
				g, t := thread%32/4, thread%4
				for matrix := range 4 {
					want := at(matrix, g, 2*t) | at(matrix, g, 2*t+1)<<16
					if turned {
						want = at(matrix, 2*t, g) | at(matrix, 2*t+1, g)<<16
					}
					if v := got[2*thread+matrix/2] >> (32 * (matrix % 2)) & math.MaxUint32; v != want {
						return fmt.Sprintf("thread %d has %#x of matrix %d, want %#x", thread, v, matrix, want)
					}
				}
			}
			return ""
		}})
	}
	return append(out, product())
}

// product is D = A·B + C of tiles that lie row by row: A of 16 × 16 in the first 64 words, B of 16 × 8 in the next 32, and C is D of a
// product with itself as the sum, so that sums are added to.
func product() handwritten {
	lines := []string{"\tand.b32 %r1, %r0, 31;", "\tshr.u32 %r2, %r1, 2;", "\tand.b32 %r3, %r1, 3;"}
	load := func(to string, base int, row, column string) { // an element of 16 bits of rows of columns
		lines = append(lines, row, column, fmt.Sprintf("\tmul.wide.u32 %%rd3, %%r21, 2;\n\tadd.s64 %%rd3, %%rd0, %%rd3;\n\tld.global.u16 %s, [%%rd3+%d];", to, base))
	}
	pair := func(register, base int, first, second func()) {
		first()
		second()
		lines = append(lines, fmt.Sprintf("\tmov.b32 %%r%d, {%%rs1, %%rs2};", register))
	}
	for i := range 4 { // A, rows g and g + 8, columns 2t, 2t + 1 and 8 further
		for e := range 1 {
			pair(4+i, 0, func() {
				load("%rs1", 0, fmt.Sprintf("\tadd.s32 %%r20, %%r2, %d;\n\tshl.b32 %%r20, %%r20, 4;", 8*(i%2)), fmt.Sprintf("\tshl.b32 %%r21, %%r3, 1;\n\tadd.s32 %%r21, %%r21, %d;\n\tadd.s32 %%r21, %%r21, %%r20;", 8*(i/2)+e))
			}, func() {
				load("%rs2", 0, fmt.Sprintf("\tadd.s32 %%r20, %%r2, %d;\n\tshl.b32 %%r20, %%r20, 4;", 8*(i%2)), fmt.Sprintf("\tshl.b32 %%r21, %%r3, 1;\n\tadd.s32 %%r21, %%r21, %d;\n\tadd.s32 %%r21, %%r21, %%r20;", 8*(i/2)+1))
			})
		}
	}
	for i := range 2 { // B, rows 2t, 2t + 1 and 8 further, column g
		pair(8+i, 512, func() {
			load("%rs1", 512, fmt.Sprintf("\tshl.b32 %%r20, %%r3, 1;\n\tadd.s32 %%r20, %%r20, %d;\n\tshl.b32 %%r20, %%r20, 3;", 8*i), "\tadd.s32 %r21, %r20, %r2;")
		}, func() {
			load("%rs2", 512, fmt.Sprintf("\tshl.b32 %%r20, %%r3, 1;\n\tadd.s32 %%r20, %%r20, %d;\n\tshl.b32 %%r20, %%r20, 3;", 8*i+1), "\tadd.s32 %r21, %r20, %r2;")
		})
	}
	const opcode = "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
	lines = append(lines, "\tmov.f32 %f0, 0f3F800000;", // of 1
		"\t"+opcode+" {%f1, %f2, %f3, %f4}, {%r4, %r5, %r6, %r7}, {%r8, %r9}, {%f0, %f0, %f0, %f0};",
		"\t"+opcode+" {%f1, %f2, %f3, %f4}, {%r4, %r5, %r6, %r7}, {%r8, %r9}, {%f1, %f2, %f3, %f4};",
		"\tmul.wide.u32 %rd4, %r0, 16;", "\tadd.s64 %rd4, %rd1, %rd4;", "\tst.global.v4.f32 [%rd4], {%f1, %f2, %f3, %f4};")
	return handwritten{name: "mma", text: entry("", lines...), in: bfloats(9, 96), out: 128, check: func(in, got []uint64) string {
		for thread := range 64 {
			g, t := thread%32/4, thread%4
			for i := range 4 {
				row, column, want := g+8*(i/2), 2*t+i%2, 1.0
				for k := range 16 {
					want += 2 * bfloat(in, 16*row+k) * bfloat(in, 256+8*k+column)
				}
				v := float64(math.Float32frombits(uint32(got[2*thread+i/2] >> (32 * (i % 2)))))
				if !(math.Abs(v-want) <= 1e-5*math.Max(1, math.Abs(want))) {
					return fmt.Sprintf("thread %d has %v at (%d, %d), want %v", thread, v, row, column, want)
				}
			}
		}
		return ""
	}}
}

// walks take ways of their own in each lane: loops of other lengths in each other, with ways out of their middles, some threads ending
// early, and barriers where all meet again.
func walks() []handwritten {
	text := entry(".shared .align 8 .b8 memory[512];\n", `	add.s64 %rd3, %rd0, %rd2;
	add.s64 %rd4, %rd1, %rd2;
	ld.global.u32 %r1, [%rd3];
	and.b32 %r1, %r1, 1023;
	mov.u32 %r2, 0;
	mov.u32 %r3, 0;
outer:
	setp.le.u32 %p1, %r1, 1;
	@%p1 bra done;
	add.s32 %r2, %r2, 1;
	and.b32 %r4, %r1, 1;
	setp.eq.s32 %p2, %r4, 0;
	@!%p2 bra odd;
	shr.u32 %r1, %r1, 1;
	bra.uni both;
odd:
	mad.lo.s32 %r1, %r1, 3, 1;
	setp.gt.u32 %p3, %r1, 5000;
	@%p3 bra done;
inner:
	add.s32 %r3, %r3, 1;
	and.b32 %r5, %r3, 3;
	setp.ne.s32 %p4, %r5, 0;
	@%p4 bra inner;
both:
	setp.lt.u32 %p5, %r2, 100;
	@%p5 bra outer;
	bra done;
done:
	shl.b32 %r6, %r3, 16;
	or.b32 %r6, %r6, %r2;
	mov.u64 %rd5, memory;
	add.s64 %rd5, %rd5, %rd2;
	cvt.u64.u32 %rd6, %r6;
	cvt.u64.u32 %rd7, %r1;
	shl.b64 %rd7, %rd7, 32;
	or.b64 %rd6, %rd6, %rd7;
	st.shared.u64 [%rd5], %rd6;
	bar.sync 0;
	mov.u64 %rd5, memory;
	xor.b32 %r7, %r0, 63;
	mul.wide.u32 %rd8, %r7, 8;
	add.s64 %rd5, %rd5, %rd8;
	ld.shared.u64 %rd6, [%rd5];
	and.b32 %r8, %r2, 1;
	setp.ne.s32 %p6, %r8, 0;
	@!%p6 ret;
	st.global.u64 [%rd4], %rd6;`)
	walk := func(v uint64) (packed uint64, steps uint64) {
		v &= 1023
		var inner uint64
		for v > 1 {
			steps++
			if v%2 == 0 {
				v /= 2
			} else {
				if v = 3*v + 1; v > 5000 {
					break
				}
				for {
					if inner++; inner%4 == 0 {
						break
					}
				}
			}
			if steps >= 100 {
				break
			}
		}
		return v<<32 | inner<<16 | steps, steps
	}
	return []handwritten{{name: "walks", text: text, in: words(10, 64), out: 64, check: func(in, got []uint64) string {
		ended := 0
		for i := range got {
			_, own := walk(in[i])
			want, _ := walk(in[i^63])
			if own%2 == 0 {
				want = 0
				ended++
			}
			if got[i] != want {
				return fmt.Sprintf("thread %d has %#x, want %#x", i, got[i], want)
			}
		}
		if bits.Len(uint(ended)) < 3 {
			return "hardly any thread ends early"
		}
		return ""
	}}}
}
