package cuda

import (
	"slices"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/emulator"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/ptx"
)

// measured is what was counted of a work.
type measured struct {
	work
	kernels []emulator.Counts
}

// TestFastKernelsAreInOrder runs the PTX of the fast mode's kernels, at sizes like a model's in all that their loops see, and wants no
// two threads to use the same bytes in no order, one of them writing, nor a read of shared memory that nobody wrote. What it
// counts besides is what docs/gpu.md has.
func TestFastKernelsAreInOrder(t *testing.T) {
	arithmetic(t)
	d := interpreted(t, Options{})
	var all []measured
	for _, w := range newBench(t, d).works(1024) {
		counts, found := watched(t, d, emulator.WatchRaces|emulator.WatchGlobal|emulator.WatchCounts|emulator.WatchOn, w.run)
		for _, f := range found {
			t.Errorf("%s: %s", w.name, f)
		}
		if w.floor() > 0 {
			all = append(all, measured{w, counts})
		}
	}
	documented(t, all)
}

// unneeded are how many barriers a kernel has without which nothing races. put_tiles waits for a warp's lanes wherever it is called;
// here the block's last barrier has done so.
var unneeded = map[string]int{"fast_attend_back_keys_64": 1, "fast_attend_back_keys_128": 1}

// isOrder reports whether a line orders accesses to memory, or waits for copies.
func isOrder(line string) bool {
	return strings.Contains(line, "bar.sync") || strings.Contains(line, "bar.warp.sync") || strings.Contains(line, "cp.async.wait_group")
}

// TestEveryBarrierIsNeeded takes each barrier and each wait for copies out of the PTX of the fast kernels, one at a time, and wants a
// race to be found: so that none is found as they are says something, and no barrier is there for nothing.
func TestEveryBarrierIsNeeded(t *testing.T) {
	arithmetic(t)
	d := interpreted(t, Options{})
	uses := map[string][]work{} // of kernels
	for _, w := range newBench(t, d).works(200) {
		counts, _ := watched(t, d, emulator.WatchCounts, w.run)
		for _, c := range counts {
			uses[c.Kernel] = append(uses[c.Kernel], w)
		}
	}
	taken, missed := 0, map[string][]int{}
	for _, file := range ptx.Files() {
		if !file.Fast() {
			continue
		}
		lines, kernel := strings.Split(string(file.Text), "\n"), ""
		for i, line := range lines {
			if rest, ok := strings.CutPrefix(line, ".visible .entry "); ok {
				kernel = strings.TrimSuffix(rest, "(")
			}
			if !isOrder(line) {
				continue
			}
			taken++
			d.without(t, file, kernel, lines, i, func() {
				if !slices.ContainsFunc(uses[kernel], func(w work) bool {
					_, found := watched(t, d, emulator.WatchRaces|emulator.WatchGlobal|emulator.WatchOn, w.run)
					return len(found) > 0
				}) {
					missed[kernel] = append(missed[kernel], i+1)
				}
			})
		}
	}
	for kernel, lines := range missed {
		if len(lines) != unneeded[kernel] {
			t.Errorf("%s: nothing is found without lines %v of its PTX, want %d such lines", kernel, lines, unneeded[kernel])
		}
	}
	for kernel := range unneeded {
		if len(missed[kernel]) == 0 {
			t.Errorf("%s needs all of its barriers", kernel)
		}
	}
	if taken < 40 {
		t.Errorf("the fast kernels have %d barriers and waits, want those of attention at least", taken)
	}
}

// without does something while a kernel's code lacks a line.
func (d *Device) without(t *testing.T, file ptx.File, kernel string, lines []string, line int, do func()) {
	t.Helper()
	if !d.enter("Load") {
		t.Fatal("the device is out of order")
	}
	before := d.functions[kernel]
	m, err := d.driver.Load([]byte(strings.Join(slices.Delete(slices.Clone(lines), line, line+1), "\n")))
	must(t, err)
	f, err := d.driver.Function(m, kernel)
	must(t, err)
	if file.DynamicShared {
		must(t, d.driver.AllowShared(f, sharedBytes))
	}
	d.functions[kernel] = f
	d.leave()
	do()
	if !d.enter("Unload") {
		t.Fatal("the device is out of order")
	}
	defer d.leave()
	d.functions[kernel] = before
	must(t, d.driver.Unload(m))
}
