package workflows

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// small is a plan with everything in it.
var small = runstate.Spec{WarmSteps: 2, TrainSteps: 3, GroupsPerStep: 2, Staleness: 1, EvaluateEvery: 1, Pools: 2}

// smallSteps are its steps, whatever happens on the way.
var smallSteps = []string{"1 warm", "2 warm", "3 reinforce 0,1", "4 reinforce 2,3", "5 reinforce 4,5"}

func completed(t *testing.T, s *stage, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var result RunResult
	if err := s.GetWorkflowResult(&result); err != nil {
		t.Fatal(err)
	}
	want := RunResult{Outcome: runstate.Completed, Committed: 5, Weights: ref("weights", 5)}
	if result != want {
		t.Errorf("result: got %+v, want %+v", result, want)
	}
	same(t, "steps", s.folder.steps(), smallSteps)
	evaluated := slices.Sorted(slices.Values(s.folder.evaluated))
	same(t, "evaluated versions", evaluated, []int{2, 3, 4, 5})
	if !s.folder.stopped() {
		t.Errorf("rollout workers are not told to leave: %+v", s.folder.controls)
	}
	if status := s.status(); status.Phase != "completed" || status.Committed != 5 || status.WaitingFor != "" {
		t.Errorf("status at the end: %+v", status)
	}
}

func TestFullRun(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	completed(t, s, s.play(input(small)))
	same(t, "pools", s.pools, []string{"a-run/pool/0", "a-run/pool/1"})
	same(t, "status attribute", s.classes, []string{"running", "completed"})
	same(t, "events", s.folder.events, []string{"completed at step 5 of 5"})
}

func TestRestartFromFolder(t *testing.T) {
	folder := newRunFolder(small)
	s := newStage(t, folder)
	s.hook("train 4", func(context.Context) error { return broken("no device") })
	if err := s.play(input(small)); err == nil {
		t.Fatal("the run did not fail")
	}
	folder.hooks = nil
	again := newStage(t, folder)
	completed(t, again, again.play(input(small)))
	same(t, "events", folder.events, []string{"failed at step 3 of 5: step 4: no device", "continuing from step 3 of 5", "completed at step 5 of 5"})
}

func TestPauseAndResume(t *testing.T) {
	for moment, want := range map[string]struct{ phase, waitingFor string }{
		"prepare":    {"pausing", "the run folder to be prepared"},
		"train 1":    {"pausing", "the learner to commit step 1"},
		"evaluate 2": {"pausing", "the evaluation of version 2"},
		"publish 2":  {"paused", "resume"},
		"train 4":    {"pausing", "the learner to commit step 4"},
		"train 5":    {"pausing", "the learner to commit step 5"},
	} {
		t.Run(moment, func(t *testing.T) {
			s := newStage(t, newRunFolder(small))
			var got reply
			s.hook(moment, func(ctx context.Context) (err error) {
				got, err = s.update(ctx, PauseUpdate)
				return err
			})
			var paused, resumed runstate.Status
			s.RegisterDelayedCallback(func() {
				paused = s.status()
				s.updateNow(ResumeUpdate, func(r reply) { resumed = r.status })
			}, time.Hour)
			completed(t, s, s.play(input(small)))
			if got.status.Phase != want.phase || got.status.WaitingFor != want.waitingFor {
				t.Errorf("reply to pause: got %+v, want %+v", got, want)
			}
			if paused.Phase != "paused" || paused.WaitingFor != "resume" {
				t.Errorf("an hour later: %+v", paused)
			}
			if resumed.Phase == "" || resumed.Phase == "paused" {
				t.Errorf("reply to resume: %+v", resumed)
			}
			same(t, "status attribute", s.classes, []string{"running", "paused", "running", "completed"})
		})
	}
}

// TestAnswerDuringSlowWrite asks while the run's bookkeeping is stuck: the answer does not wait for it.
func TestAnswerDuringSlowWrite(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	var first, second reply
	answered := make(chan struct{})
	s.hook("train 4", func(ctx context.Context) (err error) {
		first, err = s.update(ctx, PauseUpdate)
		<-answered
		return err
	})
	s.hook("record pause asked at step 3", func(ctx context.Context) (err error) {
		second, err = s.update(ctx, ResumeUpdate)
		close(answered)
		return err
	})
	completed(t, s, s.play(input(small)))
	if first.status.Phase != "pausing" || second.status.Phase != "training" {
		t.Errorf("replies: %+v and %+v", first, second)
	}
}

// TestUpdatesAtTheEnd asks while the last objects are written: refused, and nothing hangs.
func TestUpdatesAtTheEnd(t *testing.T) {
	for _, moment := range []string{"stop", "record completed at step 5 of 5"} {
		s := newStage(t, newRunFolder(small))
		var got reply
		s.hook(moment, func(ctx context.Context) (err error) {
			got, err = s.update(ctx, CancelUpdate)
			return err
		})
		completed(t, s, s.play(input(small)))
		if want := "cancel: the run has ended (completed)"; got.rejected != want {
			t.Errorf("%s: got %+v, want the rejection %q", moment, got, want)
		}
	}
}

func TestCancel(t *testing.T) {
	for moment, want := range map[string]struct {
		waitingFor string
		committed  int
	}{
		"prepare":    {"the run folder to be prepared", 0},
		"train 2":    {"the learner to commit step 2", 2},
		"evaluate 2": {"the evaluation of version 2", 2},
		"train 4":    {"the learner to commit step 4", 4},
	} {
		t.Run(moment, func(t *testing.T) {
			s := newStage(t, newRunFolder(small))
			var got reply
			s.hook(moment, func(ctx context.Context) (err error) {
				got, err = s.update(ctx, CancelUpdate)
				return err
			})
			result := cancelled(t, s.play(input(small)))
			if result.Committed != want.committed || s.folder.committed != want.committed {
				t.Errorf("committed: result %+v, folder %d, want %d", result, s.folder.committed, want.committed)
			}
			if got.status.Phase != "cancelling" || got.status.WaitingFor != want.waitingFor {
				t.Errorf("reply: %+v", got)
			}
			if !s.folder.stopped() {
				t.Errorf("rollout workers are not told to leave: %+v", s.folder.controls)
			}
			same(t, "status attribute", s.classes, []string{"running", "cancelled"})
		})
	}
}

func cancelled(t *testing.T, err error) RunResult {
	t.Helper()
	var result RunResult
	var cancelled *temporal.CanceledError
	if !errors.As(err, &cancelled) {
		t.Fatalf("got %v, want a cancellation", err)
	}
	if err := cancelled.Details(&result); err != nil {
		t.Fatal(err)
	}
	if result.Outcome != runstate.Cancelled {
		t.Errorf("result: %+v", result)
	}
	return result
}

// TestAbandon cancels the workflow itself: at once, but rollout workers are sent home.
func TestAbandon(t *testing.T) {
	for moment, stops := range map[string]bool{"prepare": false, "train 2": false, "evaluate 2": false, "train 4": true, "publish 3": true} {
		t.Run(moment, func(t *testing.T) {
			s := newStage(t, newRunFolder(small))
			over := make(chan struct{})
			s.hook(moment, func(ctx context.Context) error {
				s.RegisterDelayedCallback(s.CancelWorkflow, 0)
				<-over
				return ctx.Err()
			})
			err := s.play(input(small))
			close(over)
			cancelled(t, err)
			if s.folder.stopped() != stops {
				t.Errorf("controls: %+v, want stopped %v", s.folder.controls, stops)
			}
			last := s.folder.events[len(s.folder.events)-1]
			if !strings.HasPrefix(last, "cancelled at step ") {
				t.Errorf("last event: %q", last)
			}
			same(t, "status attribute", s.classes, []string{"running", "cancelled"})
		})
	}
}

// TestAbandonIdle cancels the workflow while it waits for groups that never come.
func TestAbandonIdle(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	s.folder.signal = func(runstate.GroupRef) {}
	s.RegisterDelayedCallback(func() {
		if status := s.status(); status.Phase != "rolling-out" || status.WaitingFor != "groups: 0 of 2 ready" {
			t.Errorf("status: %+v", status)
		}
		s.CancelWorkflow()
	}, time.Hour)
	result := cancelled(t, s.play(input(small)))
	if result.Committed != 2 || !s.folder.stopped() {
		t.Errorf("result %+v, controls %+v", result, s.folder.controls)
	}
}

func TestFailures(t *testing.T) {
	for moment, want := range map[string]string{
		"prepare":    "prepare the run folder: no device",
		"train 2":    "step 2: no device",
		"train 4":    "step 4: no device",
		"evaluate 2": "evaluation of version 2: no device",
		"publish 2":  "publish the control object: no device",
	} {
		t.Run(moment, func(t *testing.T) {
			s := newStage(t, newRunFolder(small))
			s.hook(moment, func(context.Context) error { return broken("no device") })
			failed(t, s, s.play(input(small)), want)
			if moment != "prepare" && !s.folder.stopped() {
				t.Errorf("rollout workers are not told to leave: %+v", s.folder.controls)
			}
		})
	}
}

func failed(t *testing.T, s *stage, err error, want string) {
	t.Helper()
	var failure *temporal.ApplicationError
	if !errors.As(err, &failure) || failure.Message() != want || failure.Type() != "RunFailed" {
		t.Errorf("got %v, want the failure %q", err, want)
	}
	same(t, "status attribute", s.classes, []string{"running", "failed"})
	if last := s.folder.events[len(s.folder.events)-1]; !strings.HasSuffix(last, ": "+want) {
		t.Errorf("last event: %q", last)
	}
}

func TestPoolFailure(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	s.folder.signal = func(runstate.GroupRef) {}
	s.RegisterDelayedCallback(func() {
		s.SignalWorkflow(PoolFailedSignal, PoolFailure{Pool: 1, Reason: "environment calc: no interpreter"})
	}, time.Hour)
	failed(t, s, s.play(input(small)), "rollout pool 1: environment calc: no interpreter")
}

// TestWrongStep is a learner that answers for another step than it was asked for.
func TestWrongStep(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	s.RegisterActivityWithOptions(func(context.Context, TrainInput) (TrainResult, error) { return TrainResult{Step: 9}, nil },
		activity.RegisterOptions{Name: TrainStepActivity, DisableAlreadyRegisteredCheck: true})
	failed(t, s, s.play(input(small)), "step 1: the learner was asked for step 1 and answers with step 9")
}

// TestPassingTrouble retries what passes by itself.
func TestPassingTrouble(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	for _, moment := range []string{"prepare", "train 3", "evaluate 3", "publish 4", "stop"} {
		s.hook(moment, func(context.Context) error { return errors.New("disk full") })
	}
	completed(t, s, s.play(input(small)))
}

// next returns what a workflow run carries to the next one.
func next(t *testing.T, err error) RunInput {
	t.Helper()
	var again *workflow.ContinueAsNewError
	if !errors.As(err, &again) {
		t.Fatalf("got %v, want continue-as-new", err)
	}
	var in RunInput
	if err := converter.GetDefaultDataConverter().FromPayloads(again.Input, &in); err != nil {
		t.Fatal(err)
	}
	if in.State == nil || again.WorkflowType.Name != TrainingRunType {
		t.Fatalf("continue-as-new of %s with %+v", again.WorkflowType.Name, in)
	}
	return in
}

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
		err := s.play(in)
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
	s.folder.signal = func(group runstate.GroupRef) {
		if group.Number < 2 {
			s.SignalWorkflow(GroupSignal, group)
		}
	}
	// The write of the new control is the last thing before the hand-over: what is posted without a
	// workflow task of its own comes together with its end.
	s.hook("evaluate 2", func(context.Context) error {
		s.RegisterDelayedCallback(func() { s.SetContinueAsNewSuggested(true) }, 0)
		return nil
	})
	var got reply
	s.hook("record pause asked at step 2", func(ctx context.Context) error {
		for number := range 4 {
			s.SignalWorkflowSkippingWorkflowTask(GroupSignal, runstate.GroupRef{Number: number, Object: ref("segments", number)})
		}
		return nil
	})
	s.hook("publish 2", func(ctx context.Context) (err error) {
		got, err = s.update(ctx, PauseUpdate)
		return err
	})
	in := next(t, s.play(input(small)))
	if got.status.Phase != "paused" {
		t.Errorf("reply to pause: %+v", got)
	}
	var numbers []int
	for _, group := range in.State.Ready {
		numbers = append(numbers, group.Number)
	}
	same(t, "groups carried along", numbers, []int{0, 1, 2, 3})
	if !in.State.Paused {
		t.Errorf("the pause is lost: %+v", in.State)
	}

	again := newStage(t, folder)
	again.RegisterDelayedCallback(func() { again.updateNow(ResumeUpdate, func(reply) {}) }, time.Hour)
	completed(t, again, again.play(in))
}

// TestReplyBeforeContinueAsNew asks for nothing new in the workflow task that starts the hand-over: the
// reply is given, and leaves with a task before the one that ends the history.
func TestReplyBeforeContinueAsNew(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	s.folder.signal = func(runstate.GroupRef) {}
	timers, answered := 0, -1
	s.SetOnTimerScheduledListener(func(string, time.Duration) { timers++ })
	s.RegisterDelayedCallback(func() {
		s.SetContinueAsNewSuggested(true)
		timers = 0
		s.updateNow(ResumeUpdate, func(reply) { answered = timers })
	}, time.Hour)
	in := next(t, s.play(input(small)))
	if answered < 0 || timers != 1 {
		t.Errorf("answered after %d timers, then %d before the end; want an answer and one timer", answered, timers)
	}
	if in.State.Committed != 2 {
		t.Errorf("state carried along: %+v", in.State)
	}
}

// TestCancelDuringHandover asks for the end while the workflow is about to continue as new.
func TestCancelDuringHandover(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	s.SetContinueAsNewSuggested(true)
	s.hook("prepare", func(ctx context.Context) error {
		_, err := s.update(ctx, PauseUpdate)
		return err
	})
	s.hook("record pause asked at step 0", func(ctx context.Context) error {
		_, err := s.update(ctx, CancelUpdate)
		return err
	})
	cancelled(t, s.play(input(small)))
}
