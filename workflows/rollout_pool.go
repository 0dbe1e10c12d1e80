package workflows

import (
	"errors"
	"fmt"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

const (
	// poolRounds is how many loops a pool has in one history.
	poolRounds = 20
	// pickUp is how long a loop may wait for a rollout worker before the run is told.
	pickUp = time.Minute
	// firstBackoff is waited after a loop that failed, twice as long after the next one, and so on to
	// lastBackoff. A loop that lasted longer than lastBackoff begins the count anew.
	firstBackoff, lastBackoff = time.Second, 15 * time.Second
)

// RolloutPool keeps one rollout loop alive on some rollout worker until the run has ended. The loop
// is one long activity that keeps many episodes in flight: rollouts are never activities of their
// own, so their number does not matter to the history.
//
// A loop is tried once. So the pool sees each end, tells the run, which gives the groups of a lost
// loop to other pools, and schedules the next one.
func RolloutPool(ctx workflow.Context, input PoolInput) error {
	for range poolRounds {
		end, err := playLoop(ctx, input)
		switch {
		case ctx.Err() != nil:
			ctx, _ = workflow.NewDisconnectedContext(ctx)
			_ = tellRun(ctx, input.Run, PoolSignal, PoolNews{Pool: input.Pool, State: PoolFailed, Reason: "its workflow was cancelled"})
			return err
		case end.stopped:
			return nil
		}
		input.Waited, input.Failures = end.waited, end.failures
		if gone := tellRun(ctx, input.Run, PoolSignal, end.news); gone || end.news.State == PoolFailed {
			return end.lasting(err)
		}
		if wait := backoff(end.failures); wait > 0 {
			if err := workflow.Sleep(ctx, wait); err != nil {
				continue // the next loop is cancelled before it starts
			}
		}
	}
	return workflow.NewContinueAsNewError(ctx, RolloutPoolType, input)
}

// loopEnd is what the end of a loop means.
type loopEnd struct {
	news     PoolNews
	stopped  bool          // the run has ended
	waited   time.Duration // how long no worker has taken a loop
	failures int           // loops that failed one after another
}

// lasting is what a pool that tells of its end returns: an error that lasts, or nothing when the run is
// gone.
func (e loopEnd) lasting(err error) error {
	if e.news.State == PoolFailed {
		return err
	}
	return nil
}

// playLoop carries one loop to its end.
func playLoop(ctx workflow.Context, input PoolInput) (loopEnd, error) {
	began := workflow.Now(ctx)
	loop := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              RolloutQueue,
		ScheduleToStartTimeout: pickUp,
		StartToCloseTimeout:    input.Limits.LoopTimeout,
		HeartbeatTimeout:       input.Limits.HeartbeatTimeout,
		RetryPolicy:            &temporal.RetryPolicy{MaximumAttempts: 1},
		WaitForCancellation:    true,
		Summary:                "rollout loop",
	})
	var result LoopResult
	err := workflow.ExecuteActivity(loop, RolloutLoopActivity, LoopInput{
		Run: input.Run, Pool: input.Pool, HandOverAfter: input.Limits.LoopTimeout / 2,
	}).Get(loop, &result)
	lasted := workflow.Now(ctx).Sub(began)
	end := loopEnd{news: PoolNews{Pool: input.Pool, State: PoolLost}}
	var timeout *temporal.TimeoutError
	switch {
	case err == nil:
		end.stopped, end.news.Tenure, end.news.Reason = result.Stopped, result.Tenure, result.Reason
	case errors.As(err, &timeout):
		end.timedOut(timeout, input, lasted)
	default:
		end.failed(err, input, lasted)
	}
	return end, err
}

// timedOut takes note of a loop that no worker took, or whose worker has vanished.
func (e *loopEnd) timedOut(timeout *temporal.TimeoutError, input PoolInput, lasted time.Duration) {
	if timeout.TimeoutType() == enums.TIMEOUT_TYPE_SCHEDULE_TO_START {
		e.waited, e.failures = input.Waited+lasted, input.Failures
		e.news.Reason = fmt.Sprintf("no worker has taken it for %s: start one with `turnwise worker --roles rollout`, or a worker that holds more pools with `--loops N`", e.waited.Round(time.Second))
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

// tellRun signals the run, and says whether the run is gone: closed, or never there. A signal to a run
// that continues as new reaches its next history.
func tellRun(ctx workflow.Context, run, signal string, message any) (gone bool) {
	err := workflow.SignalExternalWorkflow(ctx, run, "", signal, message).Get(ctx, nil)
	var unknown *temporal.UnknownExternalWorkflowExecutionError
	if err != nil && !errors.As(err, &unknown) && ctx.Err() == nil {
		workflow.GetLogger(ctx).Warn("the run did not take a signal", "run", run, "signal", signal, "error", err)
	}
	return errors.As(err, &unknown)
}
