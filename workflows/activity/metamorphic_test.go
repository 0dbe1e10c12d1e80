package activity

import (
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// all is a step beyond the last one.
const all = 1 << 30

// undisturbed is what a run gives that nothing happens to; every other run must give the same.
var undisturbed struct {
	once        sync.Once
	traces      []trace
	evaluations []runfolder.Evaluation
}

func reference(t *testing.T) ([]trace, []runfolder.Evaluation) {
	t.Helper()
	undisturbed.once.Do(func() {
		d := newDriver(t, prepared(t))
		complete(t, d)
		undisturbed.traces, undisturbed.evaluations = d.traces(), d.evaluations()
	})
	if undisturbed.traces == nil {
		t.Fatal("the undisturbed run failed")
	}
	return undisturbed.traces, undisturbed.evaluations
}

// complete plays a run to its end.
func complete(t *testing.T, d *driver) {
	t.Helper()
	if err := d.play(all); err != nil {
		t.Fatal(err)
	}
	if d.outcome != runstate.Completed {
		t.Fatalf("the run ended as %q: %s", d.outcome, d.reason)
	}
}

// same compares a run with the undisturbed one.
func same(t *testing.T, d *driver) {
	t.Helper()
	traces, evaluations := reference(t)
	if diff := cmp.Diff(traces, d.traces()); diff != "" {
		t.Errorf("steps differ from those of the undisturbed run (-undisturbed +this):\n%s", diff)
	}
	if diff := cmp.Diff(evaluations, d.evaluations()); diff != "" {
		t.Errorf("evaluations differ from those of the undisturbed run (-undisturbed +this):\n%s", diff)
	}
}

// TestUndisturbedRun makes sure that there is something to compare: every step moves the weights,
// samplers and learner agree to the last bit, and each committed step has its line of metrics.
func TestUndisturbedRun(t *testing.T) {
	traces, evaluations := reference(t)
	if len(traces) != 6 || len(evaluations) != 3 {
		t.Fatalf("%d manifests and %d evaluations, want 6 and 3", len(traces), len(evaluations))
	}
	for step := 1; step < len(traces); step++ {
		tr := traces[step]
		if tr.Weights == traces[step-1].Weights {
			t.Errorf("step %d does not change the weights", step)
		}
		if step > 2 && (tr.Report.OnPolicyGap != 0 || tr.Rewards.Trajectories != 9 || len(tr.Ledger) != 9 || tr.Report.Updates != 2) {
			t.Errorf("step %d: gap %g, %d trajectories, %d ledger rows, %d updates; want 0, 9, 9, 2",
				step, tr.Report.OnPolicyGap, tr.Rewards.Trajectories, len(tr.Ledger), tr.Report.Updates)
		}
	}
	if first, second := traces[1].Report.Loss, traces[2].Report.Loss; second >= first {
		t.Errorf("imitation goes from loss %g to %g", first, second)
	}
}

// TestNothingDependsOn changes what must not matter.
func TestNothingDependsOn(t *testing.T) {
	learnerAlone(t)
	for name, overrides := range map[string][]string{
		"one slot":    {"sampling.slots=1"},
		"three slots": {"sampling.slots=3"},
		"two pools":   {"sampling.pools=2"},
		"checkpoints": {"checkpoint.every=1"},
		"recompute":   {"policy.recompute=true"},
		// Room for one episode of the most tokens, so that three in flight take turns.
		"a small cache": {"sampling.slots=3", "sampling.cache_bytes=32768"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t, prepared(t, overrides...), overrides...)
			complete(t, d)
			same(t, d)
		})
	}
	for _, threads := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d threads", threads), func(t *testing.T) {
			reference(t)
			cpu.SetThreads(threads)
			t.Cleanup(func() { cpu.SetThreads(0) })
			d := newDriver(t, prepared(t))
			complete(t, d)
			same(t, d)
		})
	}
}

// TestCutsReachTheSampler cuts all but the likeliest token, which makes the members of a group equal.
func TestCutsReachTheSampler(t *testing.T) {
	learnerAlone(t)
	for name, override := range map[string]string{"top_k": "sampling.top_k=1", "top_p": "sampling.top_p=1e-6", "min_p": "sampling.min_p=1"} {
		t.Run(name, func(t *testing.T) {
			overrides := []string{override, "training.steps=1"}
			d := newDriver(t, prepared(t, overrides...), overrides...)
			complete(t, d)
			manifest, err := d.folder().Manifest(t.Context(), 3)
			if err != nil {
				t.Fatal(err)
			}
			for _, ref := range manifest.Batch {
				data, err := d.folder().Get(t.Context(), blob.Ref(ref.Object))
				if err != nil {
					t.Fatal(err)
				}
				group, err := record.DecodeSegment(data)
				if err != nil {
					t.Fatal(err)
				}
				for _, trajectory := range group.Trajectories[1:] {
					if diff := cmp.Diff(group.Trajectories[0].Tokens, trajectory.Tokens); diff != "" {
						t.Errorf("members of group %s differ:\n%s", group.ID, diff)
					}
				}
			}
		})
	}
}

// TestRateFallsToZero ends the schedule at a rate of 0, which is a step like any other.
func TestRateFallsToZero(t *testing.T) {
	learnerAlone(t)
	overrides := []string{"training.learning_rate_end=0"}
	d := newDriver(t, prepared(t, overrides...), overrides...)
	complete(t, d)
	if traces := d.traces(); traces[4].Weights != traces[5].Weights || traces[3].Weights == traces[4].Weights {
		t.Errorf("weights %s, %s, %s: want the last step, and only it, to change nothing", traces[3].Weights, traces[4].Weights, traces[5].Weights)
	}
}

// TestLearnerIsThrownAway loses the learner before steps; it comes back by redo, from checkpoints
// every three steps.
func TestLearnerIsThrownAway(t *testing.T) {
	learnerAlone(t)
	for name, lost := range map[string]func(step int) bool{
		"every step":       func(int) bool { return true },
		"every other step": func(step int) bool { return step%2 == 0 },
		"the last step":    func(step int) bool { return step == 5 },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t, prepared(t))
			d.beforeStep = func(step int) {
				if lost(step) {
					d.restart()
				}
			}
			complete(t, d)
			same(t, d)
		})
	}
}

// TestLoopIsWithdrawn cancels the rollout loop after some groups, while others are being played.
func TestLoopIsWithdrawn(t *testing.T) {
	for _, after := range [][]int{{0}, {1, 4}, {0, 1, 2, 3, 4, 5, 6, 7, 8}} {
		t.Run(fmt.Sprint("after ", after), func(t *testing.T) {
			if testing.Short() && len(after) != 2 {
				t.Skip("one run is enough to look for races in")
			}
			overrides := []string{"sampling.pools=2"}
			d := newDriver(t, prepared(t, overrides...), overrides...)
			left := map[int]bool{}
			for _, number := range after {
				left[number] = true
			}
			d.onGroup = func(number int) {
				if left[number] {
					delete(left, number) // a group is reported again by the next loop
					d.cancelLoop(number % 2)
				}
			}
			complete(t, d)
			same(t, d)
		})
	}
}

// TestRunStartsAgain loses everything but the folder at every step: a new workflow prepares the
// folder and goes on.
func TestRunStartsAgain(t *testing.T) {
	learnerAlone(t)
	dir := prepared(t)
	for until := 1; until <= 4; until++ {
		d := newDriver(t, dir)
		if err := d.play(until); err != nil {
			t.Fatal(err)
		}
	}
	d := newDriver(t, dir)
	complete(t, d)
	traces, _ := reference(t)
	if diff := cmp.Diff(traces, d.traces()); diff != "" {
		t.Errorf("steps differ from those of the undisturbed run (-undisturbed +this):\n%s", diff)
	}
	again := newDriver(t, dir)
	complete(t, again)
	if diff := cmp.Diff(traces, again.traces()); diff != "" {
		t.Errorf("a finished run changes when it is started again (-before +after):\n%s", diff)
	}
}

var errInjected = errors.New("injected: no space left on device")

// TestEveryOperationFailsOnce lets each operation on each object fail the first time, half of the
// creations only after they took effect, and loses the process at each failure. That passes through
// every point at which a process can die between two effects.
func TestEveryOperationFailsOnce(t *testing.T) {
	learnerAlone(t)
	for _, parity := range []uint32{0, 1} {
		t.Run(fmt.Sprint("parity ", parity), func(t *testing.T) {
			var mu sync.Mutex
			failed := map[string]bool{}
			d := newDriver(t, prepared(t))
			d.faults = func(op, key string) error {
				mu.Lock()
				defer mu.Unlock()
				if failed[op+key] {
					return nil
				}
				failed[op+key] = true
				hash := fnv.New32a()
				hash.Write([]byte(key))
				if op == "put" && hash.Sum32()%2 == parity {
					return blob.Lost(errInjected)
				}
				return errInjected
			}
			d.retry = func(err error) bool { return errors.Is(err, errInjected) }
			d.restart()
			complete(t, d)
			d.faults = nil
			same(t, d)
			if len(failed) < 60 {
				t.Errorf("only %d operations failed: %v", len(failed), failed)
			}
			lines, err := d.folder().Metrics(t.Context())
			if err != nil || len(lines) != 5 {
				t.Errorf("%d lines of metrics, %v; want 5", len(lines), err)
			}
		})
	}
}
