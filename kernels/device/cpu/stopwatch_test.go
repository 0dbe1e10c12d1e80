package cpu

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

// stopwatch keeps the shortest time of every call of a round under the name of its operation: what other
// programs on the machine add is hardly in it.
type stopwatch struct {
	calls map[string]int // in this round
	best  map[string][]time.Duration
}

func newStopwatch() *stopwatch {
	return &stopwatch{map[string]int{}, map[string][]time.Duration{}}
}

func (w *stopwatch) time(name string, run func()) {
	began := time.Now()
	run()
	t := time.Since(began)
	call := w.calls[name]
	w.calls[name]++
	if best := w.best[name]; call == len(best) {
		w.best[name] = append(best, t)
	} else {
		best[call] = min(best[call], t)
	}
}

// endRound begins with the first calls again.
func (w *stopwatch) endRound() { clear(w.calls) }

// report logs the sums of a round's shortest times, longest first.
func (w *stopwatch) report(b *testing.B) {
	sums, total, lines := map[string]time.Duration{}, time.Duration(0), ""
	for name, calls := range w.best {
		for _, t := range calls {
			sums[name] += t
			total += t
		}
	}
	for i, name := range slices.SortedFunc(maps.Keys(sums), func(x, y string) int { return cmp.Compare(sums[y], sums[x]) }) {
		if i%3 == 0 { // the testing package cuts a benchmark's log after ten lines
			lines += "\n"
		}
		lines += fmt.Sprintf("%-16s %8.1f µs    ", name, float64(sums[name].Nanoseconds())/1e3)
	}
	b.Log(lines)
	b.ReportMetric(float64(total.Microseconds()), "all-µs")
}
