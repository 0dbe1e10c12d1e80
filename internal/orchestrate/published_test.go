package orchestrate

import (
	"fmt"
	"math"
	"testing"
)

// TestSanityTable holds the simulation to the results of an independent model of the same situation: 64
// slots, batches of 128 trajectories with a median of 60 s, 80 steps, 2 s of publication. That model
// knows no groups, and bounds staleness at admission alone, so it never drops what has become too old:
// that is where the two differ most, by 7 % with p99/p50 = 10, no contention and 3 % of the groups dropped.
// It truncates "at the maximum length" and does not say where; the two agree where that is the 99th
// percentile.
func TestSanityTable(t *testing.T) {
	const tolerance = 0.08
	for _, test := range []struct {
		ratio, train float64
		speedup      [3]float64 // of staleness 2 over the barrier, at contention 0, 1 and 3
		occupancy    float64    // of the synchronous run at contention 1
	}{
		{1.5, 30, [3]float64{1.56, 1.28, 1.14}, 0.75},
		{1.5, 120, [3]float64{2.26, 1.64, 1.32}, 0.58},
		{5, 30, [3]float64{2.45, 1.72, 1.36}, 0.53},
		{5, 120, [3]float64{3.03, 2.02, 1.51}, 0.45},
		{10, 30, [3]float64{3.42, 2.21, 1.61}, 0.39},
		{10, 120, [3]float64{3.88, 2.45, 1.73}, 0.35},
	} {
		for i, contention := range []float64{0, 1, 3} {
			t.Run(fmt.Sprintf("ratio %g, train %g, contention %g", test.ratio, test.train, contention), func(t *testing.T) {
				c := Config{
					Preset: Preset{Name: "table", MinTurns: 1, MaxTurns: 1, Train: test.train,
						Decode: Latency{P50: 60, P99: 60 * test.ratio, Cap: 60 * test.ratio}},
					Slots: 64, Pools: 1, Steps: 80, Batch: 128, GroupSize: 1, Contention: contention, Sync: 2, Seed: 1,
				}
				barrier := simulate(t, c)
				speedup := func(staleness int) float64 {
					c.Staleness = staleness
					return barrier.StepSeconds / simulate(t, c).StepSeconds
				}
				two := speedup(2)
				if math.Abs(two/test.speedup[i]-1) > tolerance {
					t.Errorf("speed-up %.3f, the table says %.2f", two, test.speedup[i])
				}
				t.Logf("speed-up %.2f, the table says %.2f; occupancy of the barrier %.2f", two, test.speedup[i], barrier.Occupancy)
				if contention != 1 {
					return
				}
				if math.Abs(barrier.Occupancy-test.occupancy) > 0.02 {
					t.Errorf("occupancy of the synchronous run %.3f, the table says %.2f", barrier.Occupancy, test.occupancy)
				}
				if one := speedup(1); one < 0.85*two {
					t.Errorf("one step off gains %.3f of %.3f: the table's model finds 14 %% between them at most", one, two)
				}
			})
		}
	}
}
