package workflows

import (
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
)

// Updater is what [Ask] needs of a [client.Client].
type Updater interface {
	UpdateWorkflow(ctx context.Context, options client.UpdateWorkflowOptions) (client.WorkflowUpdateHandle, error)
}

// Ask sends an update to a run or to the device pool and waits for the answer. Workflows move to new
// histories, and an update that comes just then is refused or dropped by no fault of who sent it: Ask sends it
// again for as long as ctx lasts, under the same id, by which one history does it at most once. One that is late, and was done
// before its workflow moved, is done twice: an update leaves the same behind however often it is sent. What a workflow
// refuses is the error's text; see [Dropped] for what is left when ctx ends before there is an answer.
func Ask(ctx context.Context, c Updater, update client.UpdateWorkflowOptions, reply any) error {
	update.WaitForStage = client.WorkflowUpdateStageCompleted
	if update.UpdateID == "" {
		update.UpdateID = rand.Text()
	}
	return whileMoving(ctx, func(ctx context.Context) error {
		handle, err := c.UpdateWorkflow(ctx, update)
		if err != nil {
			return err
		}
		return handle.Get(ctx, reply)
	})
}

// moving is the type of the error with which a workflow refuses an update that comes while it moves to a new
// history: asking again helps.
const moving = "turnwise.Moving"

// movingTo refuses an update that comes while a workflow moves to a new history.
func movingTo(text string) error {
	return temporal.NewApplicationError(text+" is moving to a new history: ask again in a second", moving)
}

const (
	// movingPause is waited before asking again a workflow that moves to a new history, which takes a few
	// workflow tasks, or that has more to answer than the server allows at once, which is ten.
	movingPause = 100 * time.Millisecond
	// askFor bounds one attempt. The SDK waits up to a tenth of it before it tries by itself again, so that a
	// hundred agents that come at once neither crowd each other out nor wait long.
	askFor = 15 * time.Second
)

// whileMoving asks again for as long as the workflow is moving to a new history, or too busy to answer.
func whileMoving(ctx context.Context, ask func(context.Context) error) error {
	for {
		attempt, end := context.WithTimeout(ctx, askFor)
		err := ask(attempt)
		end()
		if err == nil || !again(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(movingPause + mathrand.N(movingPause)):
		}
	}
}

// again says whether asking again helps: the workflow is moving, or the server had no time for it.
func again(err error) bool {
	var refused *temporal.ApplicationError
	var late *client.WorkflowUpdateServiceTimeoutOrCanceledError
	var exceeded *serviceerror.DeadlineExceeded
	var busy *serviceerror.ResourceExhausted
	return errors.As(err, &refused) && refused.Type() == moving || errors.As(err, &late) || errors.As(err, &exceeded) ||
		errors.As(err, &busy) || errors.Is(err, context.DeadlineExceeded) || Dropped(err)
}

// Dropped says whether the server dropped an update because the workflow's task failed with it. That
// happens now and then when a signal comes while a workflow moves to a new history: the task is made again, without
// the update. When it goes on happening, the control worker cannot make the workflow's tasks.
func Dropped(err error) bool {
	var failed *serviceerror.WorkflowNotReady
	return errors.As(err, &failed)
}
