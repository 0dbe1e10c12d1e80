package workflows

import (
	"errors"
	"fmt"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/internal/lease"
)

const (
	// poolRounds is how many loops a pool has in one history.
	poolRounds = 20
	// pickUp is how long work may wait for the agent of its lease before the lease is given back.
	pickUp = time.Minute
	// mostFailures is how many loops may fail one after another before another device is asked for.
	mostFailures = 3
	// firstBackoff is waited after a loop that failed, twice as long after the next one, and so on to
	// lastBackoff. A loop that lasted longer than lastBackoff begins the count anew.
	firstBackoff, lastBackoff = time.Second, 15 * time.Second
)

// RolloutPool keeps one rollout loop alive, under a lease of the device pool, until the run has ended. The
// loop is one long activity that keeps many episodes in flight: rollouts are never activities of their
// own, so their number does not matter to the history.
//
// A loop is tried once. So the pool sees each end, tells the run, which gives the groups of a lost
// loop to other pools, and schedules the next one, where its lease says.
func RolloutPool(ctx workflow.Context, input PoolInput) error {
	devices := newHolder(ctx, input.Request, input.Lease)
	err := playLoops(ctx, &input, devices)
	if errors.Is(err, errFull) {
		input.Lease, input.Request.Above = devices.settle(ctx)
		return workflow.NewContinueAsNewError(ctx, RolloutPoolType, input)
	}
	devices.leave(ctx)
	return err
}

// playLoops carries loops out one after another. It returns errFull when a fresh history has to go on.
func playLoops(ctx workflow.Context, input *PoolInput, devices *holder) error {
	for range poolRounds {
		end, err := playLoop(ctx, *input, devices)
		switch {
		case ctx.Err() != nil:
			ctx, _ = workflow.NewDisconnectedContext(ctx)
			tell(ctx, input.Run, PoolSignal, PoolNews{Pool: input.Pool, State: PoolFailed, Reason: "its workflow was cancelled"})
			return err
		case errors.Is(err, errFull):
			return err
		case end.stopped:
			return nil
		}
		input.Failures = end.failures
		if gone := tell(ctx, input.Run, PoolSignal, end.news); gone || end.news.State == PoolFailed {
			return end.lasting(err)
		}
		if wait := backoff(end.failures); wait > 0 {
			if err := workflow.Sleep(ctx, wait); err != nil {
				continue // the next loop is cancelled before it starts
			}
		}
	}
	return errFull
}

// loopEnd is what the end of a loop means.
type loopEnd struct {
	news     PoolNews
	stopped  bool // the run has ended
	failures int  // loops that failed one after another
}

// lasting is what a pool that tells of its end returns: an error that lasts, or nothing when the run is
// gone.
func (e loopEnd) lasting(err error) error {
	if e.news.State == PoolFailed {
		return err
	}
	return nil
}

// playLoop carries one loop to its end, when there is a device for it.
func playLoop(ctx workflow.Context, input PoolInput, devices *holder) (loopEnd, error) {
	end := loopEnd{news: PoolNews{Pool: input.Pool, State: PoolLost}}
	err := devices.acquire(ctx, func(reason string) bool {
		return tell(ctx, input.Run, PoolSignal, PoolNews{Pool: input.Pool, State: PoolLost, Reason: "it waits for a device: " + reason})
	})
	if errors.Is(err, errRunGone) {
		end.stopped = true
		return end, nil
	} else if err != nil {
		return end, err
	}
	began, held := workflow.Now(ctx), *devices.lease
	var result LoopResult
	taken, err := devices.work(ctx, &result, func(ctx workflow.Context) workflow.Future { return startLoop(ctx, input, held) })
	lasted := workflow.Now(ctx).Sub(began)
	var timeout *temporal.TimeoutError
	switch {
	case err == nil && taken == "":
		end.stopped, end.news.Tenure, end.news.Reason = result.Stopped, result.Tenure, result.Reason
	case taken != "":
		end.news.Reason = fmt.Sprintf("it has lost its device on %s: %s", held.Host, taken)
	case errors.As(err, &timeout):
		end.timedOut(timeout, input, held)
	default:
		end.failed(err, input, lasted)
	}
	if devices.yield != "" || notPickedUp(err) || end.failures >= mostFailures {
		devices.give()
	}
	return end, err
}

func startLoop(ctx workflow.Context, input PoolInput, held lease.Lease) workflow.Future {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              AgentQueue(lease.Rollout, held.Agent),
		ScheduleToStartTimeout: pickUp,
		StartToCloseTimeout:    input.Limits.LoopTimeout,
		HeartbeatTimeout:       input.Limits.HeartbeatTimeout,
		RetryPolicy:            &temporal.RetryPolicy{MaximumAttempts: 1},
		WaitForCancellation:    true,
		Summary:                "rollout loop",
	})
	return workflow.ExecuteActivity(ctx, RolloutLoopActivity, LoopInput{
		Run: input.Run, Pool: input.Pool, HandOverAfter: input.Limits.LoopTimeout / 2, Lease: under(held),
	})
}

// timedOut takes note of a loop that no worker took, or whose worker has vanished.
func (e *loopEnd) timedOut(timeout *temporal.TimeoutError, input PoolInput, held lease.Lease) {
	if timeout.TimeoutType() == enums.TIMEOUT_TYPE_SCHEDULE_TO_START {
		e.failures, e.news.Reason = input.Failures, leftAlone(held.Agent)
		return
	}
	var progress LoopProgress
	e.news.Reason = inWords(timeout)
	if timeout.LastHeartbeatDetails(&progress) == nil {
		e.news.Tenure, e.news.Worker = progress.Tenure, progress.Worker
	}
}

// failed takes note of a loop that ended with an error.
func (e *loopEnd) failed(err error, input PoolInput, lasted time.Duration) {
	e.news.Reason, e.failures = inWords(err), 1
	if lasted <= lastBackoff {
		e.failures = input.Failures + 1
	}
	var application *temporal.ApplicationError
	if !errors.As(err, &application) {
		return
	}
	var progress LoopProgress
	if application.HasDetails() && application.Details(&progress) == nil {
		e.news.Tenure, e.news.Worker = progress.Tenure, progress.Worker
	}
	if application.NonRetryable() || application.Type() == NonRetryable {
		e.news.State = PoolFailed
	}
}

// backoff is the wait after so many failures in a row.
func backoff(failures int) time.Duration {
	if failures == 0 {
		return 0
	}
	return min(firstBackoff<<min(failures-1, 10), lastBackoff)
}

// tell signals a workflow, and says whether it is gone: closed, or never there. A signal to one that
// continues as new reaches its next history.
func tell(ctx workflow.Context, id, signal string, message any) (gone bool) {
	err := workflow.SignalExternalWorkflow(ctx, id, "", signal, message).Get(ctx, nil)
	var unknown *temporal.UnknownExternalWorkflowExecutionError
	if err != nil && !errors.As(err, &unknown) && ctx.Err() == nil {
		workflow.GetLogger(ctx).Warn("a workflow did not take a signal", "workflow", id, "signal", signal, "error", err)
	}
	return errors.As(err, &unknown)
}
