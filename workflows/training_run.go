package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// maxPostponed is how often continuing as new waits for the reply to an update. After that updates are
// refused, so that a stream of them cannot keep the run in a history that is full.
const maxPostponed = 3

// maxHistory is the number of history events after which a run continues as new even when the server
// does not ask for it.
const maxHistory = 4000

// TrainingRun carries one run from its first to its last step.
//
// One coroutine decides: it takes signals, updates and results in the order they came, never blocks on
// the outside, starts the work that the machine commands and queues its writes. Another one carries the
// writes out in order. So a slow disk delays neither a step nor the answer to a pause.
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
			run.postponed++
			_ = workflow.Sleep(ctx, time.Millisecond)
		default:
			return RunResult{}, run.continueAsNew(ctx)
		}
	}
}

// trainingRun is the shell around the machine. All of it runs in workflow coroutines, one at a time.
type trainingRun struct {
	input   RunInput
	machine *runstate.Machine
	signals signals
	// inbox holds events that the machine has not taken; outbox writes that are not begun.
	inbox  []runstate.Event
	outbox []runstate.Command
	// devices carries what the run says to the device pool; attempts are the activities under its lease.
	devices  *desk
	attempts []*attempt
	// posted and taken count the events ever queued and those the machine has taken.
	posted, taken int
	working       int            // coroutines that prepare, train or repair
	writing       bool           // a write is under way
	changing      workflow.Mutex // held while settings are changed
	begun         int            // the last step that was begun
	asked         bool           // a hand-over was asked for
	handedOver    bool
	answered      bool // an update was answered since the last look at it
	postponed     int  // how often continuing as new has waited for the reply to an update
	abandoned     bool // the workflow was cancelled
	finished      *runstate.Finish
	class         string // the status attribute as last set
}

func newTrainingRun(ctx workflow.Context, input RunInput) (*trainingRun, error) {
	run := &trainingRun{input: input, machine: runstate.New(input.Spec), signals: listenForSignals(ctx), changing: workflow.NewMutex(ctx), devices: newDesk(ctx)}
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
	workflow.Go(ctx, run.tick)
	workflow.Go(ctx, run.renew)
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
func (r *trainingRun) hasNews() bool { return len(r.inbox) > 0 || r.signals.waiting() }

// settled says whether the workflow may return: the machine is through, everything it decided is
// carried out, every update is answered and nothing has come in since.
func (r *trainingRun) settled(ctx workflow.Context) bool {
	return (r.finished != nil || r.handedOver) && !r.writing && len(r.outbox) == 0 && r.devices.idle() && !r.hasNews() && workflow.AllHandlersFinished(ctx)
}

// decide feeds everything that has come in to the machine and takes up its commands. It does not block.
func (r *trainingRun) decide(ctx workflow.Context) {
	for _, event := range r.signals.take() {
		r.post(event)
	}
	info := workflow.GetInfo(ctx)
	if !r.asked && (info.GetContinueAsNewSuggested() || info.GetCurrentHistoryLength() > maxHistory) {
		r.asked = true
		r.post(runstate.HandoverAsked{})
	}
	for ; len(r.inbox) > 0; r.inbox = r.inbox[1:] {
		for _, command := range r.machine.Step(workflow.Now(ctx), r.inbox[0]) {
			r.take(ctx, command)
		}
		r.taken++
	}
	r.show(ctx)
}

// take begins slow work at once, in a coroutine that posts an event when it ends, and queues writes for
// the coroutine that carries them out.
func (r *trainingRun) take(ctx workflow.Context, command runstate.Command) {
	switch c := command.(type) {
	case runstate.TrainStep:
		r.begun = c.Step
		attempt := r.attempt(ctx, c.Lease)
		r.work(ctx, func(ctx workflow.Context) { r.train(ctx, attempt, c) })
	case runstate.Repair:
		attempt := r.attempt(ctx, c.Lease)
		r.work(ctx, func(ctx workflow.Context) { r.repair(ctx, attempt, c) })
	case runstate.Abandon:
		r.abandonAttempts()
	case runstate.AskLease:
		r.askLease(c.Above)
	case runstate.GiveLease:
		r.devices.give(r.input.Run, c.Fence)
	case runstate.PublishControl:
		r.queueControl(c)
	case runstate.HandOver:
		r.handedOver = true
	case runstate.Finish:
		r.finished = &c
		r.outbox = append(r.outbox, runstate.Note{Text: r.lastLine(ctx)})
	default:
		r.outbox = append(r.outbox, command)
	}
}

// queueControl queues a control object in the place of one that is not written yet: only the newest
// matters to whoever reads it.
func (r *trainingRun) queueControl(command runstate.PublishControl) {
	for i, queued := range r.outbox {
		if _, older := queued.(runstate.PublishControl); older {
			r.outbox[i] = command
			return
		}
	}
	r.outbox = append(r.outbox, command)
}

// carryOut writes what is decided, in order, until the workflow returns or is cancelled.
func (r *trainingRun) carryOut(ctx workflow.Context) {
	for workflow.Await(ctx, func() bool { return len(r.outbox) > 0 }) == nil {
		command := r.outbox[0]
		r.outbox, r.writing = r.outbox[1:], true
		switch c := command.(type) {
		case runstate.StartPools:
			r.startPools(ctx, c)
		case runstate.PublishControl:
			r.publish(ctx, c.Control)
		case runstate.Evaluate:
			r.startEvaluation(ctx, c)
		case runstate.Note:
			r.record(ctx, c.Text)
		}
		r.writing = false
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

// tick tells the machine that time passes, often enough to see a stall within a third more than the
// time after which it is one. The timer ends with the workflow.
func (r *trainingRun) tick(ctx workflow.Context) {
	interval := max(5*time.Second, min(r.input.Spec.StallAfter/3, time.Minute))
	for workflow.Sleep(ctx, interval) == nil {
		r.post(runstate.Tick{})
	}
}

// request is what the run asks the device pool for, for its learner.
func (r *trainingRun) request() lease.Request {
	return r.input.Devices.Request(r.input.Run, r.input.Run, lease.Learner)
}

// askLease asks for the learner's lease.
func (r *trainingRun) askLease(above int) {
	request := r.request()
	request.Above = above
	r.devices.ask(request)
}

// renew keeps the learner's lease, or asks again for the one that is waited for. A history that goes on
// begins with it, so that short ones keep the lease too.
func (r *trainingRun) renew(ctx workflow.Context) {
	if r.input.State != nil {
		r.sayLease()
	}
	for workflow.Sleep(ctx, renewEvery) == nil {
		r.sayLease()
	}
}

func (r *trainingRun) sayLease() {
	switch learner, above := r.machine.Learner(); {
	case learner.Lease != nil:
		l := learner.Lease
		r.devices.keep(lease.Lease{Request: r.request(), Fence: l.Fence, Agent: l.Agent, Host: l.Host, Devices: l.Devices})
	case learner.Asked:
		r.askLease(above)
	}
}

// lastLine is what the run's events end with.
func (r *trainingRun) lastLine(ctx workflow.Context) string {
	status := r.machine.Status(workflow.Now(ctx))
	line := fmt.Sprintf("%s at step %d of %d", r.finished.Outcome, status.Committed, status.LastStep)
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
func (r *trainingRun) abandon(cancelled workflow.Context) (RunResult, error) {
	r.abandoned = true
	ctx, _ := workflow.NewDisconnectedContext(cancelled)
	r.post(runstate.CancelAsked{})
	r.decide(cancelled) // what it begins ends at once
	if control := r.machine.State().Control; control.Revision > 0 {
		if !control.Stopped {
			control.Revision++
			control.Stopped = true
		}
		r.publish(ctx, control)
	}
	// A worker that has died stops heartbeating, and its activity ends with that.
	_, _ = workflow.AwaitWithTimeout(ctx, 2*r.input.Limits.HeartbeatTimeout, func() bool { return r.working == 0 && workflow.AllHandlersFinished(ctx) })
	r.decide(cancelled)
	r.devices.give(r.input.Run, 0)
	_ = workflow.Await(ctx, r.devices.idle)
	if r.finished == nil {
		r.finished = &runstate.Finish{Outcome: runstate.Cancelled}
	}
	r.record(ctx, r.lastLine(ctx))
	r.setClass(ctx, string(r.finished.Outcome))
	return r.result()
}

// continueAsNew carries the state to a fresh history. Nothing blocks between the decision and this.
// The rollout pools and evaluations are workflows of their own and go on meanwhile.
func (r *trainingRun) continueAsNew(ctx workflow.Context) error {
	next := r.input
	state := r.machine.State()
	next.State = &state
	return workflow.NewContinueAsNewError(ctx, TrainingRunType, next)
}
