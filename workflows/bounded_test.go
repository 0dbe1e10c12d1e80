//go:build server

package workflows

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"

	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

const (
	manySteps = 10_000
	// fewerSteps are taken with -short: a step is an activity, which is three events at least, so that the
	// run passes maxHistory however many signals it gets.
	fewerSteps = maxHistory/3 + 200
	// mostEvents and mostBytes bound each history of a run, however many steps it has: those at which it
	// continues as new, and what a hand-over may add.
	mostEvents, mostBytes = maxHistory + 200, 4 << 20
	// mostState bounds what one history carries to the next.
	mostState = 16 << 10
)

// TestServerHistoryIsBounded carries a run through 10,000 tiny steps and looks at every history of it.
func TestServerHistoryIsBounded(t *testing.T) {
	steps := manySteps
	if testing.Short() {
		steps = fewerSteps
	}
	spec := small
	spec.WarmSteps, spec.TrainSteps, spec.GroupsPerStep, spec.Staleness, spec.Pools, spec.Slots, spec.EvaluateEvery = 0, steps, 1, 64, 1, 64, 1000
	s := newSite(t, spec)
	s.latency = 50 * time.Millisecond
	// A store that takes its time: of the controls decided meanwhile only the newest is written.
	s.folder.published = func(runstate.Control) { time.Sleep(100 * time.Millisecond) }
	w := worker.New(s.client, AgentQueue(lease.Rollout, "plenty"), worker.Options{DisableWorkflowWorker: true})
	s.start(w, map[string]any{RolloutLoopActivity: s.plentifulLoop})
	reports(t, s.client, "plenty", lease.Capacity{Rollout: 1}, processor("plenty"))
	began := time.Now()
	run := s.submit()
	first := run.GetRunID()
	s.completed(run)
	took := time.Since(began)

	histories, events, size, state := 0, 0, 0, 0
	description, err := s.client.DescribeWorkflow(t.Context(), s.id, "")
	if err != nil {
		t.Fatal(err)
	}
	for id := description.WorkflowExecution.RunID; id != ""; histories++ {
		h := s.history(s.id, id)
		bytes := 0
		for _, event := range h.Events {
			bytes += event.Size()
		}
		events, size = max(events, len(h.Events)), max(size, bytes)
		started := h.Events[0].GetWorkflowExecutionStartedEventAttributes()
		for _, payload := range started.GetInput().GetPayloads() {
			state = max(state, len(payload.Data))
		}
		if id == first {
			break
		}
		id = started.GetContinuedExecutionRunId()
	}
	t.Logf("%d steps in %s: %d histories of at most %d events and %d bytes, each given at most %d bytes; %d controls written of %d",
		steps, took.Round(time.Second), histories, events, size, state, s.folder.written, s.folder.control.Revision)
	if events > mostEvents || size > mostBytes || state > mostState {
		t.Errorf("a history has %d events and %d bytes and is given %d bytes; want at most %d, %d and %d", events, size, state, mostEvents, mostBytes, mostState)
	}
	if histories < 2 {
		t.Errorf("%d histories: the run never continued as new", histories)
	}
}

// plentifulLoop is a loop that finishes its share at once and says so in one signal.
func (s *site) plentifulLoop(ctx context.Context, input LoopInput) (LoopResult, error) {
	tenure := s.folder.claim()
	if err := s.tell(ctx, PoolSignal, PoolNews{Pool: input.Pool, State: PoolServing, Tenure: tenure, Worker: "plentiful"}); err != nil {
		return LoopResult{}, err
	}
	ticker := time.NewTicker(s.latency)
	defer ticker.Stop()
	for told := -1; ; {
		activity.RecordHeartbeat(ctx, LoopProgress{Tenure: tenure})
		control, _ := s.folder.last()
		if control.Stopped {
			return LoopResult{Tenure: tenure, Stopped: true}, nil
		}
		report := GroupsReport{Pool: input.Pool, Tenure: tenure}
		for _, group := range sharesOf(control, tenure) {
			if group.Group > told {
				told = group.Group
				report.Ready = append(report.Ready, ready(group.Group, control.Version))
			}
		}
		if len(report.Ready) > 0 {
			var gone *serviceerror.NotFound
			if err := s.tell(ctx, GroupsSignal, report); errors.As(err, &gone) {
				return LoopResult{Tenure: tenure, Stopped: true}, nil
			} else if err != nil {
				return LoopResult{}, err
			}
		}
		<-ticker.C
	}
}

// sharesOf lists what a loop has to play.
func sharesOf(control runstate.Control, tenure int) []runstate.Assignment {
	for _, share := range control.Shares {
		if share.Tenure == tenure {
			return share.Groups
		}
	}
	return nil
}
