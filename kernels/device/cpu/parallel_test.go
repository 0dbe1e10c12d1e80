package cpu

import (
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

func TestSharingWorkAllocatesNothing(t *testing.T) {
	g := newGemmCase(9, true, false, true, 96, 192, 200, 0)
	a := make([]float32, g.m*g.k)
	packed := PackB(false, g.n, g.k, g.b, g.ldb)
	large := newGemmCase(9, false, false, false, 1, 512, 2*packPart/512, 0)
	panels := &Packed{n: large.n, k: large.k, data: make([]float32, 2*packPart)}
	body := func(lo, hi int) {}
	useThreads(t, 2)
	for name, call := range map[string]func(){
		"Parallel":   func() { Parallel(10, 1, body) },
		"Gemm":       func() { g.multiply() },
		"GemmPacked": func() { GemmPacked(g.m, a, g.k, packed, g.c, g.ldc, false) },
		"packing":    func() { panels.fill(false, large.b, large.ldb) },
	} {
		if n := testing.AllocsPerRun(100, call); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
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
