package workflows

import (
	"errors"
	"fmt"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// maxHistory is the number of history events after which a run continues as new even when the server
// does not ask for it.
const maxHistory = 4000

// TrainingRun carries one run from its first to its last step.
func TrainingRun(ctx workflow.Context, input RunInput) (RunResult, error) {
	run := &trainingRun{input: input, machine: runstate.New(input.Spec)}
	if input.State != nil {
		run.machine = runstate.Restore(input.Spec, *input.State)
	}
	if err := run.listen(ctx); err != nil {
		return RunResult{}, err
	}
	if input.State == nil {
		workflow.Go(ctx, run.prepare)
	} else {
		run.post(runstate.ContinuedAsNew{})
	}
	for {
		// A cancelled context ends the wait; what is posted before is still taken.
		_ = workflow.Await(ctx, func() bool { return len(run.inbox) > 0 || ctx.Err() != nil })
		if ctx.Err() != nil {
			return run.abandon(ctx)
		}
		run.takeInbox(ctx)
		switch {
		case run.fatal != nil:
			return RunResult{}, run.fatal
		case run.finished != nil:
			return run.end(ctx)
		case run.handedOver:
			return RunResult{}, run.continueAsNew(ctx)
		}
	}
}

// trainingRun is the shell around the machine. All of it runs in workflow coroutines, one at a time.
type trainingRun struct {
	input      RunInput
	machine    *runstate.Machine
	inbox      []runstate.Event
	posted     int // events ever queued
	taken      int // events the machine has seen
	groups     workflow.ReceiveChannel
	finished   *runstate.Finish
	handedOver bool
	asked      bool // a hand-over was asked for
	fatal      error
}

// post queues an event for the main loop and returns its ticket: the event has been taken when taken
// is at least the ticket.
func (r *trainingRun) post(event runstate.Event) (ticket int) {
	r.inbox = append(r.inbox, event)
	r.posted++
	return r.posted
}

// takeInbox feeds the queued events to the machine and carries out its commands in order.
func (r *trainingRun) takeInbox(ctx workflow.Context) {
	info := workflow.GetInfo(ctx)
	if !r.asked && (info.GetContinueAsNewSuggested() || info.GetCurrentHistoryLength() > maxHistory) {
		r.asked = true
		r.post(runstate.HandoverAsked{})
	}
	events := r.inbox
	r.inbox = nil
	for _, event := range events {
		for _, command := range r.machine.Step(event) {
			r.carryOut(ctx, command)
		}
		r.taken++
	}
	status := r.machine.Status()
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("%s · step %d/%d · waiting for %s",
		status.Phase, status.Committed, status.LastStep, status.WaitingFor))
}

// carryOut starts what a command asks for. Slow commands run in coroutines of their own and post an
// event when they end.
func (r *trainingRun) carryOut(ctx workflow.Context, command runstate.Command) {
	switch c := command.(type) {
	case runstate.StartPools:
		r.startPools(ctx, c.Pools)
	case runstate.PublishControl:
		r.publish(ctx, c.Control)
	case runstate.TrainStep:
		workflow.Go(ctx, func(ctx workflow.Context) { r.train(ctx, c) })
	case runstate.Evaluate:
		workflow.Go(ctx, func(ctx workflow.Context) { r.evaluate(ctx, c) })
	case runstate.Note:
		r.record(ctx, c.Text)
	case runstate.HandOver:
		r.handedOver = true
	case runstate.Finish:
		r.finished = &c
	}
}

// listen registers the query, the updates and the group signal.
func (r *trainingRun) listen(ctx workflow.Context) error {
	err := workflow.SetQueryHandler(ctx, StatusQuery, func() (runstate.Status, error) { return r.machine.Status(), nil })
	if err != nil {
		return err
	}
	updates := []struct {
		name  string
		event runstate.Event
	}{{PauseUpdate, runstate.PauseAsked{}}, {ResumeUpdate, runstate.ResumeAsked{}}, {CancelUpdate, runstate.CancelAsked{}}}
	for _, update := range updates {
		handler := func(ctx workflow.Context) (ControlReply, error) {
			ticket := r.post(update.event)
			err := workflow.Await(ctx, func() bool { return r.taken >= ticket })
			return ControlReply{Status: r.machine.Status()}, err
		}
		validator := func(workflow.Context) error {
			if status := r.machine.Status(); r.finished != nil {
				return fmt.Errorf("the run has ended (%s)", status.Phase)
			}
			return nil
		}
		err := workflow.SetUpdateHandlerWithOptions(ctx, update.name, handler, workflow.UpdateHandlerOptions{Validator: validator})
		if err != nil {
			return err
		}
	}
	r.receive(ctx)
	return nil
}

// receive turns signals into events for as long as the workflow runs.
func (r *trainingRun) receive(ctx workflow.Context) {
	r.groups = workflow.GetSignalChannel(ctx, GroupSignal)
	workflow.Go(ctx, func(ctx workflow.Context) {
		for {
			var group runstate.GroupRef
			r.groups.Receive(ctx, &group)
			r.post(runstate.GroupReady{Group: group})
		}
	})
	failures := workflow.GetSignalChannel(ctx, PoolFailedSignal)
	workflow.Go(ctx, func(ctx workflow.Context) {
		for {
			var pool PoolFailure
			failures.Receive(ctx, &pool)
			r.post(runstate.PoolFailed{Pool: pool.Pool, Reason: pool.Reason})
		}
	})
}

// end waits for the last control object to be written and returns how the run ended.
func (r *trainingRun) end(ctx workflow.Context) (RunResult, error) {
	if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
		return RunResult{}, err
	}
	state := r.machine.State()
	result := RunResult{Outcome: r.finished.Outcome, Committed: state.Committed, Weights: state.Weights, Reason: r.finished.Reason}
	r.record(ctx, fmt.Sprintf("%s at step %d of %d%s", result.Outcome, result.Committed, r.input.Spec.LastStep(), reasonSuffix(result.Reason)))
	switch r.finished.Outcome {
	case runstate.Failed:
		return result, temporal.NewNonRetryableApplicationError(result.Reason, "RunFailed", nil, result)
	case runstate.Cancelled:
		return result, temporal.NewCanceledError(result)
	}
	return result, nil
}

func reasonSuffix(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// abandon answers a cancellation by Temporal itself: the activities in flight are cancelled with the
// context, and the rollout workers are sent home.
func (r *trainingRun) abandon(ctx workflow.Context) (RunResult, error) {
	err := ctx.Err()
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	control := r.machine.State().Control
	control.Revision++
	control.Stopped = true
	r.publish(ctx, control)
	r.record(ctx, fmt.Sprintf("cancelled at once after step %d of %d", r.machine.State().Committed, r.input.Spec.LastStep()))
	return RunResult{Outcome: runstate.Cancelled, Committed: r.machine.State().Committed}, err
}

// continueAsNew takes the signals that have arrived and carries the state to a fresh history. The
// rollout pools are workflows of their own and go on meanwhile.
func (r *trainingRun) continueAsNew(ctx workflow.Context) error {
	if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
		return err
	}
	for {
		var group runstate.GroupRef
		if !r.groups.ReceiveAsync(&group) {
			break
		}
		r.post(runstate.GroupReady{Group: group})
	}
	for _, event := range r.inbox {
		r.machine.Step(event) // handing over, the machine issues nothing but the hand-over itself
	}
	next := r.input
	state := r.machine.State()
	next.State = &state
	return workflow.NewContinueAsNewError(ctx, TrainingRunType, next)
}

// startPools starts the rollout pools as children that outlive this workflow run.
func (r *trainingRun) startPools(ctx workflow.Context, pools int) {
	for pool := range pools {
		options := workflow.ChildWorkflowOptions{
			WorkflowID:            PoolID(r.input.Run, pool),
			TaskQueue:             ControlQueue,
			ParentClosePolicy:     enums.PARENT_CLOSE_POLICY_ABANDON,
			WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		}
		child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, options), RolloutPoolType,
			PoolInput{Run: r.input.Run, Pool: pool, Pools: pools, Limits: r.input.Limits})
		err := child.GetChildWorkflowExecution().Get(ctx, nil)
		var running *temporal.ChildWorkflowExecutionAlreadyStartedError
		if err != nil && !errors.As(err, &running) && r.fatal == nil {
			r.fatal = fmt.Errorf("start rollout pool %d: %w", pool, err)
		}
	}
}
