package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/internal/lease"
)

// Evaluation plays held-out tasks with one version of the policy, under a lease of the device pool, and
// tells the run how that ended. It is a workflow of its own, so that the run trains on and continues as new
// meanwhile. When the first attempt takes longer than what was measured lets expect, the others get the
// longest time-out. One that loses its lease is made again under the next one.
func Evaluation(ctx workflow.Context, input EvaluationInput) error {
	devices := newHolder(ctx, input.Request, input.Lease)
	took, err := evaluate(ctx, &input, devices)
	if errors.Is(err, errFull) {
		input.Lease, input.Request.Above = devices.settle(ctx)
		return workflow.NewContinueAsNewError(ctx, EvaluationType, input)
	}
	defer devices.leave(ctx)
	if errors.Is(err, errRunGone) {
		return nil
	}
	news := EvaluationNews{Version: input.Version, Took: took}
	if err != nil {
		news.Reason = inWords(err)
	}
	telling := ctx
	if ctx.Err() != nil {
		news.Reason = "its workflow was cancelled"
		telling, _ = workflow.NewDisconnectedContext(ctx)
	}
	if gone := tell(telling, input.Run, EvaluationSignal, news); gone {
		return nil
	}
	return err
}

// evaluate makes attempts until one has a result that stands, and says how long that one took.
func evaluate(ctx workflow.Context, input *EvaluationInput, devices *holder) (took time.Duration, err error) {
	for {
		waited := false
		err := devices.acquire(ctx, func(reason string) bool {
			waited = true
			return tell(ctx, input.Run, EvaluationSignal, EvaluationNews{Version: input.Version, State: EvaluationWaiting, Reason: reason})
		})
		if err == nil && waited && tell(ctx, input.Run, EvaluationSignal, EvaluationNews{Version: input.Version, State: EvaluationPlaying}) {
			err = errRunGone
		}
		if err != nil {
			return 0, err
		}
		began, held := workflow.Now(ctx), *devices.lease
		taken, err := devices.work(ctx, nil, func(ctx workflow.Context) workflow.Future { return startEvaluation(ctx, *input, held) })
		took := workflow.Now(ctx).Sub(began)
		switch {
		case ctx.Err() != nil:
			return took, err
		case devices.yield != "" && err != nil, notPickedUp(err):
			devices.give()
		case taken != "": // the next attempt is under another lease
		case tookTooLong(err) && !input.Patient:
			input.Patient = true
		default:
			return took, err
		}
	}
}

// startEvaluation starts an attempt.
func startEvaluation(ctx workflow.Context, input EvaluationInput, held lease.Lease) workflow.Future {
	options := workOptions(AgentQueue(lease.Evaluate, held.Agent), input.Timeout, input.Limits, "evaluation")
	options.RetryPolicy, options.ScheduleToStartTimeout = inTime, pickUp
	if input.Patient {
		options.RetryPolicy, options.StartToCloseTimeout = retries, input.Limits.StepTimeout
	}
	input.EvaluateInput.Lease = under(held)
	return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), EvaluateActivity, input.EvaluateInput)
}
