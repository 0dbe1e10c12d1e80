package workflows

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

func overrides(values ...string) SetInput { return SetInput{Overrides: values} }

// TestSet changes the staleness while a step is in flight: the next one uses it, and the manifest of
// each step says which revision it used.
func TestSet(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	var got reply
	s.folder.once("train 4", func(ctx context.Context) (err error) {
		got, err = s.update(ctx, SetUpdate, overrides("training.staleness=2"))
		return err
	})
	completed(t, s, s.carry(input(small)))
	if got.set.Revision != 1 || got.set.Summary != "training.staleness 0 → 2" || got.set.FromStep != 5 || got.status.Staleness != 2 {
		t.Errorf("reply: %+v", got)
	}
	var revisions []int
	for _, step := range s.folder.trained {
		revisions = append(revisions, step.Config)
	}
	same(t, "revisions", revisions, []int{0, 0, 0, 0, 1})
	if mentions(s.folder.events, "from step 5 on: training.staleness 0 → 2") != 1 {
		t.Errorf("events %q", s.folder.events)
	}
	if s.folder.changes[0].Base != 0 {
		t.Errorf("change %+v", s.folder.changes[0])
	}
}

// TestSetRefused gives one sentence for what a person got wrong.
func TestSetRefused(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	var empty, unknown, late reply
	s.folder.once("train 4", func(ctx context.Context) (err error) {
		if empty, err = s.update(ctx, SetUpdate, overrides()); err != nil {
			return err
		}
		if unknown, err = s.update(ctx, SetUpdate, overrides("policy.layers=3")); err != nil {
			return err
		}
		if _, err = s.update(ctx, CancelUpdate); err != nil {
			return err
		}
		late, err = s.update(ctx, SetUpdate, overrides("training.staleness=2"))
		return err
	})
	cancelled(t, s.carry(input(small)))
	if want := "set: nothing to change: give at least one key=value"; empty.rejected != want {
		t.Errorf("got %q, want %q", empty.rejected, want)
	}
	if want := "failed: policy.layers=3 cannot be changed while a run is running; training.staleness can"; unknown.rejected != want {
		t.Errorf("got %q, want %q", unknown.rejected, want)
	}
	if want := "set: the run is cancelling"; late.rejected != want {
		t.Errorf("got %q, want %q", late.rejected, want)
	}
	if len(s.folder.changes) != 0 {
		t.Errorf("changes %+v", s.folder.changes)
	}
}

// TestSetsFollowEachOther asks for three changes at once: each builds on the one before.
func TestSetsFollowEachOther(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	replies := make(chan reply, 3)
	s.folder.once("train 4", func(ctx context.Context) error {
		s.RegisterDelayedCallback(func() {
			for staleness := range 3 {
				s.updateNow(func(r reply) { replies <- r }, SetUpdate, overrides(fmt.Sprintf("training.staleness=%d", staleness+1)))
			}
		}, 0)
		before := 0
		for i := range 3 {
			select {
			case r := <-replies:
				want := fmt.Sprintf("training.staleness %d → %d", before, r.status.Staleness)
				if r.rejected != "" || r.set.Revision != i+1 || r.set.Summary != want {
					t.Errorf("reply: %+v, want revision %d, %s", r, i+1, want)
				}
				before = r.status.Staleness
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	completed(t, s, s.carry(input(small)))
	for i, change := range s.folder.changes {
		if change.Base != i || change.Revision != i+1 {
			t.Errorf("change %d: %+v", i, change)
		}
	}
}

// TestSetWithoutLearner says so when nobody makes the change in time.
func TestSetWithoutLearner(t *testing.T) {
	s := newStage(t, newRunFolder(small))
	s.play = func(runstate.Control) {}
	s.OnActivity(ChangeConfigActivity, anything, anything).Return(ChangeResult{}, errors.New("disk full")).Maybe()
	var got reply
	s.RegisterDelayedCallback(func() { s.updateNow(func(r reply) { got = r }, SetUpdate, overrides("training.staleness=1")) }, time.Minute)
	s.RegisterDelayedCallback(s.CancelWorkflow, time.Hour)
	cancelled(t, s.carry(input(small)))
	if want := "failed: disk full"; got.rejected != want {
		t.Errorf("got %q, want %q", got.rejected, want)
	}
}

// TestSetSurvivesRestart starts the run again on a folder with changed settings.
func TestSetSurvivesRestart(t *testing.T) {
	folder := newRunFolder(small)
	s := newStage(t, folder)
	folder.once("train 4", func(ctx context.Context) error {
		if _, err := s.update(ctx, SetUpdate, overrides("training.staleness=1")); err != nil {
			return err
		}
		return broken("no device")
	})
	if err := s.carry(input(small)); err == nil {
		t.Fatal("the run did not fail")
	}
	again := newStage(t, folder)
	if err := again.carry(input(small)); err != nil {
		t.Fatal(err)
	}
	if last := folder.trained[len(folder.trained)-1]; last.Config != 1 || again.status().Staleness != 1 {
		t.Errorf("last step with revision %d, status %+v", last.Config, again.status())
	}
}
