package cpu

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
)

// steadyAllocations is how often a few calls allocate once they have reached their steady state, on all the
// cores there are. Scratch grows while calls are new to it, and how many are at work at a time is up to the
// scheduler, so the calls get some rounds to come to rest in; what every call allocates is in every round.
func steadyAllocations(call func()) (least uint64) {
	const rounds, calls = 20, 5
	call()
	var before, after runtime.MemStats
	for round := range rounds {
		runtime.ReadMemStats(&before)
		for range calls {
			call()
		}
		runtime.ReadMemStats(&after)
		if n := after.Mallocs - before.Mallocs; round == 0 || n < least {
			least = n
		}
		if least == 0 {
			break
		}
	}
	return least
}

// countAllocations prepares a test for steadyAllocations, and skips it where counting means nothing.
func countAllocations(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	percent := debug.SetGCPercent(-1) // a collection empties sync.Pool
	t.Cleanup(func() { debug.SetGCPercent(percent) })
	// A processor keeps up to 64 ended goroutines, for the next ones, before it lets others have them.
	var together, ended sync.WaitGroup
	n := 128 * runtime.GOMAXPROCS(0)
	together.Add(n)
	for range n {
		ended.Go(func() {
			together.Done()
			together.Wait()
		})
	}
	ended.Wait()
}

// TestOperationsAllocateNothing counts on one thread; on several that are free; on a core of several that are all
// busy, as in a task of Each; and where cores are free again while the last tasks of Each run.
func TestOperationsAllocateNothing(t *testing.T) {
	countAllocations(t)
	onEveryISA(t, func(t *testing.T) {
		b := newBench(t)
		operations := b.operations()
		operations["Each"] = operation{call: func() { b.d.Each(8, func(int) {}) }}
		count := func(where string) {
			t.Helper()
			for name, o := range operations {
				var before [][]float32
				for _, w := range o.writes {
					before = append(before, b.values(w))
				}
				if n := steadyAllocations(o.call); n != 0 {
					t.Errorf("%s allocates %v times %s", name, n, where)
				}
				for i, w := range o.writes { // what many calls add up to would overflow in the end
					b.d.Upload(w, before[i])
				}
			}
		}
		for _, threads := range []int{1, 2, 4} {
			useThreads(t, threads)
			count(fmt.Sprintf("on %d threads", threads))
		}
		useThreads(t, 2)
		shared.Store(new(job)) // which has no parts left to claim
		defer shared.Store(nil)
		count("in a task")
		shared.Store(nil)
		each := takeJob(8)
		defer each.release()
		count("in a last task")
	})
}

func TestSharingWorkAllocatesNothing(t *testing.T) {
	countAllocations(t)
	g := newGemmCase(9, true, false, true, 96, 192, 200, 0)
	a := make([]float32, g.m*g.k)
	packed := PackB(false, g.n, g.k, g.b, g.ldb)
	large := newGemmCase(9, false, false, false, 1, 512, 2*packPart/512, 0)
	panels := &Packed{n: large.n, k: large.k, data: make([]float32, 2*packPart)}
	body := func(lo, hi int) {}
	nested := func(lo, hi int) { Parallel(10, 1, body) }
	for _, threads := range []int{2, 4} {
		useThreads(t, threads)
		for name, call := range map[string]func(){
			"Parallel":   func() { Parallel(10, 1, body) },
			"nested":     func() { Parallel(10, 1, nested) },
			"Gemm":       func() { g.multiply() },
			"GemmPacked": func() { GemmPacked(g.m, a, g.k, packed, g.c, g.ldc, false) },
			"packing":    func() { panels.fill(false, large.b, large.ldb) },
		} {
			if n := steadyAllocations(call); n != 0 {
				t.Errorf("%s allocates %v times on %d threads", name, n, threads)
			}
		}
	}
}
