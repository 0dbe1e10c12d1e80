package workflows

import (
	"fmt"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/internal/lease"
)

// tellAll is a holder that says everything in one moment, and more in its next history.
func tellAll(ctx workflow.Context) error {
	d := newDesk(ctx)
	d.ask(wants("run-a"))
	d.give("run-a", 0)
	d.ask(wants("run-a"))
	d.keep(lease.Lease{Request: wants("run-a"), Fence: 7})
	d.give("run-a", 7)
	if err := workflow.Await(ctx, d.idle); err != nil {
		return err
	}
	if err := workflow.Sleep(ctx, time.Millisecond); err != nil { // no two histories share a moment
		return err
	}
	next := newDesk(ctx)
	next.ask(wants("run-a"))
	next.give("run-a", 0)
	return workflow.Await(ctx, next.idle)
}

// TestHoldersAreHeardInOrder hears what a holder has said in the order in which it was said, although all of it
// arrives together, and the signals of each name in channels of their own. Whoever does not number what it says
// gives back first.
func TestHoldersAreHeardInOrder(t *testing.T) {
	type signal struct {
		name    string
		message any
	}
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(quiet{})
	var said []signal
	holder := suite.NewTestWorkflowEnvironment()
	holder.RegisterWorkflow(tellAll)
	holder.OnSignalExternalWorkflow(anything, DevicePoolID, "", anything, anything).Return(func(_, _, _, name string, message any) error {
		said = append(said, signal{name, message})
		return nil
	})
	holder.ExecuteWorkflow(tellAll)
	if err := holder.GetWorkflowError(); err != nil || len(said) != 7 {
		t.Fatalf("said %+v, %v", said, err)
	}

	late := func(ctx workflow.Context) ([]string, error) { // it takes everything at once
		signals := listenForHolders(ctx)
		if err := workflow.Sleep(ctx, time.Minute); err != nil {
			return nil, err
		}
		var out []string
		for _, event := range signals.take() {
			switch e := event.(type) {
			case lease.Requested:
				out = append(out, "request "+e.Request.Holder)
			case lease.Renewed:
				out = append(out, fmt.Sprintf("renew %s %d", e.Lease.Holder, e.Lease.Fence))
			case lease.Released:
				out = append(out, fmt.Sprintf("release %s %d", e.Holder, e.Fence))
			}
		}
		if signals.waiting() {
			out = append(out, "and more")
		}
		return out, nil
	}
	pool := suite.NewTestWorkflowEnvironment()
	pool.RegisterWorkflowWithOptions(late, workflow.RegisterOptions{Name: "late"})
	pool.RegisterDelayedCallback(func() {
		pool.SignalWorkflow(RequestSignal, wants("somebody"))
		pool.SignalWorkflow(ReleaseSignal, lease.Released{Holder: "somebody", Fence: 3})
		for _, one := range said {
			pool.SignalWorkflow(one.name, one.message)
		}
	}, time.Second)
	pool.ExecuteWorkflow("late")
	var heard []string
	if err := pool.GetWorkflowResult(&heard); err != nil {
		t.Fatal(err)
	}
	same(t, "heard", heard, []string{"release somebody 3", "request somebody",
		"request run-a", "release run-a 0", "request run-a", "renew run-a 7", "release run-a 7", "request run-a", "release run-a 0"})
}
