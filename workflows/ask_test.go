package workflows

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
)

// script is a server that answers updates with what is written down for them: the last line stands for all
// that come after.
type script struct {
	sent    []error // what sending says, nil for sent
	handled []error // what the answer is to an update that was sent
	ids     []string
	stages  []client.WorkflowUpdateStage
}

func (s *script) UpdateWorkflow(_ context.Context, update client.UpdateWorkflowOptions) (client.WorkflowUpdateHandle, error) {
	s.ids, s.stages = append(s.ids, update.UpdateID), append(s.stages, update.WaitForStage)
	if err := line(&s.sent); err != nil {
		return nil, err
	}
	return scripted{err: line(&s.handled)}, nil
}

// line takes the next line.
func line(lines *[]error) error {
	if len(*lines) == 0 {
		return nil
	}
	first := (*lines)[0]
	if len(*lines) > 1 {
		*lines = (*lines)[1:]
	}
	return first
}

type scripted struct {
	client.WorkflowUpdateHandle
	err error
}

func (h scripted) Get(_ context.Context, reply any) error {
	if h.err == nil {
		*reply.(*string) = "done"
	}
	return h.err
}

// TestAskUntilAnswered is a workflow that moves to a new history while it is asked, in each of the ways in
// which a server says so: the update is sent again, as the same one, until it is answered.
func TestAskUntilAnswered(t *testing.T) {
	dropped := serviceerror.NewWorkflowNotReady("Unable to perform workflow execution update due to unexpected workflow task failure.")
	busy := serviceerror.NewResourceExhausted(0, "too many updates in flight")
	for name, server := range map[string]*script{
		"at once":         {},
		"dropped":         {sent: []error{dropped, dropped, nil}},
		"moving":          {handled: []error{movingTo("pause: the run"), nil}},
		"busy":            {sent: []error{busy, nil}},
		"late":            {handled: []error{client.NewWorkflowUpdateServiceTimeoutOrCanceledError(context.DeadlineExceeded), nil}},
		"one by one":      {sent: []error{busy, dropped, nil}, handled: []error{movingTo("the device pool"), nil}},
		"dropped at last": {handled: []error{movingTo("the device pool"), dropped, nil}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var reply string
				if err := Ask(t.Context(), server, client.UpdateWorkflowOptions{WorkflowID: "run", UpdateName: PauseUpdate}, &reply); err != nil || reply != "done" {
					t.Errorf("got %q, %v", reply, err)
				}
				if ids := slices.Compact(slices.Clone(server.ids)); len(ids) != 1 || ids[0] == "" {
					t.Errorf("sent as %q, want one id", server.ids)
				}
				if stages := slices.Compact(server.stages); len(stages) != 1 || stages[0] != client.WorkflowUpdateStageCompleted {
					t.Errorf("waited for %v", server.stages)
				}
			})
		})
	}
}

// TestAskOnceRefused sends what a workflow refuses, or what nobody takes, once.
func TestAskOnceRefused(t *testing.T) {
	for _, refusal := range []error{
		temporal.NewApplicationError("pause: the run has ended (completed)", ""),
		serviceerror.NewNotFound("no workflow"), serviceerror.NewUnavailable("no server"), errors.New("no leader"),
	} {
		server := &script{handled: []error{refusal}}
		var reply string
		if err := Ask(t.Context(), server, client.UpdateWorkflowOptions{}, &reply); !errors.Is(err, refusal) || len(server.ids) != 1 {
			t.Errorf("%v: got %v after %d attempts", refusal, err, len(server.ids))
		}
	}
}

// TestAskUntilTheEnd says at the end of its time why there is no answer, and asks under an id that it is
// given.
func TestAskUntilTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		server := &script{sent: []error{serviceerror.NewWorkflowNotReady("Workflow Task in failed state.")}}
		var reply string
		err := Ask(ctx, server, client.UpdateWorkflowOptions{UpdateID: "agent/7"}, &reply)
		if !Dropped(err) || !strings.Contains(err.Error(), "failed state") {
			t.Errorf("got %v", err)
		}
		if n := len(server.ids); n < 25 || n > 50 || server.ids[0] != "agent/7" || server.ids[n-1] != "agent/7" {
			t.Errorf("%d attempts, as %q", n, server.ids)
		}
	})
}
