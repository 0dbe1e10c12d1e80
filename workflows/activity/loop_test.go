package activity

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/testsuite"

	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// warmed returns a run after its warm start, and a control that admits groups.
func warmed(t *testing.T, admitted int) (*driver, runstate.Control) {
	t.Helper()
	d := playedTo(t, 2)
	manifest, err := d.folder().Manifest(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	return d, runstate.Control{Revision: 100, Version: 2, Weights: runstate.Ref(*manifest.Weights), Admitted: admitted}
}

func (d *driver) publish(control runstate.Control) {
	d.t.Helper()
	if err := d.folder().PublishControl(d.t.Context(), control); err != nil {
		d.t.Fatal(err)
	}
}

// receive returns the numbers of the next n groups, sorted.
func (d *driver) receive(n int) []int {
	var numbers []int
	for range n {
		numbers = append(numbers, (<-d.signals).Number)
	}
	slices.Sort(numbers)
	return numbers
}

// TestLoopReportsAgain leaves a loop running while its run is started anew on the same folder: the new
// run, which publishes a later revision, hears of the groups that wait for it.
func TestLoopReportsAgain(t *testing.T) {
	d, control := warmed(t, 3)
	d.publish(control)
	d.spec.Pools = 1
	p := d.startLoop(0)
	if diff := cmp.Diff([]int{0, 1, 2}, d.receive(3)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	control.Revision, control.Consumed, control.Admitted = 101, 1, 4
	d.publish(control)
	if diff := cmp.Diff([]int{1, 2, 3}, d.receive(3)); diff != "" {
		t.Errorf("after a later revision (-want +got):\n%s", diff)
	}
	control.Revision, control.Stopped = 102, true
	d.publish(control)
	if err := <-p.ended; err != nil {
		t.Error(err)
	}
	p.cancel()
	groups, err := d.folder().Groups(t.Context())
	if diff := cmp.Diff([]int{0, 1, 2, 3}, groups); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// TestLoopLeaves when the run has stopped, and hands over when its time is up.
func TestLoopLeaves(t *testing.T) {
	d, control := warmed(t, 3)
	d.publish(control)
	input := workflows.LoopInput{Run: runID, Pools: 1, HandOverAfter: -time.Second}
	if result, err := d.a.rolloutLoop(t.Context(), input); err != nil || result.Stopped {
		t.Errorf("handing over: %+v, %v", result, err)
	}
	control.Revision, control.Stopped = 101, true
	d.publish(control)
	if result, err := d.a.rolloutLoop(t.Context(), input); err != nil || !result.Stopped {
		t.Errorf("stopped: %+v, %v", result, err)
	}
	if len(d.signals) != 0 {
		t.Errorf("%d groups are played by loops that leave", len(d.signals))
	}
}

// TestRunIsGone ends a loop whose run takes no signals any more, and keeps trying while only the
// server is away.
func TestRunIsGone(t *testing.T) {
	d, control := warmed(t, 1)
	d.publish(control)
	input := workflows.LoopInput{Run: runID, Pools: 1, HandOverAfter: time.Hour}
	away := 0
	d.a.Signals = signaler(func(context.Context, runstate.GroupRef) error {
		if away++; away == 1 {
			return serviceerror.NewUnavailable("the server restarts")
		}
		return serviceerror.NewNotFound("no such workflow")
	})
	var gone *serviceerror.NotFound
	if _, err := d.a.rolloutLoop(t.Context(), input); !errors.As(err, &gone) || !strings.Contains(err.Error(), "group 0") || away != 2 {
		t.Errorf("after %d signals: %v", away, err)
	}
}

// TestActivitiesUnderTemporal runs the exported activities as a worker does, with heartbeats and
// attempts.
func TestActivitiesUnderTemporal(t *testing.T) {
	dir := prepared(t)
	a := fresh(dir)
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	for _, body := range []any{a.Prepare, a.TrainStep, a.Evaluate, a.RolloutLoop} {
		env.RegisterActivity(body)
	}
	config := string(resolve(t).YAML())
	value, err := env.ExecuteActivity(a.Prepare, workflows.PrepareInput{Run: runID, Config: config})
	var found workflows.PrepareResult
	if err != nil || value.Get(&found) != nil || found.Committed != 0 {
		t.Fatalf("prepare: %+v, %v", found, err)
	}
	var made workflows.TrainResult
	for step := 1; step <= 2; step++ {
		value, err = env.ExecuteActivity(a.TrainStep, workflows.TrainInput{Run: runID, Step: step, Kind: runstate.Warm, Fence: step})
		if err != nil || value.Get(&made) != nil || made.Step != step {
			t.Fatalf("train: %+v, %v", made, err)
		}
	}
	if _, err := env.ExecuteActivity(a.Evaluate, workflows.EvaluateInput{Run: runID, Version: 2, Weights: made.Weights}); err != nil {
		t.Fatalf("evaluate: %v", err)
	}
	d := newDriver(t, dir)
	d.publish(runstate.Control{Revision: 1, Stopped: true})
	if _, err := env.ExecuteActivity(a.RolloutLoop, workflows.LoopInput{Run: runID, Pools: 1, HandOverAfter: time.Hour}); err != nil {
		t.Fatalf("loop: %v", err)
	}
	value, err = env.ExecuteActivity(a.Prepare, workflows.PrepareInput{Run: runID, Config: config})
	if err != nil || value.Get(&found) != nil {
		t.Fatal(err)
	}
	want := workflows.PrepareResult{Committed: 2, Weights: made.Weights, Evaluated: []int{2}, Fence: 2, Revision: 1}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := env.ExecuteActivity(a.Prepare, workflows.PrepareInput{Run: runID, Config: "nonsense: 1"}); err == nil || !isLasting(err) {
		t.Errorf("another config: %v; want a lasting error", err)
	}
	if _, err := env.ExecuteActivity(a.TrainStep, workflows.TrainInput{Run: runID, Step: 3, Kind: "odd", Fence: 9}); !isLasting(err) || !strings.Contains(err.Error(), `"odd"`) {
		t.Errorf("an unknown kind: %v; want a lasting error", err)
	}
}
