package bench

import (
	"testing"
	"time"
)

// TestTheDefaultBatchKeepsSlotsBusy compares the batch that stands for 0 with one by hand.
func TestTheDefaultBatchKeepsSlotsBusy(t *testing.T) {
	for _, test := range []struct {
		step  time.Duration
		batch int
	}{
		{0, 128},               // two waves
		{2 * time.Second, 504}, // 64 slots × 2.5 s at 0.32 s an episode are 500, in groups of 8
		{time.Hour, 1 << 15},
	} {
		real := Real{Slots: 64, GroupSize: 8, Staleness: 1, Latency: 200 * time.Millisecond, Step: test.step, Seconds: 1}
		if err := real.Check(); err != nil || real.Batch != test.batch {
			t.Errorf("a step of %s: %d trajectories, %v; by hand %d", test.step, real.Batch, err, test.batch)
		}
	}
	bad := Real{Slots: 64, GroupSize: 8, Latency: time.Second, Step: -1, Seconds: 1}
	if err := bad.Check(); err == nil {
		t.Error("a step that ends before it begins is taken")
	}
}
