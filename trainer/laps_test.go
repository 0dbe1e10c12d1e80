package trainer

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/kernels"
)

// TestLapsMeasureAndChangeNothing makes the same step with and without laps, for losses that are evaluated a
// micro-batch at a time and in one piece.
func TestLapsMeasureAndChangeNothing(t *testing.T) {
	for name, program := range map[string]kernels.Program{"by micro-batch": clip, "in one piece": preferred} {
		step := func(laps *Laps) (Report, string) {
			l := newLearner(t, oracle{})
			l.Laps = laps
			update := usual
			update.Program, update.MicroBatchTokens = program, 30
			l.Reference = newModel(t, 8)
			batch := paired(played(t, l, 8, 1))
			report, err := l.Step(t.Context(), batch, update)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return report, digest(t, l.Model)
		}
		var laps Laps
		measured, after := step(&laps)
		report, want := step(nil)
		if diff := cmp.Diff(report, measured); diff != "" || after != want {
			t.Errorf("%s: measuring changed the step (-without +with):\n%s", name, diff)
		}
		for lap := Pack; lap < lapCount; lap++ {
			if laps[lap] <= 0 {
				t.Errorf("%s: lap %d took no time", name, lap)
			}
		}
	}
}
