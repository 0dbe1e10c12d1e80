package workflows

import (
	"fmt"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// listen registers the query and the updates.
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
			r.answered = true
			ticket := r.post(update.event)
			err := workflow.Await(ctx, func() bool { return r.taken >= ticket })
			return ControlReply{Status: r.machine.Status()}, err
		}
		options := workflow.UpdateHandlerOptions{Validator: func(workflow.Context) error { return r.refuse(update.name) }}
		if err := workflow.SetUpdateHandlerWithOptions(ctx, update.name, handler, options); err != nil {
			return err
		}
	}
	return nil
}

// refuse says why an update comes too late; nil when it does not.
func (r *trainingRun) refuse(update string) error {
	switch {
	case r.finished != nil:
		return fmt.Errorf("%s: the run has ended (%s)", update, r.finished.Outcome)
	case r.abandoned:
		return fmt.Errorf("%s: the run is being cancelled", update)
	}
	return nil
}

var statusAttribute = temporal.NewSearchAttributeKeyKeyword(StatusAttribute)

// show tells people who look at the workflow from outside how it stands: one line of details, and the
// search attribute by which runs are listed.
func (r *trainingRun) show(ctx workflow.Context) {
	status := r.machine.Status()
	details := fmt.Sprintf("%s · step %d/%d", status.Phase, status.Committed, status.LastStep)
	if status.WaitingFor != "" {
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
