package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	sdktemporal "go.temporal.io/sdk/temporal"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// answerTimeout bounds how long a verb that steers a run waits for the run's answer.
const answerTimeout = 15 * time.Second

// steering is the result of a verb that steers a run.
type steering struct {
	Run string `json:"run"`
	runstate.Status
	// Answer is the same in a sentence.
	Answer string `json:"answer"`
	// Seconds is how long the verb waited for it.
	Seconds float64 `json:"seconds,omitempty"`
}

// helm steers one run.
type helm struct {
	temporalClient
	run string
	// note tells how it goes on while a verb waits.
	note func(format string, args ...any)
	now  func() time.Time
	tick <-chan time.Time
}

// lookInterval is how often a verb that waits looks at the run.
const lookInterval = 250 * time.Millisecond

// steerVerb is a verb that asks a run for something and prints its answer.
func steerVerb(a *app, cmd *cobra.Command, act func(ctx context.Context, h *helm) (steering, error)) *cobra.Command {
	cmd.Args, cmd.ValidArgsFunction = cobra.ArbitraryArgs, a.completeRuns
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		prefix, err := oneRun(cmd.Name(), args)
		if err != nil {
			return err
		}
		return a.steer(cmd.Context(), prefix, func(h *helm) error {
			result, err := act(cmd.Context(), h)
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(result)
			}
			a.print("%s: %s\n", h.run, result.Answer)
			return nil
		})
	}
	return cmd
}

// steer reaches the run that a prefix names and lets act steer it.
func (a *app) steer(ctx context.Context, prefix string, act func(h *helm) error) error {
	c, endpoint, err := a.dial(ctx)
	if err != nil {
		return a.withoutServer(ctx, prefix, err)
	}
	defer c.Close()
	id, err := a.anyRun(ctx, c, endpoint.Namespace, prefix)
	if err != nil {
		return err
	}
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	return act(&helm{temporalClient: c, run: id, note: a.note, now: time.Now, tick: ticker.C})
}

// withoutServer says why a run cannot be asked: it is unknown, it has ended, or the server is away.
func (a *app) withoutServer(ctx context.Context, prefix string, dialErr error) error {
	folder, id, err := a.findRun(prefix)
	if err != nil {
		return fmt.Errorf("%w; and %w", err, dialErr)
	}
	events, err := folder.Events(ctx)
	if err != nil {
		return errors.Join(dialErr, err)
	}
	if outcome, words := ending(events); outcome != "" {
		return fmt.Errorf("run %s has ended: %s; `turnwise describe run %s` shows its results", id, words, id)
	}
	return dialErr
}

// anyRun completes the id of a run: one of the data folder or, when there is none, one that only the
// cluster knows.
func (a *app) anyRun(ctx context.Context, t temporalClient, namespace, prefix string) (string, error) {
	id, err := a.runID(prefix)
	switch {
	case err == nil:
		return id, nil
	case !errors.Is(err, runfolder.ErrNoRun):
		return "", usageError{err}
	}
	found, listErr := listRuns(ctx, t, namespace, prefix)
	if listErr != nil {
		return "", errors.Join(err, listErr)
	}
	for _, run := range found {
		if run.id == prefix {
			return run.id, nil
		}
	}
	switch len(found) {
	case 0:
		return "", err
	case 1:
		return found[0].id, nil
	}
	return "", usagef("%q is the beginning of %d runs of namespace %s; `turnwise get runs` lists them", prefix, len(found), namespace)
}

// update sends an update to the run and waits for the answer.
func (h *helm) update(ctx context.Context, name string, reply any, args ...any) error {
	waiting, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	err := workflows.Ask(waiting, h, client.UpdateWorkflowOptions{WorkflowID: h.run, UpdateName: name, Args: args}, reply)
	if err != nil {
		return explainUpdate(ctx, waiting, h, h.run, name, err)
	}
	return nil
}

// control sends a pause, resume or cancel.
func (h *helm) control(ctx context.Context, name string) (runstate.Status, error) {
	var reply workflows.ControlReply
	err := h.update(ctx, name, &reply)
	return reply.Status, err
}

// explainUpdate says in a sentence why a run did not do what it was asked.
func explainUpdate(ctx, waiting context.Context, t temporalClient, id, name string, err error) error {
	var refused *sdktemporal.ApplicationError
	var late *client.WorkflowUpdateServiceTimeoutOrCanceledError // the server's clock may be ahead of waiting
	switch {
	case errors.As(err, &refused):
		return fmt.Errorf("run %s: %s; `turnwise describe run %s` shows it", id, refused.Message(), id)
	case unknownWorkflow(err):
		return gone(ctx, t, id)
	case workflows.Dropped(err):
		return fmt.Errorf("run %s could not be asked to %s: the control worker fails to make the tasks of its workflow, and its log says why (%w)", id, name, err)
	case (waiting.Err() != nil || errors.As(err, &late)) && ctx.Err() == nil:
		return fmt.Errorf("run %s did not answer %s within %s: %s", id, name, answerTimeout, whoAnswers(name))
	}
	return unreachable(err)
}

// whoAnswers names the workers that an answer takes.
func whoAnswers(update string) string {
	if update == workflows.SetUpdate {
		return "are a control worker and a learner running? the learner writes settings down, between its steps; start them with `turnwise worker --roles control,learner` and ask again"
	}
	return "is a control worker running? start one with `turnwise worker --roles control` and ask again"
}

// gone says why a run takes no more requests.
func gone(ctx context.Context, t temporalClient, id string) error {
	now, err := ask(ctx, t, id)
	switch {
	case err != nil:
		return unreachable(err)
	case !now.Known:
		return usagef("Temporal has no workflow of run %s: it has ended or was never submitted here; `turnwise describe run %s` shows what its folder holds", id, id)
	}
	return fmt.Errorf("run %s has ended (%s); `turnwise describe run %s` shows its results", id, now.word(), id)
}

// unreachable gives a failure of the connection its exit code.
func unreachable(err error) error {
	if err == nil || !connectionLost(err) {
		return err
	}
	return codedError{exitUnreachable, fmt.Errorf("lost the connection to Temporal (%w): try again, or see `turnwise doctor`", err)}
}

// connectionLost recognises errors of a server that is gone for now.
func connectionLost(err error) bool {
	var unavailable *serviceerror.Unavailable
	var deadline *serviceerror.DeadlineExceeded
	return errors.As(err, &unavailable) || errors.As(err, &deadline) || errors.Is(err, context.DeadlineExceeded)
}

// stopsAfter is the step at which a run comes to rest: the one the learner works at, else the last
// committed one.
func stopsAfter(status runstate.Status) int {
	var step int
	if n, err := fmt.Sscanf(status.WaitingFor, "the learner to commit step %d", &step); n == 1 && err == nil {
		return step
	}
	return status.Committed
}
