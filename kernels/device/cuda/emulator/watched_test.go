package emulator

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
)

// watcher runs programs in PTX and looks at what they do.
type watcher struct {
	*gpu
	path string
}

func newWatcher(t *testing.T) *watcher {
	t.Helper()
	l, err := Build(t.Context(), t.TempDir())
	must(t, err)
	w := &watcher{opened(t, l), l.Driver}
	w.set("ptx", 1)
	t.Cleanup(func() {
		w.set("watch", 0)
		w.set("ptx", 0)
		w.set("broken", 0)
	})
	return w
}

// program is a kernel of up to 128 threads and 8 KiB of shared memory. Behind its first lines %r1 is the thread, %r2 the second argument, %r3
// the shared memory, %r4 what is at the thread times the second argument in it, and %rd2 and %rd4 the same of global memory,
// from the first argument on.
func program(lines ...string) string {
	text := `.version 7.0
.target sm_80
.address_size 64
.shared .align 128 .b8 memory[8192];
.visible .entry program(
	.param .align 8 .b8 program_param_0[16]
)
.maxntid 128, 1, 1
{
	.reg .pred 	%p<8>;
	.reg .b16 	%rs<4>;
	.reg .b32 	%r<32>;
	.reg .f32 	%f<8>;
	.reg .b64 	%rd<16>;
	mov.u32 	%r1, %tid.x;
	ld.param.u64 	%rd1, [program_param_0];
	ld.param.u32 	%r2, [program_param_0+8];
	cvta.to.global.u64 	%rd2, %rd1;
	mov.u32 	%r3, memory;
	mul.lo.s32 	%r5, %r1, %r2;
	add.s32 	%r4, %r3, %r5;
	mul.wide.s32 	%rd3, %r1, %r2;
	add.s64 	%rd4, %rd2, %rd3;
`
	for _, line := range lines {
		if strings.HasSuffix(line, ":") {
			text += line + "\n"
		} else {
			text += "\t" + line + "\n"
		}
	}
	return text + "\tret;\n}\n"
}

// run runs a program of so many blocks and threads on 64 KiB of global memory.
func (w *watcher) run(blocks, threads uint32, pitch int32, lines ...string) {
	w.t.Helper()
	m, err := w.Load([]byte(program(lines...)))
	must(w.t, err)
	f, err := w.Function(m, "program")
	must(w.t, err)
	memory, err := w.Alloc(1 << 16)
	must(w.t, err)
	arguments := struct {
		memory driver.Address
		pitch  int32
	}{memory, pitch}
	must(w.t, w.Launch(f, [3]uint32{blocks, 1, 1}, threads, 0, unsafe.Pointer(&arguments), w.stream))
	must(w.t, w.Wait(w.stream))
	must(w.t, w.Unload(m))
	must(w.t, w.Free(memory))
}

// counted is what one launch of a program by a warp takes.
func (w *watcher) counted(pitch int32, lines ...string) Counts {
	w.t.Helper()
	w.set("watch", WatchCounts)
	w.run(1, 32, pitch, lines...)
	all, err := Watched(w.path)
	must(w.t, err)
	if len(all) != 1 || all[0].Kernel != "program" || all[0].Launches != 1 || all[0].Warps != 1 {
		w.t.Fatalf("counted %+v", all)
	}
	return all[0]
}

// TestSectorsAreCounted has a warp read and write global memory in ways whose sectors are known.
func TestSectorsAreCounted(t *testing.T) {
	w := newWatcher(t)
	const one, two, four = "ld.global.f32 %f1, [%rd4];", "ld.global.v2.f32 {%f1, %f2}, [%rd4];", "ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd4];"
	for _, c := range []struct {
		what                 string
		pitch                int32
		line                 string
		sectors, least, asks int64
	}{
		{"one behind the other", 4, one, 4, 4, 128},
		{"every second", 8, one, 8, 4, 128},
		{"every eighth", 32, one, 32, 4, 128},
		{"a row each", 256, one, 32, 4, 128},
		{"the same", 0, one, 1, 1, 4},
		{"not at a sector's beginning", 4, "ld.global.f32 %f1, [%rd4+4];", 5, 4, 128},
		{"two each", 8, two, 8, 8, 256},
		{"four each", 16, four, 16, 16, 512},
		{"four each, every second", 32, four, 32, 16, 512},
	} {
		for writes, line := range []string{c.line, strings.Replace(strings.Replace(c.line, "ld.", "st.", 1), c.line[strings.Index(c.line, " "):], store(c.line), 1)} {
			got := w.counted(c.pitch, line)
			if got.Requests[writes] != 1 || got.Requests[1-writes] != 0 || got.Sectors[writes] != c.sectors || got.LeastSectors[writes] != c.least || got.Asked[writes] != c.asks {
				t.Errorf("%s, %s: %d sectors, least %d, of %d bytes; want %d, %d, %d", c.what, line, got.Sectors[writes], got.LeastSectors[writes], got.Asked[writes], c.sectors, c.least, c.asks)
			}
		}
	}
	again := w.counted(4, one, one, "st.global.f32 [%rd4], %f1;")
	if again.Bytes != [2]int64{128, 128} || again.Met != [2]int64{4, 4} || again.Asked != [2]int64{256, 128} {
		t.Errorf("128 bytes that are read twice and written: %+v", again)
	}
}

// store is the operands of a load, as those of a store.
func store(load string) string {
	operands := load[strings.Index(load, " ")+1:]
	at := strings.LastIndex(operands, ", [")
	return " " + strings.TrimSuffix(operands[at+2:], ";") + ", " + operands[:at] + ";"
}

// TestTurnsOfBanksAreCounted has a warp read, write and copy to shared memory in ways whose turns are known.
func TestTurnsOfBanksAreCounted(t *testing.T) {
	w := newWatcher(t)
	const one, two, four = "ld.shared.f32 %f1, [%r4];", "ld.shared.v2.f32 {%f1, %f2}, [%r4];", "ld.shared.v4.f32 {%f1, %f2, %f3, %f4}, [%r4];"
	const half = "ld.shared.u16 %rs1, [%r4];"
	const tiles = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r10,%r11,%r12,%r13}, [%r4];"
	const copies = "cp.async.cg.shared.global [%r4], [%rd4], 16, %r6;"
	for _, c := range []struct {
		what         string
		pitch        int32
		line         string
		kind         int
		turns, least int64
	}{
		{"one behind the other", 4, one, 0, 1, 1},
		{"every second", 8, one, 0, 2, 1},
		{"every third", 12, one, 0, 1, 1},
		{"a row of banks each", 128, one, 0, 32, 1},
		{"a row of banks and one each", 132, one, 0, 1, 1},
		{"the same", 0, one, 0, 1, 1},
		{"two each", 8, two, 0, 2, 2},
		{"two each, every second", 16, two, 0, 4, 2},
		{"four each", 16, four, 0, 4, 4},
		{"four each, every second", 32, four, 0, 8, 4},
		{"four each, rows of 36", 144, four, 0, 4, 4},
		{"written", 8, "st.shared.f32 [%r4], %f1;", 1, 2, 1},
		{"written four each", 16, "st.shared.v4.f32 [%r4], {%f1, %f2, %f3, %f4};", 1, 4, 4},
		{"tiles of rows of banks", 128, tiles, 2, 32, 4},
		{"tiles of rows of half the banks", 64, tiles, 2, 16, 4},
		{"tiles of rows with padding", 144, tiles, 2, 4, 4},
		{"tiles of rows behind each other", 16, tiles, 2, 4, 4},
		{"copies behind each other", 16, copies, 3, 4, 4},
		{"copies to rows of banks", 128, copies, 3, 32, 4},
	} {
		var wants, leasts [4]int64
		wants[c.kind], leasts[c.kind] = c.turns, c.least
		got := w.counted(c.pitch, "mov.u32 %r6, 16;", c.line)
		if got.Turns != wants || got.LeastTurns != leasts {
			t.Errorf("%s, %s: turns %v, least %v, want %v, %v", c.what, c.line, got.Turns, got.LeastTurns, wants, leasts)
		}
	}
	for _, pair := range []int32{2, 4} { // two lanes of a word are one of its readers
		if got := w.counted(pair, half); got.Turns[0] != 1 {
			t.Errorf("%d bytes from lane to lane: %v turns", pair, got.Turns)
		}
	}
}

// TestInstructionsAreCounted has half of a warp take a way of its own.
func TestInstructionsAreCounted(t *testing.T) {
	w := newWatcher(t)
	before := w.counted(4)
	got := w.counted(4, "setp.gt.s32 %p1, %r1, 15;", "@%p1 bra $L__BB0_1;", "add.s32 %r6, %r1, %r2;", "cvt.rn.f32.s32 %f1, %r6;", "sqrt.rn.f32 %f2, %f1;", "$L__BB0_1:",
		"shfl.sync.bfly.b32 %r7, %r1, 1, 31, -1;", "bar.warp.sync -1;")
	want := before.Classes
	want.Select++
	want.Control++
	want.Integers++
	want.Floats++
	want.Functions++
	want.Shuffles++
	want.Barriers++
	if got.Classes != want || got.Executed != before.Executed+7 || got.Lanes != before.Lanes+4*32+3*16 {
		t.Errorf("counted %+v, %d instructions by %d lanes; want %+v behind %d by %d", got.Classes, got.Executed, got.Lanes, want, before.Executed, before.Lanes)
	}
	if w.counted(4, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1,%f2,%f3,%f4}, {%r1,%r1,%r1,%r1}, {%r1,%r1}, {%f1,%f2,%f3,%f4};").Classes.Tensor != 1 {
		t.Error("a product by tensor cores is not counted")
	}
}

// Threads of the race tests: %r8 is the word of a neighbour in the warp, %r9 that of the same lane of the other warp, %rd8 and
// %rd9 the same in global memory. Between notFirst and rest is what thread 0 does alone.
var neighbours = []string{
	"xor.b32 %r6, %r1, 1;", "mul.lo.s32 %r7, %r6, %r2;", "add.s32 %r8, %r3, %r7;", "mul.wide.s32 %rd5, %r6, %r2;", "add.s64 %rd8, %rd2, %rd5;",
	"xor.b32 %r6, %r1, 32;", "mul.lo.s32 %r7, %r6, %r2;", "add.s32 %r9, %r3, %r7;", "mul.wide.s32 %rd5, %r6, %r2;", "add.s64 %rd9, %rd2, %rd5;",
	"mov.u32 %r10, 16;", "setp.ne.s32 %p1, %r1, 0;",
}

const (
	write, read                  = "st.shared.u32 [%r4], %r1;", "ld.shared.u32 %r20, [%r4];"
	writeLane, readLane          = "st.shared.u32 [%r8], %r1;", "ld.shared.u32 %r21, [%r8];"
	readWarp                     = "ld.shared.u32 %r22, [%r9];"
	barrier, warpBarrier         = "bar.sync 0;", "bar.warp.sync -1;"
	shuffle                      = "shfl.sync.bfly.b32 %r23, %r1, 1, 31, -1;"
	copyLater, commit, wait      = "cp.async.cg.shared.global [%r4], [%rd4], 16, %r10;", "cp.async.commit_group;", "cp.async.wait_group 0;"
	writeGlobal, readGlobal      = "st.global.u32 [%rd4], %r1;", "ld.global.u32 %r24, [%rd4];"
	readGlobalLane, readGlobalAt = "ld.global.u32 %r25, [%rd8];", "ld.global.u32 %r26, [%rd9];"
	notFirst, rest               = "@%p1 bra $L__BB0_1;", "$L__BB0_1:"
	swap, writeFirst             = "atom.global.cas.b32 %r27, [%rd2], 0, 1;", "st.global.u32 [%rd2], %r1;"
)

// TestRacesAreFound has two warps of a block do what is in order and what is not.
func TestRacesAreFound(t *testing.T) {
	w := newWatcher(t)
	for _, c := range []struct {
		what  string
		lines []string
		found string // "" is nothing
	}{
		{"its own", []string{write, read, write}, ""},
		{"unwritten", []string{read}, "reads what nobody wrote, at byte 0 of shared memory"},
		{"another warp's", []string{write, readWarp}, "thread 32 of block 0 reads what thread 0 wrote"},
		{"another warp's behind a barrier", []string{write, barrier, readWarp}, ""},
		{"another warp's behind a warp's barrier", []string{write, warpBarrier, readWarp}, "with no barrier between"},
		{"a neighbour's", []string{write, readLane}, "thread 0 of block 0 reads what thread 1 wrote"},
		{"a neighbour's behind a shuffle", []string{write, shuffle, readLane}, "with no barrier between"},
		{"a neighbour's behind a warp's barrier", []string{write, warpBarrier, readLane}, ""},
		{"a neighbour's behind a barrier", []string{write, barrier, readLane}, ""},
		{"written when it was read", []string{write, barrier, readWarp, write}, "writes what thread"},
		{"written when it was read by a lane", []string{write, warpBarrier, readLane, write}, "writes what thread 1 read"},
		{"written when it was read by a lane, behind a barrier", []string{write, warpBarrier, readLane, warpBarrier, write}, ""},
		{"written when it was read by another warp before a warp's barrier", []string{write, barrier, readWarp, warpBarrier, write}, "writes what thread"},
		{"written when both had read it", []string{write, barrier, readWarp, read, write}, "writes what thread"},
		{"written twice", []string{write, writeLane}, "thread 0 of block 0 writes what thread 1 wrote"},
		{"written twice behind a barrier", []string{write, barrier, writeLane}, ""},
		{"written by all at once", []string{"st.shared.u32 [%r3], %r1;"}, "threads 0 and 1 of block 0 write the same bytes at once"},
		{"written by one and read by all", []string{notFirst, "st.shared.u32 [%r3], %r1;", rest, barrier, "ld.shared.u32 %r20, [%r3];"}, ""},
		{"halves of a word", []string{"mov.u16 %rs1, 1;", "shl.b32 %r28, %r1, 1;", "add.s32 %r29, %r3, %r28;", "st.shared.u16 [%r29], %rs1;", "ld.shared.u16 %rs2, [%r29];"}, ""},
		{"halves of a word, read whole", []string{"mov.u16 %rs1, 1;", "shl.b32 %r28, %r1, 1;", "add.s32 %r29, %r3, %r28;", "st.shared.u16 [%r29], %rs1;", "ld.shared.u32 %r20, [%r3];"}, "with no barrier between"},
		{"a copy not waited for", []string{copyLater, commit, read}, "reads what thread 0 began to copy"},
		{"a copy waited for too early", []string{copyLater, wait, commit, read}, "has not waited for"},
		{"a copy by its thread", []string{copyLater, commit, wait, read}, ""},
		{"a copy by a neighbour", []string{copyLater, commit, wait, readLane}, "thread 0 of block 0 reads what thread 1 wrote"},
		{"a copy by a neighbour behind a warp's barrier", []string{copyLater, commit, wait, warpBarrier, readLane}, ""},
		{"a copy by another warp", []string{copyLater, commit, wait, warpBarrier, readWarp}, "with no barrier between"},
		{"a copy by another warp behind a barrier", []string{copyLater, commit, wait, barrier, readWarp}, ""},
		{"a copy waited for behind the barrier", []string{copyLater, commit, barrier, wait, readWarp}, "with no barrier between"},
		{"a copy written over", []string{copyLater, commit, write}, "writes what thread 0 began to copy"},
		{"a copy over what is read", []string{write, barrier, readWarp, copyLater, commit, wait}, "writes what thread"},
	} {
		w.finds(c.what, WatchRaces|WatchOn, c.found, c.lines...)
	}
}

// finds runs a program by two blocks of two warps, 16 bytes from thread to thread, and compares what is found.
func (w *watcher) finds(what string, bits int64, want string, lines ...string) {
	w.t.Helper()
	w.set("watch", bits)
	w.run(2, 64, 16, slices.Concat(neighbours, lines)...)
	found, err := Found(w.path)
	must(w.t, err)
	if all := strings.Join(found, "\n"); want == "" && all != "" || !strings.Contains(all, want) {
		w.t.Errorf("%s: found %q, want %q", what, all, want)
	}
}

// TestRacesInGlobalMemoryAreFound has blocks and threads of a launch use the same bytes.
func TestRacesInGlobalMemoryAreFound(t *testing.T) {
	w := newWatcher(t)
	own := []string{"mov.u32 %r28, %ctaid.x;", "mul.wide.s32 %rd6, %r28, 4096;", "add.s64 %rd2, %rd2, %rd6;", "add.s64 %rd4, %rd4, %rd6;", "add.s64 %rd8, %rd8, %rd6;", "add.s64 %rd9, %rd9, %rd6;"}
	for _, c := range []struct {
		what  string
		lines []string
		found string
	}{
		{"read by all", []string{readGlobal, readGlobalLane, readGlobalAt}, ""},
		{"written by two blocks", []string{writeGlobal}, "thread 0 of block 1 writes what thread 0 of an earlier block wrote"},
		{"written by each block to its own", slices.Concat(own, []string{writeGlobal, readGlobal}), ""},
		{"another warp's", slices.Concat(own, []string{writeGlobal, readGlobalAt}), "with no barrier between, of global memory"},
		{"another warp's behind a barrier", slices.Concat(own, []string{writeGlobal, barrier, readGlobalAt}), ""},
		{"a neighbour's", slices.Concat(own, []string{writeGlobal, readGlobalLane}), "with no barrier between"},
		{"a neighbour's behind a warp's barrier", slices.Concat(own, []string{writeGlobal, warpBarrier, readGlobalLane}), ""},
		{"written behind a barrier where an earlier block read", []string{readGlobal, readGlobalAt, barrier, writeGlobal}, "of an earlier block read"},
		{"exchanged by all", []string{swap}, ""},
		{"exchanged, and written", []string{swap, barrier, notFirst, writeFirst, rest}, "of an earlier block wrote"},
	} {
		w.finds(c.what, WatchGlobal|WatchOn, c.found, c.lines...)
	}
}

// TestFindingsFailTheLaunch has a launch go wrong by what is found, and the next one, which is not watched, go on.
func TestFindingsFailTheLaunch(t *testing.T) {
	w := newWatcher(t)
	m, err := w.Load([]byte(program(read)))
	must(t, err)
	f, err := w.Function(m, "program")
	must(t, err)
	var arguments [2]uint64
	for _, bits := range []int64{WatchRaces, WatchCounts} {
		w.set("watch", bits)
		must(t, w.Launch(f, [3]uint32{1, 1, 1}, 32, 0, unsafe.Pointer(&arguments), w.stream))
		if err := w.Wait(w.stream); (err != nil) != (bits == WatchRaces) {
			t.Errorf("watching for %d: %v", bits, err)
		}
		w.set("broken", 0)
	}
}

// TestAllOrdersAreWatched draws where barriers are among writes and reads of a block, and wants a race to be found where the
// definition has one: two instructions, one writing, of different threads, with no barrier for both between.
func TestAllOrdersAreWatched(t *testing.T) {
	w := newWatcher(t)
	random := rand.New(rand.NewPCG(20, 26))
	steps := []string{write, read, writeLane, readLane, readWarp, barrier, warpBarrier, shuffle}
	for range 60 {
		lines := []string{write, barrier}
		for range 6 {
			lines = append(lines, steps[random.IntN(len(steps))])
		}
		w.set("watch", WatchRaces|WatchOn)
		w.run(1, 64, 16, slices.Concat(neighbours, lines)...)
		found, err := Found(w.path)
		must(t, err)
		if want := races(lines); want != (len(found) > 0) {
			t.Errorf("%s: found %q, want a race: %v", strings.Join(lines, " "), found, want)
		}
	}
}

// races looks at all pairs of instructions of all pairs of threads.
func races(lines []string) bool {
	where := map[string]int{write: 0, read: 0, writeLane: 1, readLane: 1, readWarp: 32}
	for i, first := range lines {
		for j := i + 1; j < len(lines); j++ {
			a, used := where[first]
			b, too := where[lines[j]]
			if !used || !too || first[:2] == "ld" && lines[j][:2] == "ld" || a == b {
				continue
			}
			between := lines[i+1 : j]
			sameWarp := a^b < 32
			if !slices.Contains(between, barrier) && !(sameWarp && slices.Contains(between, warpBarrier)) {
				return true
			}
		}
	}
	return false
}

// TestManyCountsAreTold has more to tell than there is room for at first.
func TestManyCountsAreTold(t *testing.T) {
	w := newWatcher(t)
	var lines []string
	for i := range 2000 {
		lines = append(lines, fmt.Sprintf("add.s32 %%r6, %%r1, %d;", i))
	}
	if got := w.counted(4, lines...); len(got.Lines) != int(got.Executed) {
		t.Errorf("%d lines of %d instructions", len(got.Lines), got.Executed)
	}
}
