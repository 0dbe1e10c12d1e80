//go:build server

package workflows

import (
	"context"
	"sync"
	"testing"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/internal/temporalserver/temporaltest"
)

// countDropped counts how often a server drops an update.
type countDropped struct {
	Updater
	dropped *int
}

func (c countDropped) UpdateWorkflow(ctx context.Context, options client.UpdateWorkflowOptions) (client.WorkflowUpdateHandle, error) {
	handle, err := c.Updater.UpdateWorkflow(ctx, options)
	if Dropped(err) {
		*c.dropped++
	}
	return handle, err
}

// TestServerDropsAnUpdate has a server drop an update: a signal comes while the workflow handles it, in the
// task with which it continues as new, and that task fails. The update is answered all the same.
func TestServerDropsAnUpdate(t *testing.T) {
	temporaltest.NoLeaks(t)
	t.Cleanup(worker.PurgeStickyWorkflowCache)
	c, _ := temporaltest.Start(t)
	const id, update = "moves", "where"
	signalled := make(chan error, 1)
	var once sync.Once
	var moves func(ctx workflow.Context, histories int) error
	moves = func(ctx workflow.Context, histories int) error {
		asked := false
		// A workflow has no business to tell itself from outside what comes while a task is under way. This one plays bad luck.
		refuse := func(workflow.Context) error {
			asked = true
			if histories > 0 {
				return nil
			}
			once.Do(func() { signalled <- c.SignalWorkflow(t.Context(), id, "", "any", nil) })
			return movingTo("the workflow")
		}
		answer := func(workflow.Context) (int, error) { return histories, nil }
		if err := workflow.SetUpdateHandlerWithOptions(ctx, update, answer, workflow.UpdateHandlerOptions{Validator: refuse}); err != nil {
			return err
		}
		if err := workflow.Await(ctx, func() bool { return asked }); err != nil || histories > 0 {
			return err
		}
		return workflow.NewContinueAsNewError(ctx, moves, histories+1)
	}
	w := worker.New(c, ControlQueue, worker.Options{})
	w.RegisterWorkflowWithOptions(moves, workflow.RegisterOptions{Name: "moves"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: ControlQueue, WorkflowTaskTimeout: TaskTimeout}, "moves", 0)
	if err != nil {
		t.Fatal(err)
	}
	dropped := 0
	var histories int
	err = Ask(t.Context(), countDropped{c, &dropped}, client.UpdateWorkflowOptions{WorkflowID: id, UpdateName: update}, &histories)
	if err != nil || histories != 1 {
		t.Errorf("answered %d, %v, want that of the second history", histories, err)
	}
	if err := <-signalled; err != nil || dropped != 1 {
		t.Errorf("the server has dropped the update %d times, want once; signal: %v", dropped, err)
	}
	if err := run.Get(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
