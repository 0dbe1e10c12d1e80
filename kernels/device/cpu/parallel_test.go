package cpu

import (
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// borders are the parts that Parallel makes, in order.
func borders(n, minPerPart int) [][2]int {
	var mu sync.Mutex
	var parts [][2]int
	Parallel(n, minPerPart, func(lo, hi int) {
		mu.Lock()
		defer mu.Unlock()
		parts = append(parts, [2]int{lo, hi})
	})
	slices.SortFunc(parts, func(a, b [2]int) int { return a[0] - b[0] })
	return parts
}

func TestParallelPartsDependOnTheWorkAlone(t *testing.T) {
	for _, c := range []struct{ n, minPerPart, parts int }{
		{0, 1, 0}, {1, 1, 1}, {5, 10, 1}, {19, 10, 1}, {20, 10, 2}, {1000, 1, 64}, {7, 0, 7}, {-3, 1, 0},
	} {
		var want [][2]int
		for _, threads := range []int{1, 2, 7} {
			useThreads(t, threads)
			got := borders(c.n, c.minPerPart)
			if len(got) != c.parts {
				t.Fatalf("n %d minPerPart %d: got %d parts, want %d", c.n, c.minPerPart, len(got), c.parts)
			}
			next := 0
			for _, part := range got {
				if part[0] != next || part[1]-part[0] < min(c.minPerPart, c.n) {
					t.Fatalf("n %d minPerPart %d: got parts %v", c.n, c.minPerPart, got)
				}
				next = part[1]
			}
			if next != max(c.n, 0) {
				t.Fatalf("n %d minPerPart %d: parts end at %d", c.n, c.minPerPart, next)
			}
			if want == nil {
				want = got
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%d threads: got %v, want %v", threads, got, want)
			}
		}
	}
}

func TestParallelFromManyGoroutinesAndNested(t *testing.T) {
	useThreads(t, 4)
	var total atomic.Int64
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 200 {
				Parallel(40, 1, func(lo, hi int) {
					Parallel(10, 1, func(l, h int) { total.Add(int64((hi - lo) * (h - l))) })
				})
			}
		})
	}
	callers.Wait()
	if got, want := total.Load(), int64(8*200*40*10); got != want {
		t.Errorf("got %d elements, want %d", got, want)
	}
}

func TestParallelRaisesAPanicOfAPartInTheCaller(t *testing.T) {
	useThreads(t, 3)
	for range 50 {
		var others atomic.Int64
		func() {
			defer func() {
				if text, ok := recover().(string); !ok || !strings.HasPrefix(text, "part 5") {
					t.Errorf("got %q, want the panic of part 5", text)
				}
			}()
			Parallel(10, 1, func(lo, hi int) {
				if lo == 5 {
					panic("part 5")
				}
				others.Add(1)
			})
		}()
		if others.Load() != 9 {
			t.Fatalf("got %d other parts, want 9", others.Load())
		}
	}
	if shared.Load() != nil {
		t.Error("the job is still shared")
	}
}

func TestConcurrentProductsHaveTheirBits(t *testing.T) {
	useThreads(t, 3)
	g := newGemmCase(9, false, true, false, 96, 128, 200, 0)
	want := g.result()
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for range 20 {
				got := g.result()
				if !slices.Equal(got, want) {
					t.Error("a concurrent product differs")
				}
			}
		})
	}
	callers.Wait()
}

// awaitHelpers returns when those of earlier work have ended, which hold no job then.
func awaitHelpers() {
	for helpers.Load() > 0 {
		runtime.Gosched()
	}
}

func TestHeldJobIsNotTaken(t *testing.T) {
	useThreads(t, 2)
	awaitHelpers()
	held := takeJob(2)
	held.holders.Add(1) // a helper that found it published
	held.release()
	if next := takeJob(2); next == held {
		t.Error("a job that a helper holds is taken")
	} else {
		next.release()
	}
	held.holders.Add(-1)
	if next := takeJob(2); next != held {
		t.Error("a job that nobody holds any more is not taken")
	} else {
		next.release()
	}
}

func TestWithoutAFreeJobTheCallerComputesAlone(t *testing.T) {
	useThreads(t, 2)
	awaitHelpers()
	var taken []*job
	for j := takeJob(2); j != nil; j = takeJob(2) {
		taken = append(taken, j)
	}
	if len(taken) != len(jobs) {
		t.Errorf("got %d jobs, want %d", len(taken), len(jobs))
	}
	if got := borders(10, 1); len(got) != 10 {
		t.Errorf("got parts %v, want 10 of them", got)
	}
	for _, j := range taken {
		j.release()
	}
}

// TestEveryPartIsComputedOnce follows jobs one upon the other, of several sizes and callers, so that late
// helpers meet jobs that are in use again.
func TestEveryPartIsComputedOnce(t *testing.T) {
	useThreads(t, 4)
	var callers sync.WaitGroup
	for caller := range 3 {
		callers.Go(func() {
			var times [maxParts]int // each element written by its part alone
			for i := range 3000 {
				n := 2 + (i*7+caller)%(maxParts-1)
				Parallel(n, 1, func(lo, hi int) { times[lo]++ })
				for part := range times {
					if want := min(max(n-part, 0), 1); times[part] != want {
						t.Errorf("part %d of %d: computed %d times", part, n, times[part])
						return
					}
				}
				clear(times[:])
			}
		})
	}
	callers.Wait()
}

func BenchmarkParallelEmpty(b *testing.B) {
	useThreads(b, 2)
	for b.Loop() {
		Parallel(2, 1, func(lo, hi int) {})
	}
}

// TestHelpersCrossBubbles computes in a bubble of fake time while helpers from outside are about.
func TestHelpersCrossBubbles(t *testing.T) {
	useThreads(t, 3)
	for range 20 {
		Parallel(8, 1, func(lo, hi int) {})
		synctest.Test(t, func(t *testing.T) {
			var total atomic.Int64
			for range 20 {
				Parallel(8, 1, func(lo, hi int) {
					total.Add(slowSum(5000))
				})
			}
			if got, want := total.Load(), 20*8*slowSum(5000); got != want {
				t.Errorf("got %d, want %d", got, want)
			}
		})
	}
}

// slowSum is the sum of the numbers below n, the slow way.
func slowSum(n int64) (total int64) {
	for i := range n {
		total += i
	}
	return total
}
