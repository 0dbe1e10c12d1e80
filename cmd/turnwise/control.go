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
}

// steerVerb is a verb that asks a run for something and prints its answer.
func steerVerb(a *app, cmd *cobra.Command, act func(ctx context.Context, t temporalClient, id string) (steering, error)) *cobra.Command {
	cmd.Args, cmd.ValidArgsFunction = cobra.ArbitraryArgs, a.completeRuns
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		prefix, err := oneRun(cmd.Name(), args)
		if err != nil {
			return err
		}
		c, endpoint, err := a.dial(cmd.Context())
		if err != nil {
			return a.withoutServer(cmd.Context(), prefix, err)
		}
		defer c.Close()
		id, err := a.anyRun(cmd.Context(), c, endpoint.Namespace, prefix)
		if err != nil {
			return err
		}
		result, err := act(cmd.Context(), c, id)
		if err != nil {
			return err
		}
		if a.json() {
			return a.printJSON(result)
		}
		a.print("%s: %s\n", id, result.Answer)
		return nil
	}
	return cmd
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

// update sends an update to a run and waits for the answer.
func update(ctx context.Context, t temporalClient, id, name string) (runstate.Status, error) {
	waiting, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	handle, err := t.UpdateWorkflow(waiting, client.UpdateWorkflowOptions{
		WorkflowID: id, UpdateName: name, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	var reply workflows.ControlReply
	if err == nil {
		err = handle.Get(waiting, &reply)
	}
	if err != nil {
		return runstate.Status{}, explainUpdate(ctx, waiting, t, id, name, err)
	}
	return reply.Status, nil
}

// explainUpdate says in a sentence why a run did not do what it was asked.
func explainUpdate(ctx, waiting context.Context, t temporalClient, id, name string, err error) error {
	var refused *sdktemporal.ApplicationError
	switch {
	case errors.As(err, &refused):
		return fmt.Errorf("run %s: %s; `turnwise describe run %s` shows it", id, refused.Message(), id)
	case unknownWorkflow(err):
		return gone(ctx, t, id)
	case waiting.Err() != nil && ctx.Err() == nil:
		return fmt.Errorf("run %s did not answer %s within %s: is a control worker running? start one with `turnwise worker --roles control` and ask again", id, name, answerTimeout)
	}
	return unreachable(err)
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
