package workflows

import (
	"errors"
	"fmt"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// listen registers the query and the updates.
func (r *trainingRun) listen(ctx workflow.Context) error {
	err := workflow.SetQueryHandler(ctx, StatusQuery, func() (runstate.Status, error) { return r.machine.Status(workflow.Now(ctx)), nil })
	if err != nil {
		return err
	}
	updates := []struct {
		name  string
		event runstate.Event
	}{{PauseUpdate, runstate.PauseAsked{}}, {ResumeUpdate, runstate.ResumeAsked{}}, {CancelUpdate, runstate.CancelAsked{}}}
	for _, update := range updates {
		handler := func(ctx workflow.Context) (ControlReply, error) {
			defer r.answer()
			err := r.settle(ctx, update.event)
			return ControlReply{Status: r.machine.Status(workflow.Now(ctx))}, err
		}
		options := workflow.UpdateHandlerOptions{Validator: func(workflow.Context) error { return r.refuse(update.name) }}
		if err := workflow.SetUpdateHandlerWithOptions(ctx, update.name, handler, options); err != nil {
			return err
		}
	}
	options := workflow.UpdateHandlerOptions{Validator: r.refuseSet}
	return workflow.SetUpdateHandlerWithOptions(ctx, SetUpdate, r.set, options)
}

// settle posts an event and waits until the machine has taken it.
func (r *trainingRun) settle(ctx workflow.Context, event runstate.Event) error {
	ticket := r.post(event)
	return workflow.Await(ctx, func() bool { return r.taken >= ticket })
}

// answer takes note that the reply to an update is about to leave.
func (r *trainingRun) answer() { r.answered = true }

// refuse says why an update comes too late; nil when it does not.
func (r *trainingRun) refuse(update string) error {
	switch {
	case r.finished != nil:
		return fmt.Errorf("%s: the run has ended (%s)", update, r.finished.Outcome)
	case r.abandoned:
		return fmt.Errorf("%s: the run is being cancelled", update)
	case r.postponed >= maxPostponed:
		return movingTo(update + ": the run")
	}
	return nil
}

// refuseSet says why settings cannot be changed; nil when they can be tried.
func (r *trainingRun) refuseSet(ctx workflow.Context, input SetInput) error {
	if err := r.refuse(SetUpdate); err != nil {
		return err
	}
	switch phase := r.machine.Status(workflow.Now(ctx)).Phase; {
	case phase == "cancelling" || phase == "failing":
		return fmt.Errorf("set: the run is %s", phase)
	case len(input.Overrides) == 0:
		return errors.New("set: nothing to change: give at least one key=value")
	}
	return nil
}

// set changes settings: the learner, which has the run's folder, checks the overrides and keeps the new
// revision, then the machine takes it. One change follows another.
func (r *trainingRun) set(ctx workflow.Context, input SetInput) (SetReply, error) {
	defer r.answer()
	if err := r.changing.Lock(ctx); err != nil {
		return SetReply{}, err
	}
	defer r.changing.Unlock()
	base := r.machine.Status(workflow.Now(ctx)).Config
	change := ChangeInput{Run: r.input.Run, Base: base, Revision: base + 1, Overrides: input.Overrides}
	var result ChangeResult
	asking := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{TaskQueue: LearnerQueue,
		StartToCloseTimeout: changePatience, ScheduleToCloseTimeout: changePatience, RetryPolicy: retries})
	if err := workflow.ExecuteActivity(asking, ChangeConfigActivity, change).Get(ctx, &result); err != nil {
		return SetReply{}, notSet(ctx, err)
	}
	if err := r.settle(ctx, runstate.Changed{Config: change.Revision, Spec: result.Spec, Summary: result.Summary}); err != nil {
		return SetReply{}, err
	}
	if r.finished != nil {
		return SetReply{}, notSet(ctx, fmt.Errorf("set: the run has ended (%s)", r.finished.Outcome))
	}
	status := r.machine.Status(workflow.Now(ctx))
	return SetReply{Revision: change.Revision, Summary: result.Summary, FromStep: max(r.begun, status.Committed) + 1, Status: status}, nil
}

// notSet is what a person reads whose change was not made: one sentence.
func notSet(ctx workflow.Context, err error) error {
	var timeout *temporal.TimeoutError
	reason, failed := failure(ctx, err)
	switch {
	case !failed:
		reason = "set: the run is being cancelled"
	case errors.As(err, &timeout) && errors.Unwrap(timeout) == nil:
		reason = fmt.Sprintf("set: no learner has made the change within %s: start one with `turnwise worker --roles learner`, then ask again", changePatience)
	}
	return temporal.NewNonRetryableApplicationError(reason, "", nil)
}

var statusAttribute = temporal.NewSearchAttributeKeyKeyword(StatusAttribute)

// show tells people who look at the workflow from outside how it stands: one line of details, and the
// search attribute by which runs are listed.
func (r *trainingRun) show(ctx workflow.Context) {
	status := r.machine.Status(workflow.Now(ctx))
	details := fmt.Sprintf("%s · step %d/%d", status.Phase, status.Committed, status.LastStep)
	switch {
	case status.Stalled != nil:
		details += fmt.Sprintf(" · stalled, waiting for %s: %s", status.Stalled.What, status.Stalled.Unblock)
	case status.Held != "":
		details += " · held: " + status.Held
	case status.WaitingFor != "":
		details += " · waiting for " + status.WaitingFor
	}
	workflow.SetCurrentDetails(ctx, details)
	r.setClass(ctx, class(status.Phase))
}

// class is what runs are listed by: running, paused, or how they ended.
func class(phase string) string {
	switch phase {
	case "paused", string(runstate.Completed), string(runstate.Failed), string(runstate.Cancelled):
		return phase
	}
	return "running"
}

// setClass sets the status attribute when it changes, which is seldom: each change is an event of the
// history. The namespace knows the attribute before a run is submitted.
func (r *trainingRun) setClass(ctx workflow.Context, class string) {
	if class == r.class {
		return
	}
	r.class = class
	if err := workflow.UpsertTypedSearchAttributes(ctx, statusAttribute.ValueSet(class)); err != nil {
		workflow.GetLogger(ctx).Warn("the status attribute stays as it was", "run", r.input.Run, "error", err)
	}
}
