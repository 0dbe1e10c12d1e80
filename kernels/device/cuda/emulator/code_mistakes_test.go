package emulator

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
)

// wrongPrograms are lines of a kernel of 64 threads behind those of entry, and what is said of it, with numbers of its line for %d. It reads and writes 64 words.
var wrongPrograms = []struct {
	name, declared string
	lines          []string
	line           int // of lines, from 0
	want           string
}{
	{"a read behind the end", "", []string{"\tadd.s64 %rd3, %rd0, %rd2;", "\tld.global.u64 %rd4, [%rd3+8];"}, 1,
		"lane 31 of warp 1 is at byte 512 of an allocation of 512 bytes of global memory, with 8 bytes"},
	{"a write before the beginning", "", []string{"\tsub.s64 %rd3, %rd1, %rd2;", "\tst.global.u32 [%rd3], %r0;"}, 1,
		"lane 1 of warp 0 is at 8 bytes before an allocation of 512 bytes of global memory"},
	{"half an allocation", "", []string{"\tld.global.v2.u64 {%rd4, %rd5}, [%rd0+496];", "\tadd.s64 %rd3, %rd0, 504;", "\tadd.s64 %rd3, %rd3, 8;", "\tld.u16 %rs1, [%rd3+-2];", "\tld.u16 %rs1, [%rd3];"}, 4,
		"lane 0 of warp 0 is at byte 512 of an allocation of 512 bytes of global memory, with 2 bytes"},
	{"an address off its multiple", "", []string{"\tadd.s64 %rd3, %rd0, 12;", "\tld.global.v4.f32 {%f0, %f1, %f2, %f3}, [%rd3];"}, 1,
		"lane 0 of warp 0 is at byte 12 of an allocation of 512 bytes of global memory, no multiple of 16"},
	{"shared memory behind the end", ".shared .align 8 .b8 memory[256];\n", []string{"\tmov.u64 %rd3, memory;", "\tadd.s64 %rd3, %rd3, %rd2;", "\tst.shared.u64 [%rd3], %rd2;"}, 2,
		"lane 0 of warp 1 is at byte 256 of 256 bytes of shared memory, with 8 bytes"},
	{"shared memory off its multiple", ".shared .align 8 .b8 memory[256];\n", []string{"\tmov.u32 %r1, memory;", "\tadd.s32 %r1, %r1, %r0;", "\tld.shared.u16 %rs1, [%r1];"}, 2,
		"lane 1 of warp 0 is at byte 1 of 256 bytes of shared memory, no multiple of 2"},
	{"parameters behind the end", "", []string{"\tmov.b64 %rd3, program_param_0;", "\tld.param.u64 %rd4, [%rd3+144];"}, 1,
		"lane 0 of warp 0 is at byte 144 of 144 bytes of the parameters, with 8 bytes"},
	{"a barrier of some lanes", "", []string{"\tsetp.lt.u32 %p1, %r0, 5;", "\t@%p1 bra behind;", "\tbar.sync 0;", "behind:"}, 2,
		"lanes 0xffffffe0 of warp 0 wait for the others, and lanes 0x1f do so at line %d"},
	{"a barrier behind which some have ended", "", []string{"\tsetp.lt.u32 %p1, %r0, 5;", "\t@%p1 ret;", "\tbar.sync 0;"}, 2,
		"lanes 0xffffffe0 of warp 0 come to what all lanes do together, and lanes 0x1f have ended"},
	{"a barrier of one warp", "", []string{"\tsetp.lt.u32 %p1, %r0, 32;", "\t@%p1 ret;", "\tbar.sync 0;"}, 2,
		"warp 1 waits at a barrier, and threads of warp 0 have ended"},
	{"two barriers", "", []string{"\tsetp.lt.u32 %p1, %r0, 5;", "\t@%p1 bra other;", "\tbar.sync 0;", "\tbra.uni behind;", "other:", "\tbar.sync 0;", "behind:"}, 2,
		"lanes 0xffffffe0 of warp 0 wait for the others, and lanes 0x1f do so at line %d"},
	{"a shuffle of some lanes", "", []string{"\tand.b32 %r1, %r0, 1;", "\tsetp.eq.s32 %p1, %r1, 0;", "\t@%p1 bra behind;", "\tshfl.sync.bfly.b32 %r2, %r0, 1, 31, -1;", "behind:"}, 3,
		"lanes 0xaaaaaaaa of warp 0 wait for the others, and lanes 0x55555555 do so at line %d"},
	{"a product of some lanes", "", []string{"\tsetp.lt.u32 %p1, %r0, 31;", "\t@!%p1 ret;",
		"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f0, %f1, %f2, %f3}, {%r0, %r0, %r0, %r0}, {%r0, %r0}, {%f0, %f0, %f0, %f0};"}, 2,
		"lanes 0x7fffffff of warp 0 come to what all lanes do together, and lanes 0x80000000 have ended"},
	{"a matrix off its multiple", ".shared .align 16 .b8 memory[1024];\n", []string{"\tmov.u32 %r1, memory;", "\tshl.b32 %r2, %r0, 3;", "\tadd.s32 %r1, %r1, %r2;",
		"\tldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r4, %r5, %r6, %r7}, [%r1];"}, 3, "lane 1 of warp 0 has a row of a matrix at 0x8 of shared memory, no multiple of 16"},
	{"a matrix behind the end", ".shared .align 16 .b8 memory[256];\n", []string{"\tmov.u32 %r1, memory;", "\tshl.b32 %r2, %r0, 4;", "\tadd.s32 %r1, %r1, %r2;",
		"\tldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r4, %r5, %r6, %r7}, [%r1];"}, 3, "lane 16 of warp 0 reads 16 bytes at 0x100 of shared memory, which has 256"},
	{"a copy off its multiple", ".shared .align 16 .b8 memory[1024];\n", []string{"\tmov.u32 %r1, memory;", "\tadd.s64 %rd3, %rd0, 8;", "\tmov.u32 %r2, 16;",
		"\tcp.async.cg.shared.global [%r1], [%rd3], 16, %r2;"}, 3, "lane 0 of warp 0 is at byte 8 of an allocation of 512 bytes of global memory, no multiple of 16"},
	{"a copy behind the end", ".shared .align 16 .b8 memory[1024];\n", []string{"\tmov.u32 %r1, memory;", "\tadd.s64 %rd3, %rd0, 512;", "\tmov.u32 %r2, 4;",
		"\tcp.async.cg.shared.global [%r1], [%rd3], 16, %r2;"}, 3, "lane 0 of warp 0 is at byte 512 of an allocation of 512 bytes of global memory, with 4 bytes"},
	{"a copy of too much", ".shared .align 16 .b8 memory[1024];\n", []string{"\tmov.u32 %r1, memory;", "\tmov.u32 %r2, 17;",
		"\tcp.async.cg.shared.global [%r1], [%rd0], 16, %r2;"}, 2, "lane 0 of warp 0 copies 17 bytes of 16"},
	{"a copy to nowhere", ".shared .align 16 .b8 memory[64];\n", []string{"\tmov.u32 %r1, memory;", "\tmov.u32 %r2, 16;",
		"\tcp.async.cg.shared.global [%r1+64], [%rd0], 16, %r2;"}, 2, "lane 0 of warp 0 is at byte 64 of 64 bytes of shared memory, with 16 bytes"},
	{"a swap off its multiple", "", []string{"\tadd.s64 %rd3, %rd1, 2;", "\tatom.global.cas.b32 %r1, [%rd3], 0, 1;"}, 1,
		"lane 0 of warp 0 is at byte 2 of an allocation of 512 bytes of global memory, no multiple of 4"},
}

// TestWrongProgramsAreStopped wants of each the line and what is wrong, and the driver's error.
func TestWrongProgramsAreStopped(t *testing.T) {
	r := newRunner(t)
	for _, p := range wrongPrograms {
		text := entry(p.declared, p.lines...)
		at := 0 // the line of the first of lines
		for i, line := range strings.Split(text, "\n") {
			if strings.Contains(line, "mul.wide.u32 %rd2, %r0, 8;") {
				at = i + 2
			}
		}
		want := fmt.Sprintf("program: line %d, block (0, 0, 0): %s", at+p.line, p.want)
		if strings.Contains(want, "%d") {
			other := at + len(p.lines) // the ret behind
			if p.name == "two barriers" {
				other = at + 5
			}
			want = fmt.Sprintf(want, other)
		}
		a := handwrittenArgs{in: r.numbers(make([]uint64, 64)), out: r.numbers(make([]uint64, 64))}
		for _, order := range []int64{0, 1, 20261121} {
			r.set("order", order)
			must(t, r.Launch(r.function(text, "program"), [3]uint32{1, 1, 1}, 64, 0, unsafe.Pointer(&a), r.stream))
			err := r.Wait(r.stream)
			if err == nil || !strings.Contains(err.Error(), "CUDA_ERROR_LAUNCH_FAILED") {
				t.Errorf("%s, order %d: got %v", p.name, order, err)
			}
			if order == 0 && r.mistake() != want { // in others others come first
				t.Errorf("%s:\ngot  %q\nwant %q", p.name, r.mistake(), want)
			}
			r.set("broken", 0)
		}
		must(t, r.Free(a.in))
		must(t, r.Free(a.out))
	}
}

// TestWrongTextsAreNotLoaded wants the reader's words in the driver's log.
func TestWrongTextsAreNotLoaded(t *testing.T) {
	r := newRunner(t)
	for line, want := range map[string]string{
		"\tfma.rz.f32 %f0, %f1, %f2, %f3;": "the emulator does not know 'fma.rz.f32'",
		"\tadd.s32 %r1, %r2, %f3;":         "register '%f3' is not of the instruction's type",
	} {
		text := entry("", line)
		_, err := r.Load([]byte(text))
		if driver.CodeOf(err) != 218 || !strings.Contains(err.Error(), "CUDA_ERROR_INVALID_PTX") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", line, err, want)
		}
		r.set("ptx", 0)
		if _, err := r.Load([]byte(text)); err != nil {
			t.Errorf("%s, where sources run: %v", line, err)
		}
		r.set("ptx", 1)
	}
}

// TestWarpsTakeTurns has two warps pass words to each other with and without the barrier that they need, in orders in which one goes far
// before the other, and in one in which they take turns.
func TestWarpsTakeTurns(t *testing.T) {
	r := newRunner(t)
	for _, barrier := range []string{"\tbar.sync 0;", "\tbar.warp.sync -1;"} {
		lines := []string{"\tmov.u64 %rd3, memory;", "\tadd.s64 %rd4, %rd3, %rd2;", "\tadd.s64 %rd5, %rd1, %rd2;", "\tmov.u32 %r1, 0;", "\txor.b32 %r2, %r0, 32;", "\tmul.wide.u32 %rd6, %r2, 8;",
			"\tadd.s64 %rd6, %rd3, %rd6;", "\tmov.u64 %rd7, 0;", "again:", "\tadd.s64 %rd8, %rd7, 1;", "\tst.shared.u64 [%rd4], %rd8;", barrier, "\tld.shared.u64 %rd7, [%rd6];", barrier,
			"\tadd.s32 %r1, %r1, 1;", "\tsetp.lt.u32 %p1, %r1, 20;", "\t@%p1 bra again;", "\tst.global.u64 [%rd5], %rd7;"}
		wrong := 0
		for _, order := range []int64{0, 1, 20261121} {
			r.set("order", order)
			for _, v := range r.handwritten(handwritten{text: entry(".shared .align 8 .b8 memory[512];\n", lines...), in: make([]uint64, 1), out: 64}) {
				if v != 20 {
					wrong++
				}
			}
		}
		if needed := strings.Contains(barrier, "bar.sync"); needed == (wrong > 0) {
			t.Errorf("%s: %d threads of 192 have the wrong number", barrier, wrong)
		}
	}
}

// TestLaunchesAreBounded asks for more threads and more shared memory than a kernel may have.
func TestLaunchesAreBounded(t *testing.T) {
	r := newRunner(t)
	a := handwrittenArgs{in: r.numbers(make([]uint64, 64)), out: r.numbers(make([]uint64, 64))}
	f := r.function(entry(".shared .align 16 .b8 table[4096];\n.extern .shared .align 128 .b8 memory[];\n", "\tmov.u32 %r1, memory;", "\tmov.u32 %r2, table;"), "program")
	try := func(threads, shared uint32) error {
		return r.Launch(f, [3]uint32{1, 1, 1}, threads, shared, unsafe.Pointer(&a), r.stream)
	}
	if try(65, 0) == nil {
		t.Error("65 threads of a kernel of 64 at most")
	}
	must(t, try(64, 44<<10))
	if try(64, 44<<10+1) == nil {
		t.Error("more than 48 KiB with what the kernel declares need leave")
	}
	if r.AllowShared(f, 95<<10+1) == nil {
		t.Error("more than 99 KiB with what the kernel declares are more than every GPU has")
	}
	must(t, r.AllowShared(f, 95<<10))
	must(t, try(64, 95<<10))
	must(t, r.Wait(r.stream))
}
