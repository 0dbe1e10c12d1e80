package workflows

import (
	"errors"
	"fmt"
	"time"

	enums "go.temporal.io/api/enums/v1"
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
var writeOptions = workflow.ActivityOptions{TaskQueue: LearnerQueue, StartToCloseTimeout: 10 * time.Second, RetryPolicy: retries}

func (r *trainingRun) prepare(ctx workflow.Context) {
	ctx = workflow.WithActivityOptions(ctx, workOptions(LearnerQueue, r.input.Limits, "prepare the run folder"))
	var result PrepareResult
	input := PrepareInput{Run: r.input.Run, Config: r.input.Config}
	if err := workflow.ExecuteActivity(ctx, PrepareActivity, input).Get(ctx, &result); err != nil {
		r.broke(ctx, "prepare the run folder", err)
		return
	}
	r.post(runstate.Prepared{Committed: result.Committed, Weights: result.Weights, Evaluated: result.Evaluated,
		Fence: result.Fence, Revision: result.Revision})
}

func (r *trainingRun) train(ctx workflow.Context, command runstate.TrainStep) {
	ctx = workflow.WithActivityOptions(ctx, workOptions(LearnerQueue, r.input.Limits, string(command.Kind)+" step"))
	input := TrainInput{Run: r.input.Run, Step: command.Step, Kind: command.Kind, Batch: command.Batch, Fence: command.Fence}
	var result TrainResult
	err := workflow.ExecuteActivity(ctx, TrainStepActivity, input).Get(ctx, &result)
	if err == nil && result.Step != command.Step {
		err = fmt.Errorf("the learner was asked for step %d and answers with step %d", command.Step, result.Step)
	}
	if err == nil {
		r.post(runstate.StepCommitted{Step: result.Step, Weights: result.Weights})
	} else if reason, failed := failure(ctx, err); failed {
		r.post(runstate.StepFailed{Step: command.Step, Reason: reason})
	}
}

func (r *trainingRun) evaluate(ctx workflow.Context, command runstate.Evaluate) {
	ctx = workflow.WithActivityOptions(ctx, workOptions(RolloutQueue, r.input.Limits, "evaluation"))
	input := EvaluateInput{Run: r.input.Run, Version: command.Version, Weights: command.Weights}
	err := workflow.ExecuteActivity(ctx, EvaluateActivity, input).Get(ctx, nil)
	if err == nil {
		r.post(runstate.Evaluated{Version: command.Version})
	} else if reason, failed := failure(ctx, err); failed {
		r.post(runstate.EvaluationFailed{Version: command.Version, Reason: reason})
	}
}

// publish replaces the control object and waits for it, so that controls are written in order.
func (r *trainingRun) publish(ctx workflow.Context, control runstate.Control) {
	ctx = workflow.WithActivityOptions(ctx, writeOptions)
	input := ControlInput{Run: r.input.Run, Control: control}
	if err := workflow.ExecuteActivity(ctx, PublishControlActivity, input).Get(ctx, nil); err != nil {
		r.broke(ctx, "publish the control object", err)
	}
}

// record writes a line into the run's events.
func (r *trainingRun) record(ctx workflow.Context, text string) {
	ctx = workflow.WithActivityOptions(ctx, writeOptions)
	input := RecordInput{Run: r.input.Run, Time: workflow.Now(ctx), Text: text}
	if err := workflow.ExecuteActivity(ctx, RecordEventActivity, input).Get(ctx, nil); err != nil {
		r.broke(ctx, "record an event", err)
	}
}

// startPools starts the rollout pools as workflows that outlive this workflow run, its cancellation
// too: they leave when the control object says so. A pool that an earlier run of the same folder left
// behind may be about to leave, so it is replaced and not joined.
func (r *trainingRun) startPools(ctx workflow.Context, pools int) {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	for pool := range pools {
		options := workflow.ChildWorkflowOptions{
			WorkflowID:        PoolID(r.input.Run, pool),
			TaskQueue:         ControlQueue,
			ParentClosePolicy: enums.PARENT_CLOSE_POLICY_ABANDON,
			// A child has no conflict policy, so the older name of the same wish is used.
			WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING, //nolint:staticcheck
		}
		child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, options), RolloutPoolType,
			PoolInput{Run: r.input.Run, Pool: pool, Pools: pools, Limits: r.input.Limits})
		if err := child.GetChildWorkflowExecution().Get(ctx, nil); err != nil {
			r.broke(ctx, fmt.Sprintf("start rollout pool %d", pool), err)
			return
		}
	}
}

// broke ends the run because what it cannot do without failed for ever.
func (r *trainingRun) broke(ctx workflow.Context, what string, err error) {
	reason, failed := failure(ctx, err)
	if !failed {
		return
	}
	if r.finished != nil { // the outcome stands; only its traces are incomplete
		workflow.GetLogger(ctx).Error("the end of the run could not be written down", "run", r.input.Run, "what", what, "error", err)
	}
	r.post(runstate.Broken{Reason: what + ": " + reason})
}

// failure says in words why an activity or a child failed, without the wrapping that Temporal adds.
// It returns false when the context was cancelled, which is no failure.
func failure(ctx workflow.Context, err error) (string, bool) {
	if ctx.Err() != nil {
		return "", false
	}
	var application *temporal.ApplicationError
	if errors.As(err, &application) {
		return application.Message(), true
	}
	return err.Error(), true
}
