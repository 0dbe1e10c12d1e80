package workflows

import (
	"errors"
	"fmt"
	"slices"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// TaskTimeout is how long a worker may think about one workflow task before another one gets it: what
// a run loses when its controller dies in the middle of one.
const TaskTimeout = 5 * time.Second

// changePatience is how long somebody who changes settings waits for a learner.
const changePatience = 30 * time.Second

// retries waits out whatever may pass by itself: a worker that is gone, a full disk, a server that
// restarts. What cannot pass is marked [NonRetryable] by the activity.
var retries = &temporal.RetryPolicy{
	InitialInterval:        time.Second,
	BackoffCoefficient:     2,
	MaximumInterval:        5 * time.Second,
	NonRetryableErrorTypes: []string{NonRetryable},
}

// inTime is for work that is not simply tried again when it takes longer than its time-out, which is
// derived from what was measured: whoever asked decides how long the next attempt may take.
var inTime = &temporal.RetryPolicy{
	InitialInterval:        retries.InitialInterval,
	BackoffCoefficient:     retries.BackoffCoefficient,
	MaximumInterval:        retries.MaximumInterval,
	NonRetryableErrorTypes: []string{NonRetryable, "TemporalTimeout:StartToClose"},
}

// tookTooLong says whether the last attempt ended at its time-out.
func tookTooLong(err error) bool {
	var timeout *temporal.TimeoutError
	return errors.As(err, &timeout) && timeout.TimeoutType() == enums.TIMEOUT_TYPE_START_TO_CLOSE
}

// workOptions are for activities that compute for a while and heartbeat.
func workOptions(queue string, attempt time.Duration, limits Limits, summary string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		TaskQueue:              queue,
		StartToCloseTimeout:    attempt,
		ScheduleToCloseTimeout: limits.GiveUpAfter,
		HeartbeatTimeout:       limits.HeartbeatTimeout,
		RetryPolicy:            retries,
		WaitForCancellation:    true,
		Summary:                summary,
	}
}

// writeOptions are for activities that write one small object, which is done before a heartbeat would be
// missed.
func writeOptions(limits Limits) workflow.ActivityOptions {
	return workflow.ActivityOptions{TaskQueue: FolderQueue, StartToCloseTimeout: limits.HeartbeatTimeout, ScheduleToCloseTimeout: limits.GiveUpAfter, RetryPolicy: retries}
}

func (r *trainingRun) prepare(ctx workflow.Context) {
	limits := r.input.Limits
	ctx = workflow.WithActivityOptions(ctx, workOptions(LearnerQueue, limits.StepTimeout, limits, "prepare the run folder"))
	var result PrepareResult
	input := PrepareInput{Run: r.input.Run, Config: r.input.Config, Fork: r.input.Fork}
	if err := workflow.ExecuteActivity(ctx, PrepareActivity, input).Get(ctx, &result); err != nil {
		r.broke(ctx, "prepare the run folder", err)
		return
	}
	r.post(runstate.Prepared{Committed: result.Committed, Weights: result.Weights, Evaluated: result.Evaluated,
		Fence: result.Fence, Revision: result.Revision, Config: result.Config, Spec: result.Spec,
		NextGroup: result.NextGroup, Open: result.Open})
}

// attempt is an activity under the learner's lease.
type attempt struct {
	ctx       workflow.Context
	cancel    workflow.CancelFunc
	lease     runstate.Lease
	abandoned bool
}

// attempt takes note of an activity that is about to begin, so that it can be abandoned from now on.
func (r *trainingRun) attempt(ctx workflow.Context, lease runstate.Lease) *attempt {
	a := &attempt{lease: lease}
	a.ctx, a.cancel = workflow.WithCancel(ctx)
	r.attempts = append(r.attempts, a)
	return a
}

// abandonAttempts cancels everything under the learner's lease and waits for nothing.
func (r *trainingRun) abandonAttempts() {
	for _, a := range r.attempts {
		a.abandoned = true
		a.cancel()
	}
	r.attempts = nil
}

// learn carries an activity out where the lease says, and returns false when there is no result that counts:
// it was abandoned, or nobody took it, which it says.
func (r *trainingRun) learn(ctx workflow.Context, a *attempt, options workflow.ActivityOptions, name string, input, result any) (err error, counts bool) {
	options.TaskQueue, options.ScheduleToStartTimeout = AgentQueue(lease.Learner, a.lease.Agent), pickUp
	future := workflow.ExecuteActivity(workflow.WithActivityOptions(a.ctx, options), name, input)
	waiting, _ := workflow.NewDisconnectedContext(ctx)
	_ = workflow.Await(waiting, func() bool { return future.IsReady() || a.abandoned })
	if a.abandoned {
		return nil, false
	}
	r.attempts = slices.DeleteFunc(r.attempts, func(other *attempt) bool { return other == a })
	err = future.Get(waiting, result)
	left := ""
	switch {
	case notPickedUp(err):
		left = leftAlone(a.lease.Agent)
	case temporal.IsCanceledError(err) && ctx.Err() == nil:
		left = fmt.Sprintf("agent %s dropped the work without a word", a.lease.Agent)
	default:
		return err, true
	}
	r.post(runstate.WorkLeft{Fence: a.lease.Fence, Reason: left})
	return nil, false
}

// underLease is what an activity is told of the learner's lease.
func underLease(l runstate.Lease) Under {
	return Under{Fence: l.Fence, Agent: l.Agent, Devices: l.Devices}
}

func (r *trainingRun) train(ctx workflow.Context, a *attempt, command runstate.TrainStep) {
	began := workflow.Now(ctx)
	options := workOptions("", command.Timeout, r.input.Limits, string(command.Kind)+" step")
	options.RetryPolicy = inTime
	input := TrainInput{Run: r.input.Run, Step: command.Step, Kind: command.Kind, Batch: command.Batch, Dropped: command.Dropped,
		Config: command.Config, Checkpoint: command.Checkpoint, Fence: command.Fence, Lease: underLease(command.Lease)}
	var result TrainResult
	err, counts := r.learn(ctx, a, options, TrainStepActivity, input, &result)
	if !counts {
		return
	}
	if err == nil && result.Step != command.Step {
		err = fmt.Errorf("the learner was asked for step %d and answers with step %d", command.Step, result.Step)
	}
	reason, failed := failure(ctx, err)
	switch {
	case failed && tookTooLong(err):
		r.post(runstate.StepTimedOut{Step: command.Step})
	case failed:
		r.post(runstate.StepFailed{Step: command.Step, Reason: reason})
	case err != nil: // cancelled
	case len(result.Corrupt) > 0:
		r.post(runstate.StepCorrupt{Step: result.Step, Groups: result.Corrupt})
	default:
		r.post(runstate.StepCommitted{Step: result.Step, Weights: result.Weights, Took: workflow.Now(ctx).Sub(began)})
	}
}

func (r *trainingRun) repair(ctx workflow.Context, a *attempt, command runstate.Repair) {
	limits := r.input.Limits
	options := workOptions("", limits.StepTimeout, limits, "repair "+command.Key)
	input := RepairInput{Run: r.input.Run, Key: command.Key, Lease: underLease(command.Lease)}
	err, counts := r.learn(ctx, a, options, RepairActivity, input, nil)
	reason, failed := failure(ctx, err)
	if counts && (err == nil || failed) {
		r.post(runstate.Repaired{Key: command.Key, Reason: reason})
	}
}

// publish replaces the control object and waits for it, so that controls are written in order.
func (r *trainingRun) publish(ctx workflow.Context, control runstate.Control) {
	ctx = workflow.WithActivityOptions(ctx, writeOptions(r.input.Limits))
	input := ControlInput{Run: r.input.Run, Control: control}
	if err := workflow.ExecuteActivity(ctx, PublishControlActivity, input).Get(ctx, nil); err != nil {
		r.broke(ctx, "publish the control object", err)
	}
}

// record writes a line into the run's events.
func (r *trainingRun) record(ctx workflow.Context, text string) {
	ctx = workflow.WithActivityOptions(ctx, writeOptions(r.input.Limits))
	input := RecordInput{Run: r.input.Run, Time: workflow.Now(ctx), Text: text}
	if err := workflow.ExecuteActivity(ctx, RecordEventActivity, input).Get(ctx, nil); err != nil {
		r.broke(ctx, "record an event", err)
	}
}

// startPools starts rollout pools, which leave when the control object says so.
func (r *trainingRun) startPools(ctx workflow.Context, command runstate.StartPools) {
	for pool := command.From; pool < command.To; pool++ {
		id := PoolID(r.input.Run, pool)
		input := PoolInput{Run: r.input.Run, Pool: pool, Limits: r.input.Limits, Request: r.input.Devices.Request(r.input.Run, id, lease.Rollout)}
		if err := startChild(ctx, RolloutPoolType, id, input); err != nil {
			r.broke(ctx, fmt.Sprintf("start rollout pool %d", pool), err)
			return
		}
	}
}

// startEvaluation starts an evaluation, which tells how it ended by a signal.
func (r *trainingRun) startEvaluation(ctx workflow.Context, command runstate.Evaluate) {
	id := EvaluationID(r.input.Run, command.Version)
	input := EvaluationInput{EvaluateInput: EvaluateInput{Run: r.input.Run, Version: command.Version, Weights: command.Weights},
		Timeout: command.Timeout, Limits: r.input.Limits, Request: r.input.Devices.Request(r.input.Run, id, lease.Evaluate)}
	if err := startChild(ctx, EvaluationType, id, input); err != nil {
		r.broke(ctx, fmt.Sprintf("start the evaluation of version %d", command.Version), err)
	}
}

// startChild starts a workflow that outlives this workflow run, its cancellation too. One that an
// earlier run of the same folder left behind may be about to leave, so it is replaced and not joined.
func startChild(ctx workflow.Context, kind, id string, input any) error {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	options := workflow.ChildWorkflowOptions{
		WorkflowID:          id,
		TaskQueue:           ControlQueue,
		WorkflowTaskTimeout: TaskTimeout,
		ParentClosePolicy:   enums.PARENT_CLOSE_POLICY_ABANDON,
		// A child has no conflict policy, so the older name of the same wish is used.
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING, //nolint:staticcheck
	}
	return workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, options), kind, input).GetChildWorkflowExecution().Get(ctx, nil)
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
// It returns false when nothing failed: there is no error, or the context was cancelled.
func failure(ctx workflow.Context, err error) (string, bool) {
	if err == nil || ctx.Err() != nil {
		return "", false
	}
	return inWords(err), true
}

// inWords gives an error of an activity in its own words. A time-out keeps the cause of the last
// attempt, which is why there was none after it.
func inWords(err error) string {
	var timeout *temporal.TimeoutError
	var application *temporal.ApplicationError
	switch {
	case errors.As(err, &timeout):
		words := timeoutWords[timeout.TimeoutType()]
		if words == "" {
			return timeout.Error()
		}
		if cause := errors.Unwrap(timeout); cause != nil {
			words += ": " + inWords(cause)
		}
		return words
	case errors.As(err, &application):
		return application.Message()
	}
	return err.Error()
}

var timeoutWords = map[enums.TimeoutType]string{
	enums.TIMEOUT_TYPE_START_TO_CLOSE:    "it took longer than its time-out",
	enums.TIMEOUT_TYPE_SCHEDULE_TO_START: "no worker took it in time",
	enums.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE: "given up after limits.give_up_after",
	enums.TIMEOUT_TYPE_HEARTBEAT:         "its worker stopped heartbeating",
}
