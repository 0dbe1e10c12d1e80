package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// retries waits out whatever may pass by itself: a worker that is gone, a full disk, a server that
// restarts. What cannot pass is marked [NonRetryable] by the activity.
var retries = &temporal.RetryPolicy{
	InitialInterval:        time.Second,
	BackoffCoefficient:     2,
	MaximumInterval:        15 * time.Second,
	NonRetryableErrorTypes: []string{NonRetryable},
}

// workOptions are for activities that compute for a while and heartbeat.
func workOptions(queue string, limits Limits, summary string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		TaskQueue:           queue,
		StartToCloseTimeout: limits.StepTimeout,
		HeartbeatTimeout:    limits.HeartbeatTimeout,
		RetryPolicy:         retries,
		WaitForCancellation: true,
		Summary:             summary,
	}
}

// writeOptions are for activities that write one small object.
var writeOptions = workflow.ActivityOptions{TaskQueue: LearnerQueue, StartToCloseTimeout: time.Minute, RetryPolicy: retries}

func (r *trainingRun) prepare(ctx workflow.Context) {
	ctx = workflow.WithActivityOptions(ctx, workOptions(LearnerQueue, r.input.Limits, "prepare the run folder"))
	var result PrepareResult
	input := PrepareInput{Run: r.input.Run, Config: r.input.Config}
	if err := workflow.ExecuteActivity(ctx, PrepareActivity, input).Get(ctx, &result); err != nil {
		r.broke(ctx, err)
		return
	}
	r.post(runstate.Prepared{Committed: result.Committed, Weights: result.Weights, Evaluated: result.Evaluated, Fence: result.Fence})
}

func (r *trainingRun) train(ctx workflow.Context, command runstate.TrainStep) {
	ctx = workflow.WithActivityOptions(ctx, workOptions(LearnerQueue, r.input.Limits, string(command.Kind)+" step"))
	input := TrainInput{Run: r.input.Run, Step: command.Step, Kind: command.Kind, Batch: command.Batch, Fence: command.Fence}
	var result TrainResult
	if err := workflow.ExecuteActivity(ctx, TrainStepActivity, input).Get(ctx, &result); err != nil {
		if reason, ended := failure(ctx, err); ended {
			r.post(runstate.StepFailed{Step: command.Step, Reason: reason})
		}
		return
	}
	r.post(runstate.StepCommitted{Step: result.Step, Weights: result.Weights})
}

func (r *trainingRun) evaluate(ctx workflow.Context, command runstate.Evaluate) {
	ctx = workflow.WithActivityOptions(ctx, workOptions(RolloutQueue, r.input.Limits, "evaluation"))
	input := EvaluateInput{Run: r.input.Run, Version: command.Version, Weights: command.Weights}
	if err := workflow.ExecuteActivity(ctx, EvaluateActivity, input).Get(ctx, nil); err != nil {
		if reason, ended := failure(ctx, err); ended {
			r.post(runstate.EvaluationFailed{Version: command.Version, Reason: reason})
		}
		return
	}
	r.post(runstate.Evaluated{Version: command.Version})
}

// publish replaces the control object and waits for it, so that controls are written in order.
func (r *trainingRun) publish(ctx workflow.Context, control runstate.Control) {
	ctx = workflow.WithActivityOptions(ctx, writeOptions)
	input := ControlInput{Run: r.input.Run, Control: control}
	if err := workflow.ExecuteActivity(ctx, PublishControlActivity, input).Get(ctx, nil); err != nil {
		r.broke(ctx, err)
	}
}

// record writes a line into the run's events.
func (r *trainingRun) record(ctx workflow.Context, text string) {
	ctx = workflow.WithActivityOptions(ctx, writeOptions)
	input := RecordInput{Run: r.input.Run, Time: workflow.Now(ctx), Text: text}
	if err := workflow.ExecuteActivity(ctx, RecordEventActivity, input).Get(ctx, nil); err != nil {
		r.broke(ctx, err)
	}
}

// broke ends the run because of an error in its own bookkeeping.
func (r *trainingRun) broke(ctx workflow.Context, err error) {
	if reason, ended := failure(ctx, err); ended && r.fatal == nil {
		r.fatal = temporal.NewNonRetryableApplicationError(reason, "RunFailed", err)
		r.post(runstate.CancelAsked{}) // wakes the main loop
	}
}

// failure returns the innermost message of an activity error, and false when the context was
// cancelled, which is no failure.
func failure(ctx workflow.Context, err error) (string, bool) {
	if ctx.Err() != nil || temporal.IsCanceledError(err) {
		return "", false
	}
	var application *temporal.ApplicationError
	if errors.As(err, &application) {
		return application.Message(), true
	}
	return err.Error(), true
}
