package workflows

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

func TestFullRun(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	completed(t, s, s.carry(input(small)))
	same(t, "pools", s.pools, []string{"a-run/pool/0", "a-run/pool/1"})
	same(t, "status attribute", s.classes, []string{"running", "completed"})
	if _, last := s.folder.last(); last != "completed at step 5 of 5" {
		t.Errorf("last event %q", last)
	}
}

// TestSteps looks at what the learner is told beside the batch.
func TestSteps(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	completed(t, s, s.carry(input(small)))
	for i, step := range s.folder.trained {
		if step.Config != 0 || step.Checkpoint != small.CheckpointDue(i+1) {
			t.Errorf("step %d: settings revision %d, checkpoint %v", step.Step, step.Config, step.Checkpoint)
		}
	}
}

func TestFork(t *testing.T) {
	folder := newRunFolder(small)
	s := newStage(t, folder)
	in := input(small)
	in.Fork = &Fork{Run: "another-run", Step: 4}
	if err := s.carry(in); err != nil {
		t.Fatal(err)
	}
	same(t, "steps", folder.steps(), []string{"5 reinforce 0,1"})
}

func TestRestartFromFolder(t *testing.T) {
	folder := newRunFolder(small)
	s := newStage(t, folder)
	folder.once("train 4", func(context.Context) error { return broken("no device") })
	if err := s.carry(input(small)); err == nil {
		t.Fatal("the run did not fail")
	}
	again := newStage(t, folder)
	completed(t, again, again.carry(input(small)))
	for _, want := range []string{"failed at step 3 of 5: step 4: no device", "continuing from step 3 of 5", "completed at step 5 of 5"} {
		if !slices.Contains(folder.events, want) {
			t.Errorf("no event %q: %q", want, folder.events)
		}
	}
}

func TestPauseAndResume(t *testing.T) {
	for moment, phase := range map[string]string{
		"prepare": "pausing", "train 1": "pausing", "evaluate 2": "pausing", "train 4": "pausing", "train 5": "pausing",
	} {
		t.Run(moment, func(t *testing.T) {
			s := newStage(t, newRunFolder(small))
			var got reply
			s.folder.once(moment, func(ctx context.Context) (err error) {
				got, err = s.update(ctx, PauseUpdate)
				return err
			})
			var paused, resumed runstate.Status
			s.RegisterDelayedCallback(func() {
				paused = s.status()
				s.updateNow(func(r reply) { resumed = r.status }, ResumeUpdate)
			}, time.Hour)
			completed(t, s, s.carry(input(small)))
			if got.status.Phase != phase || got.status.WaitingFor == "" {
				t.Errorf("reply to pause: got %+v, want %s", got, phase)
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
	s.folder.once("train 4", func(ctx context.Context) (err error) {
		first, err = s.update(ctx, PauseUpdate)
		<-answered
		return err
	})
	s.folder.once("record pause asked at step 3", func(ctx context.Context) (err error) {
		second, err = s.update(ctx, ResumeUpdate)
		close(answered)
		return err
	})
	completed(t, s, s.carry(input(small)))
	if first.status.Phase != "pausing" || second.status.Phase != "training" {
		t.Errorf("replies: %+v and %+v", first, second)
	}
}

// TestUpdatesAtTheEnd asks while the last objects are written: refused, and nothing hangs.
func TestUpdatesAtTheEnd(t *testing.T) {
	for _, moment := range []string{"stop", "record completed at step 5 of 5"} {
		for name, args := range map[string][]any{CancelUpdate: nil, SetUpdate: {SetInput{Overrides: []string{"training.staleness=1"}}}} {
			s := newStage(t, newRunFolder(small))
			var got reply
			s.folder.once(moment, func(ctx context.Context) (err error) {
				got, err = s.update(ctx, name, args...)
				return err
			})
			completed(t, s, s.carry(input(small)))
			if want := name + ": the run has ended (completed)"; got.rejected != want {
				t.Errorf("%s: got %+v, want the rejection %q", moment, got, want)
			}
		}
	}
}

func TestCancel(t *testing.T) {
	for moment, committed := range map[string]int{"prepare": 0, "train 2": 2, "train 4": 4} {
		t.Run(moment, func(t *testing.T) {
			s := newStage(t, newRunFolder(small))
			var got reply
			s.folder.once(moment, func(ctx context.Context) (err error) {
				got, err = s.update(ctx, CancelUpdate)
				return err
			})
			result := cancelled(t, s.carry(input(small)))
			if result.Committed != committed || s.folder.committed != committed {
				t.Errorf("committed: result %+v, folder %d, want %d", result, s.folder.committed, committed)
			}
			if got.status.Phase != "cancelling" {
				t.Errorf("reply: %+v", got)
			}
			stopped(t, s, true)
			same(t, "status attribute", s.classes, []string{"running", "cancelled"})
		})
	}
}

// stopped checks whether rollout workers were told to leave.
func stopped(t *testing.T, s *stage, want bool) {
	t.Helper()
	if control, _ := s.folder.last(); control.Stopped != want {
		t.Errorf("control %+v, want stopped %v", control, want)
	}
}

// TestAbandon cancels the workflow itself: at once, but rollout workers are sent home.
func TestAbandon(t *testing.T) {
	for moment, stops := range map[string]bool{"prepare": false, "train 2": false, "train 4": true, "publish 3": true} {
		t.Run(moment, func(t *testing.T) {
			s := newStage(t, newRunFolder(small))
			over := make(chan struct{})
			s.folder.once(moment, func(ctx context.Context) error {
				s.RegisterDelayedCallback(s.CancelWorkflow, 0)
				<-over
				return ctx.Err()
			})
			err := s.carry(input(small))
			close(over)
			cancelled(t, err)
			stopped(t, s, stops)
			if _, last := s.folder.last(); !strings.HasPrefix(last, "cancelled at step ") {
				t.Errorf("last event: %q", last)
			}
			same(t, "status attribute", s.classes, []string{"running", "cancelled"})
		})
	}
}

// TestAbandonIdle cancels the workflow while it waits for groups that never come.
func TestAbandonIdle(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	s.play = func(runstate.Control) {}
	s.RegisterDelayedCallback(func() {
		status := s.status()
		if status.Phase != "rolling-out" || status.GroupsReady != 0 || status.Stalled == nil {
			t.Errorf("status: %+v", status)
		}
		s.CancelWorkflow()
	}, time.Hour)
	result := cancelled(t, s.carry(input(small)))
	if result.Committed != 2 {
		t.Errorf("result %+v", result)
	}
	stopped(t, s, true)
	if stalls := mentions(s.folder.events, "stalled: "); stalls != 1 {
		t.Errorf("%d stalls in the events %q, want one", stalls, s.folder.events)
	}
}

// mentions counts the lines that begin so.
func mentions(lines []string, prefix string) int {
	n := 0
	for _, line := range lines {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
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
			s.folder.once(moment, func(context.Context) error { return broken("no device") })
			failed(t, s, s.carry(input(small)), want)
			if moment != "prepare" {
				stopped(t, s, true)
			}
		})
	}
}

func TestPoolFailure(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	s.play = func(runstate.Control) {}
	s.RegisterDelayedCallback(func() {
		s.SignalWorkflow(PoolSignal, PoolNews{Pool: 1, State: PoolFailed, Reason: "environment calc: no interpreter"})
	}, time.Minute)
	failed(t, s, s.carry(input(small)), "rollout pool 1: environment calc: no interpreter")
}

// TestUnknownNews is news from a program with more states than this one.
func TestUnknownNews(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	s.folder.once("train 4", func(context.Context) error {
		s.SignalWorkflow(PoolSignal, PoolNews{Pool: 1, State: "dreaming"})
		return nil
	})
	completed(t, s, s.carry(input(small)))
}

// TestWrongStep is a learner that answers for another step than it was asked for.
func TestWrongStep(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	s.RegisterActivityWithOptions(func(context.Context, TrainInput) (TrainResult, error) { return TrainResult{Step: 9}, nil },
		activity.RegisterOptions{Name: TrainStepActivity, DisableAlreadyRegisteredCheck: true})
	failed(t, s, s.carry(input(small)), "step 1: the learner was asked for step 1 and answers with step 9")
}

// TestPassingTrouble retries what passes by itself.
func TestPassingTrouble(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	for _, moment := range []string{"prepare", "train 3", "evaluate 3", "publish 4", "stop"} {
		s.folder.once(moment, func(context.Context) error { return errors.New("disk full") })
	}
	completed(t, s, s.carry(input(small)))
}

// TestCorruptGroup has a group made again that does not hold what it held, and trains it then.
func TestCorruptGroup(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	corrupt := true
	s.RegisterActivityWithOptions(func(ctx context.Context, input TrainInput) (TrainResult, error) {
		if input.Step == 4 && corrupt {
			corrupt = false
			return TrainResult{Step: 4, Corrupt: []int{3}}, nil
		}
		return s.folder.TrainStep(ctx, input)
	}, activity.RegisterOptions{Name: TrainStepActivity, DisableAlreadyRegisteredCheck: true})
	completed(t, s, s.carry(input(small)))
	if mentions(s.folder.events, "group 3 was corrupt") != 1 {
		t.Errorf("events %q", s.folder.events)
	}
}

// TestCorruptWeights has an object with weights made again that a loop could not read.
func TestCorruptWeights(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	s.folder.once("train 4", func(context.Context) error {
		for range 2 {
			s.SignalWorkflow(GroupsSignal, GroupsReport{CorruptWeights: "weights/3"})
		}
		return nil
	})
	completed(t, s, s.carry(input(small)))
	same(t, "repaired", s.folder.repaired, []string{"weights/3"})

	s = newStage(t, newRunFolder(small))
	s.folder.once("train 4", func(context.Context) error {
		s.SignalWorkflow(GroupsSignal, GroupsReport{CorruptWeights: "weights/3"})
		return nil
	})
	s.folder.once("repair weights/3", func(context.Context) error { return broken("no checkpoint") })
	failed(t, s, s.carry(input(small)), "weights/3 is corrupt and cannot be made again: no checkpoint")
}

// TestNewestControl writes only the newest of the control objects that are decided while one is written.
func TestNewestControl(t *testing.T) {
	folder := newRunFolder(small)
	s := newStage(t, folder)
	s.play = func(runstate.Control) {}
	folder.once("publish 2", func(ctx context.Context) error {
		for range 3 {
			if _, err := s.update(ctx, PauseUpdate); err != nil {
				return err
			}
			if _, err := s.update(ctx, ResumeUpdate); err != nil {
				return err
			}
		}
		return nil
	})
	s.RegisterDelayedCallback(s.CancelWorkflow, time.Hour)
	cancelled(t, s.carry(input(small)))
	control, _ := folder.last()
	if folder.written > control.Revision-4 {
		t.Errorf("%d controls written of %d", folder.written, control.Revision)
	}
}
