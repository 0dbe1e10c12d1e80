package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// Evaluation plays held-out tasks with one version of the policy and tells the run how that ended. It
// is a workflow of its own, so that the run trains on and continues as new meanwhile. When the first
// attempt takes longer than what was measured lets expect, the others get the longest time-out.
func Evaluation(ctx workflow.Context, input EvaluationInput) error {
	began := workflow.Now(ctx)
	err := evaluate(ctx, input, input.Timeout, inTime)
	if tookTooLong(err) && ctx.Err() == nil {
		err = evaluate(ctx, input, input.Limits.StepTimeout, retries)
	}
	news := EvaluationNews{Version: input.Version, Took: workflow.Now(ctx).Sub(began)}
	if err != nil {
		news.Reason = inWords(err)
	}
	if ctx.Err() != nil {
		news.Reason = "its workflow was cancelled"
		ctx, _ = workflow.NewDisconnectedContext(ctx)
	}
	if gone := tellRun(ctx, input.Run, EvaluationSignal, news); gone {
		return nil
	}
	return err
}

func evaluate(ctx workflow.Context, input EvaluationInput, attempt time.Duration, policy *temporal.RetryPolicy) error {
	options := workOptions(EvaluateQueue, attempt, input.Limits, "evaluation")
	options.RetryPolicy = policy
	ctx = workflow.WithActivityOptions(ctx, options)
	return workflow.ExecuteActivity(ctx, EvaluateActivity, input.EvaluateInput).Get(ctx, nil)
}
