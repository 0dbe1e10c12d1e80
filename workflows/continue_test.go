package workflows

import (
	"context"
	"testing"
	"time"

	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// TestContinueAsNewEverywhere hands over whenever it is possible, and gets the same run.
func TestContinueAsNewEverywhere(t *testing.T) {
	folder := newRunFolder(small)
	in := input(small)
	for round := range 40 {
		s := newStage(t, folder)
		if round%2 == 0 {
			s.SetContinueAsNewSuggested(true)
		} else {
			s.SetCurrentHistoryLength(maxHistory + 1)
		}
		err := s.carry(in)
		if err == nil {
			completed(t, s, err)
			if round < 5 {
				t.Errorf("the run ended in %d rounds", round)
			}
			return
		}
		in = next(t, err)
	}
	t.Fatal("the run does not end")
}

// TestContinueAsNewWithNews lets signals and updates arrive in the very workflow task in which the
// workflow continues as new: all are answered or carried along.
func TestContinueAsNewWithNews(t *testing.T) {
	folder := newRunFolder(small)
	s := newStage(t, folder)
	s.play = func(runstate.Control) {}
	var got reply
	// The write of the pause is the last thing before the hand-over: what is posted without a workflow
	// task of its own comes together with its end.
	folder.once("record pause asked at step 2", func(ctx context.Context) error {
		for number := range 2 {
			s.SignalWorkflowSkippingWorkflowTask(GroupsSignal, GroupsReport{Ready: []ReadyGroup{ready(number, 2)}})
		}
		return nil
	})
	s.RegisterDelayedCallback(func() {
		s.SetContinueAsNewSuggested(true)
		s.updateNow(func(r reply) { got = r }, PauseUpdate)
	}, time.Minute+time.Second)
	in := next(t, s.carry(input(small)))
	if got.status.Phase != "pausing" && got.status.Phase != "paused" {
		t.Errorf("reply to pause: %+v", got)
	}
	again := newStage(t, folder)
	var carried runstate.Status
	again.RegisterDelayedCallback(func() {
		carried = again.status()
		again.updateNow(func(reply) {}, ResumeUpdate)
	}, time.Hour)
	completed(t, again, again.carry(in))
	if carried.Phase != "paused" || carried.GroupsReady != 2 {
		t.Errorf("carried along: %+v", carried)
	}
}

// TestReplyBeforeContinueAsNew asks for nothing new in the workflow task that starts the hand-over: the
// reply is given, and leaves with a task before the one that ends the history.
func TestReplyBeforeContinueAsNew(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	s.play = func(runstate.Control) {}
	timers, answered := 0, -1
	s.SetOnTimerScheduledListener(func(string, time.Duration) { timers++ })
	s.RegisterDelayedCallback(func() {
		s.SetContinueAsNewSuggested(true)
		timers = 0
		s.updateNow(func(reply) { answered = timers }, ResumeUpdate)
	}, time.Hour+time.Second)
	in := next(t, s.carry(input(small)))
	if answered < 0 || timers-answered != 1 {
		t.Errorf("answered after %d of %d timers; want an answer and one timer after it", answered, timers)
	}
	if in.State.Committed != 2 {
		t.Errorf("state carried along: %+v", in.State)
	}
}

// TestSetDuringHandover changes settings while the workflow is about to continue as new: the change is
// made and answered first.
func TestSetDuringHandover(t *testing.T) {
	folder := newRunFolder(small)
	s := newStage(t, folder)
	s.play = func(runstate.Control) {}
	var got reply
	folder.once("change training.staleness=1", func(context.Context) error {
		s.RegisterDelayedCallback(func() { s.SetContinueAsNewSuggested(true) }, 0)
		time.Sleep(20 * time.Millisecond)
		return nil
	})
	s.RegisterDelayedCallback(func() { s.updateNow(func(r reply) { got = r }, SetUpdate, overrides("training.staleness=1")) }, time.Minute)
	in := next(t, s.carry(input(small)))
	if got.set.Revision != 1 || got.rejected != "" {
		t.Errorf("reply: %+v", got)
	}
	again := newStage(t, folder)
	if err := again.carry(in); err != nil {
		t.Fatal(err)
	}
	if status := again.status(); status.Config != 1 || status.Staleness != 1 {
		t.Errorf("status: %+v", status)
	}
}

// TestCancelDuringHandover asks for the end while the workflow is about to continue as new.
func TestCancelDuringHandover(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	s.SetContinueAsNewSuggested(true)
	s.folder.once("prepare", func(ctx context.Context) error {
		_, err := s.update(ctx, PauseUpdate)
		return err
	})
	s.folder.once("record pause asked at step 0", func(ctx context.Context) error {
		_, err := s.update(ctx, CancelUpdate)
		return err
	})
	cancelled(t, s.carry(input(small)))
}

// TestEvaluationSurvivesContinueAsNew lets the run continue as new while version 2 is evaluated.
func TestEvaluationSurvivesContinueAsNew(t *testing.T) {
	folder := newRunFolder(small)
	s := newStage(t, folder)
	folder.once("evaluate 2", func(context.Context) error {
		s.RegisterDelayedCallback(func() { s.SetContinueAsNewSuggested(true); s.updateNow(func(reply) {}, ResumeUpdate) }, 0)
		time.Sleep(50 * time.Millisecond)
		return nil
	})
	in := next(t, s.carry(input(small)))
	if in.State.Committed != 2 || len(in.State.Evaluated) != 0 {
		t.Errorf("state carried along: %+v", in.State)
	}
	again := newStage(t, folder)
	completed(t, again, again.carry(in))
}
