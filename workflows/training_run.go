package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// maxHistory is the number of history events after which a run continues as new even when the server
// does not ask for it.
const maxHistory = 4000

// TrainingRun carries one run from its first to its last step.
//
// One coroutine decides: it takes signals, updates and results in the order they came, never blocks on
// the outside, and queues what the machine commands. Another one carries the commands out in order. So
// a slow disk delays the run but not the answer to a pause or a cancellation.
func TrainingRun(ctx workflow.Context, input RunInput) (RunResult, error) {
	run, err := newTrainingRun(ctx, input)
	if err != nil {
		return RunResult{}, err
	}
	for {
		err := workflow.Await(ctx, func() bool { return run.hasNews() || run.settled(ctx) })
		if err != nil || ctx.Err() != nil {
			return run.abandon(ctx)
		}
		run.decide(ctx)
		switch {
		case !run.settled(ctx):
		case run.finished != nil:
			return run.result()
		case run.answered:
			// The reply to an update can be lost when the workflow continues as new in the same
			// workflow task, so the reply gets a task of its own.
			run.answered = false
			_ = workflow.Sleep(ctx, time.Millisecond)
		default:
			return RunResult{}, run.continueAsNew(ctx)
		}
	}
}

// trainingRun is the shell around the machine. All of it runs in workflow coroutines, one at a time.
type trainingRun struct {
	input    RunInput
	machine  *runstate.Machine
	groups   workflow.ReceiveChannel
	failures workflow.ReceiveChannel
	// inbox holds events that the machine has not taken; outbox commands that are not carried out,
	// the first of them being under way.
	inbox  []runstate.Event
	outbox []runstate.Command
	// posted and taken count the events ever queued and those the machine has taken.
	posted, taken int
	// working counts the coroutines that prepare, train or evaluate.
	working    int
	asked      bool // a hand-over was asked for
	handedOver bool
	answered   bool // an update was answered since the last look at it
	abandoned  bool // the workflow was cancelled
	finished   *runstate.Finish
	class      string // the status attribute as last set
}

func newTrainingRun(ctx workflow.Context, input RunInput) (*trainingRun, error) {
	run := &trainingRun{
		input:    input,
		machine:  runstate.New(input.Spec),
		groups:   workflow.GetSignalChannel(ctx, GroupSignal),
		failures: workflow.GetSignalChannel(ctx, PoolFailedSignal),
	}
	if input.State != nil {
		run.machine = runstate.Restore(input.Spec, *input.State)
	}
	if err := run.listen(ctx); err != nil {
		return nil, err
	}
	if input.State == nil {
		run.work(ctx, run.prepare)
	} else {
		run.post(runstate.ContinuedAsNew{})
	}
	workflow.Go(ctx, run.carryOut)
	run.show(ctx)
	return run, nil
}

// post queues an event for the machine and returns its ticket: the event has been taken when taken is
// at least the ticket.
func (r *trainingRun) post(event runstate.Event) (ticket int) {
	r.inbox = append(r.inbox, event)
	r.posted++
	return r.posted
}

// hasNews says whether there is something to decide on. Signals stay in their channels until then: a
// coroutine blocked in Receive could hold one, unseen, while the run continues as new.
func (r *trainingRun) hasNews() bool {
	return len(r.inbox) > 0 || r.groups.Len() > 0 || r.failures.Len() > 0
}

// settled says whether the workflow may return: the machine is through, everything it decided is
// carried out, every update is answered and nothing has come in since.
func (r *trainingRun) settled(ctx workflow.Context) bool {
	return (r.finished != nil || r.handedOver) && len(r.outbox) == 0 && !r.hasNews() && workflow.AllHandlersFinished(ctx)
}

// decide feeds everything that has come in to the machine and queues its commands. It does not block.
func (r *trainingRun) decide(ctx workflow.Context) {
	var group runstate.GroupRef
	for r.groups.ReceiveAsync(&group) {
		r.post(runstate.GroupReady{Group: group})
		group = runstate.GroupRef{}
	}
	var pool PoolFailure
	for r.failures.ReceiveAsync(&pool) {
		r.post(runstate.PoolFailed{Pool: pool.Pool, Reason: pool.Reason})
		pool = PoolFailure{}
	}
	info := workflow.GetInfo(ctx)
	if !r.asked && (info.GetContinueAsNewSuggested() || info.GetCurrentHistoryLength() > maxHistory) {
		r.asked = true
		r.post(runstate.HandoverAsked{})
	}
	for ; len(r.inbox) > 0; r.inbox = r.inbox[1:] {
		for _, command := range r.machine.Step(r.inbox[0]) {
			r.queue(command)
		}
		r.taken++
	}
	r.show(ctx)
}

// queue hands a command to the coroutine that carries commands out, or takes note of the end.
func (r *trainingRun) queue(command runstate.Command) {
	switch c := command.(type) {
	case runstate.HandOver:
		r.handedOver = true
	case runstate.Finish:
		r.finished = &c
		r.outbox = append(r.outbox, runstate.Note{Text: r.lastLine()})
	default:
		r.outbox = append(r.outbox, command)
	}
}

// carryOut carries out what is decided, in order, until the workflow returns or is cancelled. Slow
// commands run in coroutines of their own and post an event when they end.
func (r *trainingRun) carryOut(ctx workflow.Context) {
	for workflow.Await(ctx, func() bool { return len(r.outbox) > 0 }) == nil {
		switch c := r.outbox[0].(type) {
		case runstate.StartPools:
			r.startPools(ctx, c.Pools)
		case runstate.PublishControl:
			r.publish(ctx, c.Control)
		case runstate.TrainStep:
			r.work(ctx, func(ctx workflow.Context) { r.train(ctx, c) })
		case runstate.Evaluate:
			r.work(ctx, func(ctx workflow.Context) { r.evaluate(ctx, c) })
		case runstate.Note:
			r.record(ctx, c.Text)
		}
		r.outbox = r.outbox[1:]
	}
}

// work runs a slow command in a coroutine of its own.
func (r *trainingRun) work(ctx workflow.Context, command func(workflow.Context)) {
	r.working++
	workflow.Go(ctx, func(ctx workflow.Context) {
		defer func() { r.working-- }()
		command(ctx)
	})
}

// lastLine is what the run's events end with.
func (r *trainingRun) lastLine() string {
	line := fmt.Sprintf("%s at step %d of %d", r.finished.Outcome, r.machine.State().Committed, r.input.Spec.LastStep())
	if r.finished.Reason != "" {
		line += ": " + r.finished.Reason
	}
	return line
}

// result is how the run ended, as the workflow returns it.
func (r *trainingRun) result() (RunResult, error) {
	state := r.machine.State()
	result := RunResult{Outcome: r.finished.Outcome, Committed: state.Committed, Weights: state.Weights, Reason: r.finished.Reason}
	switch r.finished.Outcome {
	case runstate.Failed:
		return result, temporal.NewNonRetryableApplicationError(result.Reason, "RunFailed", nil, result)
	case runstate.Cancelled:
		return result, temporal.NewCanceledError(result)
	}
	return result, nil
}

// abandon answers a cancellation by Temporal itself: the rollout workers are sent home, and the
// activities in flight, which are cancelled with the context, get time to say that they have stopped.
// A run whose end was decided before ends that way.
func (r *trainingRun) abandon(ctx workflow.Context) (RunResult, error) {
	r.abandoned = true
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	r.post(runstate.CancelAsked{})
	r.decide(ctx)
	if control := r.machine.State().Control; control.Revision > 0 {
		if !control.Stopped {
			control.Revision++
			control.Stopped = true
		}
		r.publish(ctx, control)
	}
	// A worker that has died stops heartbeating, and its activity ends with that.
	_, _ = workflow.AwaitWithTimeout(ctx, 2*r.input.Limits.HeartbeatTimeout, func() bool { return r.working == 0 })
	r.decide(ctx)
	if r.finished == nil {
		r.finished = &runstate.Finish{Outcome: runstate.Cancelled}
	}
	r.record(ctx, r.lastLine())
	r.setClass(ctx, string(r.finished.Outcome))
	return r.result()
}

// continueAsNew carries the state to a fresh history. Nothing blocks between the decision and this.
// The rollout pools are workflows of their own and go on meanwhile.
func (r *trainingRun) continueAsNew(ctx workflow.Context) error {
	next := r.input
	state := r.machine.State()
	next.State = &state
	return workflow.NewContinueAsNewError(ctx, TrainingRunType, next)
}
