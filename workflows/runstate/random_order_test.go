package runstate

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// playRandomly lets the groups in play end in any order, some of them very late, and checks every batch.
// It returns how many groups were dropped.
func playRandomly(t *testing.T, seed uint64, staleness int) int {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, uint64(staleness)))
	spec := Spec{TrainSteps: 40, GroupsPerStep: 3, GroupSize: 1, Staleness: staleness, Pools: 2, Slots: 4, CheckpointEvery: 10,
		Failures: Failures{MaxShare: 1, Window: 8}, StepTimeout: time.Hour, StallAfter: time.Hour}
	m := New(spec)
	now := time.Unix(0, 0)
	var control Control
	var training *TrainStep
	began := map[int]int{} // version a group in play began with
	trained, drops := map[int]bool{}, 0
	take := func(event Event) {
		now = now.Add(time.Second)
		for _, command := range m.Step(now, event) {
			switch c := command.(type) {
			case PublishControl:
				control = c.Control
				for _, share := range control.Shares {
					for _, a := range share.Groups {
						if _, known := began[a.Group]; !known {
							began[a.Group] = control.Version
						}
					}
				}
			case TrainStep:
				training = &c
				drops += len(c.Dropped)
				for _, g := range c.Batch {
					if behind := c.Step - 1 - g.Oldest; behind > staleness || trained[g.Number] {
						t.Fatalf("seed %d: step %d trains group %d, %d versions behind with %d allowed, trained before: %v", seed, c.Step, g.Number, behind, staleness, trained[g.Number])
					}
					trained[g.Number] = true
				}
			}
		}
	}
	take(Prepared{})
	take(LeaseGranted{Lease: someLease(1, "CPU-a")})
	take(Evaluated{Version: 0})
	take(PoolServing{Pool: 0, Tenure: 1})
	take(PoolServing{Pool: 1, Tenure: 2})
	for m.State().Committed < spec.LastStep() {
		var playing []int
		for _, share := range control.Shares {
			for _, a := range share.Groups {
				playing = append(playing, a.Group)
			}
		}
		slices.Sort(playing)
		if training != nil && (len(playing) == 0 || random.IntN(4) == 0) {
			step := training.Step
			training = nil
			take(StepCommitted{Step: step, Weights: weights(step)})
			continue
		}
		if len(playing) == 0 {
			t.Fatalf("seed %d, staleness %d: nothing to do at step %d: %+v", seed, staleness, m.State().Committed, m.State())
		}
		pick := len(playing) - 1 - min(random.IntN(len(playing)), random.IntN(len(playing))) // the newest tend to end first
		take(GroupReady{Group: group(playing[pick], began[playing[pick]], control.Version)})
	}
	if want := spec.TrainSteps * spec.GroupsPerStep; len(trained) != want {
		t.Fatalf("seed %d: %d groups trained, want %d", seed, len(trained), want)
	}
	return drops
}
