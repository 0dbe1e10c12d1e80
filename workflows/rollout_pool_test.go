package workflows

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"
)

var pool = PoolInput{Run: "a-run", Pool: 1, Pools: 2,
	Limits: Limits{StepTimeout: time.Hour, HeartbeatTimeout: 10 * time.Second, LoopTimeout: time.Hour}}

// playPool runs a pool with the given loop and returns the workflow's error.
func playPool(t *testing.T, loop func(context.Context, LoopInput) (LoopResult, error), arrange func(*testsuite.TestWorkflowEnvironment)) error {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(quiet{})
	env := suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(30 * time.Second)
	env.RegisterWorkflowWithOptions(RolloutPool, workflow.RegisterOptions{Name: RolloutPoolType})
	env.RegisterActivityWithOptions(loop, activity.RegisterOptions{Name: RolloutLoopActivity})
	if arrange != nil {
		arrange(env)
	}
	env.ExecuteWorkflow(RolloutPoolType, pool)
	if !env.IsWorkflowCompleted() {
		t.Fatal("the pool did not end")
	}
	env.AssertExpectations(t)
	return env.GetWorkflowError()
}

func TestPoolHandsOver(t *testing.T) {
	var got LoopInput
	err := playPool(t, func(_ context.Context, input LoopInput) (LoopResult, error) {
		got = input
		return LoopResult{}, nil
	}, nil)
	if want := (LoopInput{Run: "a-run", Pool: 1, Pools: 2, HandOverAfter: time.Hour / 2}); got != want {
		t.Errorf("loop: got %+v, want %+v", got, want)
	}
	var again *workflow.ContinueAsNewError
	if !errors.As(err, &again) || again.WorkflowType.Name != RolloutPoolType {
		t.Fatalf("got %v, want continue-as-new", err)
	}
	var in PoolInput
	if err := converter.GetDefaultDataConverter().FromPayloads(again.Input, &in); err != nil || in != pool {
		t.Errorf("carried along: %+v (%v), want %+v", in, err, pool)
	}
}

func TestPoolEnds(t *testing.T) {
	err := playPool(t, func(context.Context, LoopInput) (LoopResult, error) { return LoopResult{Stopped: true}, nil }, nil)
	if err != nil {
		t.Error(err)
	}
}

// TestPoolOutlivesLoops goes on after loops whose worker died.
func TestPoolOutlivesLoops(t *testing.T) {
	attempts := 0
	err := playPool(t, func(context.Context, LoopInput) (LoopResult, error) {
		if attempts++; attempts < 3 {
			return LoopResult{}, errors.New("connection refused")
		}
		return LoopResult{Stopped: true}, nil
	}, nil)
	if err != nil || attempts != 3 {
		t.Errorf("%d attempts: %v", attempts, err)
	}
}

func TestPoolTellsTheRun(t *testing.T) {
	fails := func(context.Context, LoopInput) (LoopResult, error) { return LoopResult{}, broken("no interpreter") }
	for name, answer := range map[string]error{"the run listens": nil, "the run is gone": errors.New("not found")} {
		err := playPool(t, fails, func(env *testsuite.TestWorkflowEnvironment) {
			env.OnSignalExternalWorkflow("default-test-namespace", "a-run", "", PoolFailedSignal, PoolFailure{Pool: 1, Reason: "no interpreter"}).Return(answer).Once()
		})
		var failure *temporal.ApplicationError
		if !errors.As(err, &failure) || failure.Message() != "no interpreter" {
			t.Errorf("%s: got %v, want the loop's failure", name, err)
		}
	}
}

// TestPoolCancelled is a pool that a person cancels under a live run.
func TestPoolCancelled(t *testing.T) {
	var env *testsuite.TestWorkflowEnvironment
	over := make(chan struct{})
	err := playPool(t, func(ctx context.Context, _ LoopInput) (LoopResult, error) {
		env.RegisterDelayedCallback(env.CancelWorkflow, 0)
		<-over
		return LoopResult{}, ctx.Err()
	}, func(e *testsuite.TestWorkflowEnvironment) {
		env = e
		env.OnSignalExternalWorkflow("default-test-namespace", "a-run", "", PoolFailedSignal, PoolFailure{Pool: 1, Reason: "its workflow was cancelled"}).Return(nil).Once()
	})
	close(over)
	if !temporal.IsCanceledError(err) {
		t.Errorf("got %v, want a cancellation", err)
	}
}
