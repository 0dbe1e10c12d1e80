package activity

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.temporal.io/sdk/testsuite"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// TestActivitiesUnderTemporal runs the exported activities as a worker does, with heartbeats and
// attempts.
func TestActivitiesUnderTemporal(t *testing.T) {
	dir := prepared(t)
	a := fresh(dir)
	a.Signals = signaler(func(context.Context, any) error { return nil })
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
		value, err = env.ExecuteActivity(a.TrainStep, workflows.TrainInput{Run: runID, Step: step, Kind: runstate.Warm, Checkpoint: step == 2, Fence: found.Fence + step})
		if err != nil || value.Get(&made) != nil || made.Step != step {
			t.Fatalf("train: %+v, %v", made, err)
		}
	}
	if _, err := env.ExecuteActivity(a.Evaluate, workflows.EvaluateInput{Run: runID, Version: 2, Weights: made.Weights}); err != nil {
		t.Fatalf("evaluate: %v", err)
	}
	s := newStand(t, dir)
	s.publish(func(c *runstate.Control) { c.Stopped = true })
	var left workflows.LoopResult
	value, err = env.ExecuteActivity(a.RolloutLoop, workflows.LoopInput{Run: runID, HandOverAfter: time.Hour})
	if want := (workflows.LoopResult{Tenure: 1, Stopped: true, Reason: "the run has ended"}); err != nil || value.Get(&left) != nil || left != want {
		t.Fatalf("loop: %+v, %v; want %+v", left, err, want)
	}
	value, err = env.ExecuteActivity(a.Prepare, workflows.PrepareInput{Run: runID, Config: config})
	if err != nil || value.Get(&found) != nil {
		t.Fatal(err)
	}
	again := found.Fence
	found.Fence, found.Spec = 0, nil
	want := workflows.PrepareResult{Committed: 2, Weights: made.Weights, Evaluated: []int{2}, Revision: 1}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := env.ExecuteActivity(a.Prepare, workflows.PrepareInput{Run: runID, Config: "nonsense: 1"}); err == nil || !isLasting(err) {
		t.Errorf("another config: %v; want a lasting error", err)
	}
	if _, err := env.ExecuteActivity(a.TrainStep, workflows.TrainInput{Run: runID, Step: 3, Kind: "odd", Fence: again + 1}); !isLasting(err) || !strings.Contains(err.Error(), `"odd"`) {
		t.Errorf("an unknown kind: %v; want a lasting error", err)
	}
}

// TestEvaluationPlaysFailuresAgain breaks tools of held-out episodes: one that fails is played again and
// comes out the same, and an evaluation whose episodes keep failing has no result.
func TestEvaluationPlaysFailuresAgain(t *testing.T) {
	evaluate := func(failures int64) ([]any, int64, error) {
		s := newStand(t, prepared(t, "evaluation.tasks=4"))
		var failed atomic.Int64
		s.a.Intercept = func(_ context.Context, call rollout.Call) error {
			if failed.Load() < failures {
				failed.Add(1)
				return errors.New("the tool broke")
			}
			return nil
		}
		err := s.a.evaluate(t.Context(), workflows.EvaluateInput{Run: runID, Version: 2})
		evaluation, missing := s.folder().Evaluation(t.Context(), 2)
		if missing == nil {
			evaluation.Finished, evaluation.Seconds = time.Time{}, 0
		}
		return []any{evaluation, missing == nil}, failed.Load(), err
	}
	want, _, err := evaluate(0)
	if err != nil || want[1] != true {
		t.Fatal(want, err)
	}
	got, failed, err := evaluate(2)
	if diff := cmp.Diff(want, got); err != nil || diff != "" || failed != 2 {
		t.Errorf("%v after %d failures (-without failures +with):\n%s", err, failed, diff)
	}
	got, _, err = evaluate(1 << 40)
	var failure *rollout.Failure
	if !errors.As(err, &failure) || failure.Kind != rollout.FailedTool || got[1] != false || isLasting(classify(err)) {
		t.Errorf("with tools that stay broken: recorded %v, %v", got[1], err)
	}
}

// TestEvaluationOfAStoppedRun is under way when the run ends: it ends too, without a record and without an error. Word
// of an end before it began is of an earlier life of the run.
func TestEvaluationOfAStoppedRun(t *testing.T) {
	for _, during := range []bool{true, false} {
		s := newStand(t, prepared(t))
		s.publish(func(c *runstate.Control) { c.Stopped = true })
		if during {
			s.engine.before = func(ctx context.Context, _ string, _ int) error {
				s.mu.Lock()
				defer s.mu.Unlock()
				if ctx.Err() == nil {
					s.publish(func(*runstate.Control) {})
					<-ctx.Done()
				}
				return ctx.Err()
			}
		}
		var suite testsuite.WorkflowTestSuite
		env := suite.NewTestActivityEnvironment()
		env.RegisterActivity(s.a.Evaluate)
		if _, err := env.ExecuteActivity(s.a.Evaluate, workflows.EvaluateInput{Run: runID, Version: 2}); err != nil {
			t.Errorf("stopped during the evaluation %v: %v", during, err)
		}
		if _, err := s.folder().Evaluation(t.Context(), 2); during != errors.Is(err, blob.ErrNotFound) {
			t.Errorf("stopped during the evaluation %v: %v", during, err)
		}
	}
}
