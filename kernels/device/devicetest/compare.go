package devicetest

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// close compares a result with the oracle's.
func (c *check) close(what string, t device.DType, got []float32, want estimate) {
	tolerance := c.tolerance(t)
	if len(got) != len(want.value) {
		c.failf("%s: %d elements, want %d", what, len(got), len(want.value))
		return
	}
	worst, worstAt, bad := 0.0, -1, 0
	for i, g := range got {
		bound := tolerance.bound(want.terms, want.magnitude[i])
		distance := math.Abs(float64(g) - want.value[i])
		if distance <= bound {
			continue
		}
		bad++
		if share := distance / bound; !(share <= worst) { // also a NaN
			worst, worstAt = share, i
		}
	}
	if bad > 0 {
		c.failf("%s: %d of %d elements are off, worst element %d: got %v, want %v ± %.3g (%.3g times the tolerance)", what, bad, len(got), worstAt,
			got[worstAt], want.value[worstAt], tolerance.bound(want.terms, want.magnitude[worstAt]), worst)
	}
}

// equal compares bits.
func (c *check) equal(what string, got, want []float32) bool {
	if len(got) != len(want) {
		c.failf("%s: %d elements, want %d", what, len(got), len(want))
		return false
	}
	bad, first := 0, -1
	for i := range got {
		if !same(got[i], want[i]) {
			bad++
			if first < 0 {
				first = i
			}
		}
	}
	if bad > 0 {
		c.failf("%s: %d of %d elements differ, first element %d: %v (%#08x) and %v (%#08x)", what, bad, len(got), first,
			got[first], math.Float32bits(got[first]), want[first], math.Float32bits(want[first]))
	}
	return bad == 0
}

// rowwise is an operation whose results belong to rows: it computes rows [lo, hi) and returns each result,
// with the same number of elements a row. It must be safe for several goroutines.
type rowwise func(s *scene, lo, hi int) [][]float32

// independent runs an operation on all n rows and returns the results. On an exact device it also
// runs single rows, cuts, and cuts inside Each, in other layouts and on other numbers of threads, and
// wants the same bits.
func (c *check) independent(what string, n int, run rowwise) [][]float32 {
	whole := c.call(1, what, 0, n, run)
	c.repeat(what, whole, func() [][]float32 { return c.call(1, what, 0, n, run) })
	if !c.options.Exact || n == 0 {
		return whole
	}
	for i, r := range c.someRows(n) {
		c.samePart(what, fmt.Sprintf("row %d alone", r), whole, c.call(uint64(2+i), what, r, r+1, run), n, r, r+1)
	}
	for i, cut := range []int{n / 2, n - 1, min(n, 17)} {
		if cut > 0 && cut < n {
			c.samePart(what, fmt.Sprintf("rows after %d", cut), whole, c.call(uint64(50+i), what, cut, n, run), n, cut, n)
			c.samePart(what, fmt.Sprintf("rows before %d", cut), whole, c.call(uint64(60+i), what, 0, cut, run), n, 0, cut)
		}
	}
	const tasks = 3
	parts := make([][][]float32, tasks)
	c.device.Each(tasks, func(task int) {
		c.guarded(func() { parts[task] = c.call(uint64(70+task), what, task*n/tasks, (task+1)*n/tasks, run) })
	})
	for task, part := range parts {
		if lo, hi := task*n/tasks, (task+1)*n/tasks; lo < hi && part != nil {
			c.samePart(what, fmt.Sprintf("task %d of Each", task), whole, part, n, lo, hi)
		}
	}
	c.threads(what, whole, func(s *scene) [][]float32 { return run(s, 0, n) })
	return whole
}

func (c *check) call(seed uint64, what string, lo, hi int, run rowwise) [][]float32 {
	s := c.scene(seed, "%s, rows %d to %d", what, lo, hi)
	out := run(s, lo, hi)
	s.finish()
	return out
}

// samePart compares results of rows [lo, hi) with those of all n rows.
func (c *check) samePart(what, how string, whole, part [][]float32, n, lo, hi int) {
	for i := range whole {
		width := len(whole[i]) / n
		c.equal(fmt.Sprintf("%s: result %d, %s, against all rows at once", what, i, how), part[i], whole[i][lo*width:hi*width])
	}
}

// threads runs an operation on several numbers of threads and wants the same bits of all results.
func (c *check) threads(what string, want [][]float32, run func(s *scene) [][]float32) {
	if !c.options.Exact || c.options.Threads == nil {
		return
	}
	defer c.options.Threads(0)
	for _, n := range []int{1, 2, 5} {
		c.options.Threads(n)
		s := c.scene(uint64(90+n), "%s, %d threads", what, n)
		got := run(s)
		s.finish()
		for i := range want {
			c.equal(fmt.Sprintf("%s: result %d on %d threads", what, i, n), got[i], want[i])
		}
	}
}

// sums runs an operation whose results are sums over all rows and returns them. On an exact device
// their bits depend neither on the layout nor on the number of threads.
func (c *check) sums(what string, run func(s *scene) [][]float32) [][]float32 {
	s := c.scene(1, "%s", what)
	want := run(s)
	s.finish()
	c.repeat(what, want, func() [][]float32 {
		s := c.scene(1, "%s, again", what)
		defer s.finish()
		return run(s)
	})
	if c.options.Exact {
		s := c.scene(2, "%s, another layout", what)
		got := run(s)
		s.finish()
		for i := range want {
			c.equal(fmt.Sprintf("%s: result %d in another layout", what, i), got[i], want[i])
		}
	}
	c.threads(what, want, run)
	return want
}

// repeat computes the same again, in the same layout, and wants the same bits: of every device, for the first
// results of a check that are large enough to be the work of several cores.
func (c *check) repeat(what string, want [][]float32, run func() [][]float32) {
	const often, enough = 2, 64
	numbers := 0
	for _, w := range want {
		numbers += len(w)
	}
	if c.repeats >= often || numbers < enough {
		return
	}
	c.repeats++
	for i, got := range run() {
		c.equal(fmt.Sprintf("%s: result %d, computed again", what, i), got, want[i])
	}
}

// someRows are rows worth computing alone: the borders and a few others.
func (c *check) someRows(n int) []int {
	rows := []int{0}
	if n > 1 {
		rows = append(rows, n-1)
	}
	others := 4
	if c.options.Quick {
		others = 1
	}
	for range min(n-len(rows), others) {
		rows = append(rows, c.random.IntN(n))
	}
	return rows
}
