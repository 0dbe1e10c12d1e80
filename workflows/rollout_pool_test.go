package workflows

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/internal/lease"
)

var pool = PoolInput{Run: "a-run", Pool: 1, Limits: someLimits, Request: someNeeds.Request("a-run", "a-run/pool/1", lease.Rollout)}

// loops is a pool with a script of how its loops end, and what the run hears of them.
type loops struct {
	*testsuite.TestWorkflowEnvironment
	played int
	heard  []PoolNews
	waits  []time.Duration
	gone   bool // the run takes no signals
	*someDevices
}

// playPool runs a pool whose loops end as the script says, the last line of it again and again.
func playPool(t *testing.T, in PoolInput, script ...func(l *loops, ctx context.Context, input LoopInput) (LoopResult, error)) (*loops, error) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(quiet{})
	l := &loops{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment()}
	l.SetTestTimeout(30 * time.Second)
	l.RegisterWorkflowWithOptions(RolloutPool, workflow.RegisterOptions{Name: RolloutPoolType})
	l.RegisterActivityWithOptions(func(ctx context.Context, input LoopInput) (LoopResult, error) {
		line := script[min(l.played, len(script)-1)]
		l.played++
		return line(l, ctx, input)
	}, activity.RegisterOptions{Name: RolloutLoopActivity})
	l.SetOnTimerScheduledListener(func(_ string, d time.Duration) {
		if d != renewEvery && d != tellEvery {
			l.waits = append(l.waits, d)
		}
	})
	l.OnSignalExternalWorkflow(anything, "a-run", "", PoolSignal, anything).Return(func(_, _, _, _ string, message any) error {
		l.heard = append(l.heard, message.(PoolNews))
		if l.gone {
			return &temporal.UnknownExternalWorkflowExecutionError{}
		}
		return nil
	}).Maybe()
	l.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: in.Request.Holder, TaskQueue: ControlQueue})
	l.someDevices = answerForDevices(l.TestWorkflowEnvironment, in.Request.Holder)
	l.ExecuteWorkflow(RolloutPoolType, in)
	if !l.IsWorkflowCompleted() {
		t.Fatal("the pool did not end")
	}
	return l, l.GetWorkflowError()
}

func stops(*loops, context.Context, LoopInput) (LoopResult, error) {
	return LoopResult{Stopped: true}, nil
}

func leaves(*loops, context.Context, LoopInput) (LoopResult, error) {
	return LoopResult{Tenure: 7, Reason: "it hands over"}, nil
}

func breaks(*loops, context.Context, LoopInput) (LoopResult, error) {
	return LoopResult{}, errors.New("connection refused")
}

func vanishes(*loops, context.Context, LoopInput) (LoopResult, error) {
	return LoopResult{}, temporal.NewTimeoutError(enums.TIMEOUT_TYPE_HEARTBEAT, nil, LoopProgress{Tenure: 5, Worker: "b@2"})
}

func isFree(*loops, context.Context, LoopInput) (LoopResult, error) {
	return LoopResult{}, temporal.NewTimeoutError(enums.TIMEOUT_TYPE_SCHEDULE_TO_START, nil)
}

// TestPoolHandsOver goes on at once after a loop that left, and says whose groups are free.
func TestPoolHandsOver(t *testing.T) {
	var got LoopInput
	l, err := playPool(t, pool, leaves, vanishes, func(_ *loops, _ context.Context, input LoopInput) (LoopResult, error) {
		got = input
		return LoopResult{Stopped: true}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := (LoopInput{Run: "a-run", Pool: 1, HandOverAfter: time.Hour / 2, Lease: Under{Fence: 1, Agent: someAgent, Devices: []string{"CPU-a"}}}); !reflect.DeepEqual(got, want) {
		t.Errorf("loop: got %+v, want %+v", got, want)
	}
	same(t, "news", l.heard, []PoolNews{
		{Pool: 1, State: PoolLost, Tenure: 7, Reason: "it hands over"},
		{Pool: 1, State: PoolLost, Tenure: 5, Worker: "b@2", Reason: "its worker stopped heartbeating"},
	})
	same(t, "waits", l.waits, nil)
}

// TestPoolNobodyTakes gives the lease back whose agent does not take the loop, and asks for another one.
func TestPoolNobodyTakes(t *testing.T) {
	l, err := playPool(t, pool, isFree, stops)
	if err != nil {
		t.Fatal(err)
	}
	want := "agent host-a did not take the work within 1m0s"
	if len(l.heard) != 1 || l.heard[0].Reason != want || l.heard[0].State != PoolLost {
		t.Errorf("news %+v, want %q", l.heard, want)
	}
	holder := pool.Request.Holder
	same(t, "given back", l.gives(), []lease.Released{{Holder: holder, Fence: 1}, {Holder: holder}})
	same(t, "asked", l.asks(), []string{"rollout " + holder, "rollout " + holder})
}

// TestPoolBacksOff waits longer and longer while loops fail, carries the count to its next history, and
// forgets it with a loop that left in peace.
func TestPoolBacksOff(t *testing.T) {
	l, err := playPool(t, pool, breaks)
	in := nextPool(t, err)
	if l.played != poolRounds || in.Failures != poolRounds {
		t.Errorf("%d loops, carried along %+v", l.played, in)
	}
	second := time.Second
	same(t, "waits", l.waits[:6], []time.Duration{second, 2 * second, 4 * second, 8 * second, 15 * second, 15 * second})
	if l.heard[0] != (PoolNews{Pool: 1, State: PoolLost, Reason: "connection refused"}) {
		t.Errorf("news %+v", l.heard[0])
	}
	l, err = playPool(t, in, breaks, leaves, breaks, stops)
	if err != nil {
		t.Error(err)
	}
	same(t, "waits", l.waits, []time.Duration{15 * second, second})
}

func nextPool(t *testing.T, err error) PoolInput {
	t.Helper()
	var again *workflow.ContinueAsNewError
	if !errors.As(err, &again) || again.WorkflowType.Name != RolloutPoolType {
		t.Fatalf("got %v, want continue-as-new", err)
	}
	var in PoolInput
	if err := converter.GetDefaultDataConverter().FromPayloads(again.Input, &in); err != nil {
		t.Fatal(err)
	}
	return in
}

// TestPoolRunGone ends a pool whose run is gone: there is nobody to play for.
func TestPoolRunGone(t *testing.T) {
	for name, end := range map[string]func(*loops, context.Context, LoopInput) (LoopResult, error){"left": leaves, "broke": breaks, "vanished": vanishes, "free": isFree} {
		l, err := playPool(t, pool, func(l *loops, ctx context.Context, input LoopInput) (LoopResult, error) {
			l.gone = true
			return end(l, ctx, input)
		})
		if err != nil || l.played != 1 {
			t.Errorf("%s: %d loops: %v", name, l.played, err)
		}
	}
	if l, err := playPool(t, pool, stops); err != nil || len(l.heard) != 0 {
		t.Errorf("the loop says so: %v, told %+v", err, l.heard)
	}
}

// TestPoolFails tells the run when no loop can ever succeed.
func TestPoolFails(t *testing.T) {
	for _, gone := range []bool{false, true} {
		l, err := playPool(t, pool, func(l *loops, _ context.Context, _ LoopInput) (LoopResult, error) {
			l.gone = gone
			return LoopResult{}, broken("no interpreter")
		})
		var failure *temporal.ApplicationError
		if !errors.As(err, &failure) || failure.Message() != "no interpreter" {
			t.Errorf("run gone %v: got %v, want the loop's failure", gone, err)
		}
		same(t, "news", l.heard, []PoolNews{{Pool: 1, State: PoolFailed, Reason: "no interpreter"}})
	}
}

// TestPoolTenureOfFailure takes the tenure that a failed loop gives with its error.
func TestPoolTenureOfFailure(t *testing.T) {
	l, err := playPool(t, pool, func(*loops, context.Context, LoopInput) (LoopResult, error) {
		return LoopResult{}, temporal.NewApplicationErrorWithCause("no space left", "", nil, LoopProgress{Tenure: 3, Worker: "a@1"})
	}, stops)
	if err != nil || len(l.heard) != 1 || l.heard[0].Tenure != 3 || l.heard[0].Worker != "a@1" {
		t.Errorf("news %+v: %v", l.heard, err)
	}
}

// TestPoolCancelled is a pool that a person cancels under a live run.
func TestPoolCancelled(t *testing.T) {
	l, err := playPool(t, pool, func(l *loops, ctx context.Context, _ LoopInput) (LoopResult, error) {
		l.RegisterDelayedCallback(l.CancelWorkflow, 0)
		for ctx.Err() == nil {
			activity.RecordHeartbeat(ctx)
			time.Sleep(time.Millisecond)
		}
		return LoopResult{}, ctx.Err()
	})
	if !temporal.IsCanceledError(err) {
		t.Errorf("got %v, want a cancellation", err)
	}
	same(t, "news", l.heard, []PoolNews{{Pool: 1, State: PoolFailed, Reason: "its workflow was cancelled"}})
}

func TestBackoff(t *testing.T) {
	var got []string
	for _, failures := range []int{0, 1, 2, 3, 4, 5, 6, 100} {
		got = append(got, fmt.Sprint(backoff(failures)))
	}
	if want := "0s 1s 2s 4s 8s 15s 15s 15s"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}
