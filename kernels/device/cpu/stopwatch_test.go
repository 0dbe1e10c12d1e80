package cpu

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

// stopwatch sums times under names within a round, and keeps the shortest sums of all rounds: what
// other programs on the machine add is not in them.
type stopwatch struct{ round, best map[string]time.Duration }

func newStopwatch() *stopwatch {
	return &stopwatch{map[string]time.Duration{}, map[string]time.Duration{}}
}

func (w *stopwatch) time(name string, run func()) {
	began := time.Now()
	run()
	w.round[name] += time.Since(began)
}

// endRound compares the round's sums with the shortest.
func (w *stopwatch) endRound() {
	for name, t := range w.round {
		if best, ok := w.best[name]; !ok || t < best {
			w.best[name] = t
		}
	}
	clear(w.round)
}

// report logs the shortest sums, longest first.
func (w *stopwatch) report(b *testing.B) {
	total, lines := time.Duration(0), ""
	for i, name := range slices.SortedFunc(maps.Keys(w.best), func(x, y string) int { return cmp.Compare(w.best[y], w.best[x]) }) {
		if i%3 == 0 { // the testing package cuts a benchmark's log after ten lines
			lines += "\n"
		}
		lines += fmt.Sprintf("%-16s %8.1f µs    ", name, float64(w.best[name].Nanoseconds())/1e3)
		total += w.best[name]
	}
	b.Log(lines)
	b.ReportMetric(float64(total.Microseconds()), "all-µs")
}
