//go:build server

package workflows

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// loose is an asynchronous plan that takes a second or two.
func loose() runstate.Spec {
	spec := small
	spec.TrainSteps, spec.Staleness, spec.EvaluateEvery = 12, 2, 4
	return spec
}

// TestServerSynchronous plays a run from the first to the last step. A pool of an earlier run is still
// there and is replaced.
func TestServerSynchronous(t *testing.T) {
	s := newSite(t, small)
	stale, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: PoolID(s.id, 0), TaskQueue: ControlQueue},
		RolloutPoolType, PoolInput{Run: s.id, Pool: 0, Limits: s.input.Limits, Request: someNeeds.Request(s.id, PoolID(s.id, 0), lease.Rollout)})
	if err != nil {
		t.Fatal(err)
	}
	run := s.submit()
	s.rollouts("first", 4)
	s.completed(run)
	same(t, "steps", s.folder.steps(), smallSteps)
	s.ended(PoolID(s.id, 0))
	s.ended(EvaluationID(s.id, 2))
	s.save("synchronous", s.id, "")
	s.save("pool_stopped", PoolID(s.id, 0), "")
	s.save("evaluation", EvaluationID(s.id, 2), "")
	var terminated *temporal.TerminatedError
	if err := stale.Get(t.Context(), nil); err != nil && !errors.As(err, &terminated) {
		t.Errorf("the pool of an earlier run: %v", err)
	}
}

// TestServerWorkersComeAndGo begins with one rollout worker, adds one in mid-run and takes the first away.
func TestServerWorkersComeAndGo(t *testing.T) {
	s := newSite(t, loose())
	first := s.rollouts("first", 1)
	s.folder.once("train 5", func(context.Context) error {
		s.rollouts("second", 2)
		return nil
	})
	served := make(chan struct{})
	s.folder.once("train 7", func(ctx context.Context) error {
		go func() {
			defer close(served)
			first.stop()
		}()
		return nil
	})
	run := s.submit()
	s.completed(run)
	<-served
	for _, want := range []string{"served by first", "served by second", "its worker is stopping"} {
		if !s.heard(want) {
			t.Errorf("no event %q: %q", want, s.folder.events)
		}
	}
	s.save("asynchronous", s.id, "")
	for pool := range 2 {
		s.ended(PoolID(s.id, pool))
		if strings.Contains(s.history(PoolID(s.id, pool), "").String(), "its worker is stopping") {
			s.save("pool_handed_over", PoolID(s.id, pool), "")
		}
	}
}

// TestServerWorkerVanishes has a rollout worker say nothing more, with a group in its hands: that is noticed
// within three heartbeats, and the other worker plays the group.
func TestServerWorkerVanishes(t *testing.T) {
	s := newSite(t, loose())
	first := s.rollouts("first", 1)
	var noticed atomic.Int64
	s.folder.once("train 5", func(ctx context.Context) error {
		s.rollouts("second", 2)
		began := time.Now()
		first.vanish()
		for !s.heard("lost its worker: its worker stopped heartbeating") && ctx.Err() == nil {
			activity.RecordHeartbeat(ctx)
			time.Sleep(10 * time.Millisecond)
		}
		noticed.Store(int64(time.Since(began)))
		return ctx.Err()
	})
	s.completed(s.submit())
	t.Logf("noticed after %s with a heartbeat time-out of %s", time.Duration(noticed.Load()), s.input.Limits.HeartbeatTimeout)
	s.save("worker_lost", s.id, "")
	for pool := range 2 {
		s.ended(PoolID(s.id, pool))
		if strings.Contains(s.history(PoolID(s.id, pool), "").String(), "stopped heartbeating") {
			s.save("pool_lost", PoolID(s.id, pool), "")
		}
	}
}

// TestServerTerminated ends the run without its doing: pools and evaluations end by themselves.
func TestServerTerminated(t *testing.T) {
	s := newSite(t, loose())
	s.rollouts("first", 2)
	s.folder.once("evaluate 2", func(ctx context.Context) error {
		return s.client.TerminateWorkflow(ctx, s.id, "", "somebody did")
	})
	run := s.submit()
	var terminated *temporal.TerminatedError
	if err := run.Get(t.Context(), nil); !errors.As(err, &terminated) {
		t.Fatalf("got %v", err)
	}
	s.ended(EvaluationID(s.id, 2))
	again := s.submit()
	s.until("pools serve", func(status runstate.Status) bool { return len(status.Pools) == 2 && status.Committed > 3 })
	if err := s.client.TerminateWorkflow(t.Context(), s.id, "", "somebody did"); err != nil {
		t.Fatal(err)
	}
	_ = again.Get(t.Context(), nil)
	s.folder.mu.Lock() // the loops have something to tell, and find the run gone
	for i := range s.folder.control.Shares {
		s.folder.control.Shares[i].Groups = []runstate.Assignment{{Group: 1000}}
	}
	s.folder.mu.Unlock()
	s.ended(PoolID(s.id, 0))
	s.ended(PoolID(s.id, 1))
	s.completed(s.submit())
}

// TestServerSteered pauses, resumes, changes settings and cancels.
func TestServerSteered(t *testing.T) {
	s := newSite(t, loose())
	s.rollouts("first", 2)
	s.folder.once("train 5", func(ctx context.Context) error { return s.pause(ctx) })
	run := s.submit()
	s.until("paused", func(status runstate.Status) bool { return status.Phase == "paused" })
	s.class("paused")
	var reply SetReply
	if err := s.update(t.Context(), &reply, SetUpdate, overrides("training.staleness=1")); err != nil {
		t.Fatal(err)
	}
	if reply.FromStep != 6 || reply.Revision != 1 || reply.Summary != "training.staleness 2 → 1" {
		t.Errorf("reply %+v", reply)
	}
	err := s.update(t.Context(), &reply, SetUpdate, overrides("policy.layers=3"))
	if want := "policy.layers=3 cannot be changed while a run is running; training.staleness can"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := s.update(t.Context(), &reply, SetUpdate, overrides()); err == nil || !strings.Contains(err.Error(), "nothing to change") {
		t.Errorf("got %v", err)
	}
	s.folder.once("train 8", func(ctx context.Context) error { return s.update(ctx, &ControlReply{}, CancelUpdate) })
	if err := s.resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := run.Get(t.Context(), nil); !temporal.IsCanceledError(err) {
		t.Fatalf("got %v, want a cancellation", err)
	}
	s.class("cancelled")
	if last := s.folder.trained[len(s.folder.trained)-1]; last.Step != 8 || last.Config != 1 {
		t.Errorf("last step %+v", last)
	}
	s.save("steered", s.id, "")
}

// TestServerAbandoned cancels the workflow; the run closes after the learner has let go, and so do pools.
func TestServerAbandoned(t *testing.T) {
	s := newSite(t, small)
	s.rollouts("first", 2)
	var left atomic.Bool
	s.folder.once("train 4", func(ctx context.Context) error {
		if err := s.client.CancelWorkflow(ctx, s.id, ""); err != nil {
			return err
		}
		for ctx.Err() == nil {
			activity.RecordHeartbeat(ctx)
			time.Sleep(10 * time.Millisecond)
		}
		left.Store(true)
		return ctx.Err()
	})
	run := s.submit()
	if err := run.Get(t.Context(), nil); !temporal.IsCanceledError(err) {
		t.Fatalf("got %v, want a cancellation", err)
	}
	if control, _ := s.folder.last(); !left.Load() || !control.Stopped {
		t.Errorf("the learner has let go: %v; control: %+v", left.Load(), control)
	}
	s.class("cancelled")
	s.save("abandoned", s.id, "")
	s.ended(PoolID(s.id, 0))
}

// TestServerFails fails, is submitted again and completes.
func TestServerFails(t *testing.T) {
	s := newSite(t, small)
	s.rollouts("first", 2)
	s.folder.once("train 4", func(context.Context) error { return broken("no device") })
	var failure *temporal.ApplicationError
	if err := s.submit().Get(t.Context(), nil); !errors.As(err, &failure) || failure.Message() != "step 4: no device" {
		t.Fatalf("got %v, want the learner's failure", err)
	}
	s.class("failed")
	s.save("failed", s.id, "")
	s.completed(s.submit())
	s.save("restarted", s.id, "")
}

// TestServerPoolCancelled is a pool that a person cancels: the run fails with that.
func TestServerPoolCancelled(t *testing.T) {
	s := newSite(t, small)
	s.rollouts("first", 2)
	s.folder.once("train 4", func(ctx context.Context) error {
		if err := s.client.CancelWorkflow(ctx, PoolID(s.id, 1), ""); err != nil {
			return err
		}
		_ = s.client.GetWorkflow(ctx, PoolID(s.id, 1), "").Get(ctx, nil)
		return nil
	})
	var failure *temporal.ApplicationError
	if err := s.submit().Get(t.Context(), nil); !errors.As(err, &failure) || failure.Message() != "rollout pool 1: its workflow was cancelled" {
		t.Fatalf("got %v", err)
	}
	s.save("pool_cancelled", PoolID(s.id, 1), "")
}

// TestServerContinuesAsNew floods a run with signals until it continues as new under them, while groups,
// an evaluation and updates are on their way: none is lost, and no update is answered with an error.
func TestServerContinuesAsNew(t *testing.T) {
	s := newSite(t, loose())
	s.rollouts("first", 2)
	hold := make(chan struct{})
	s.folder.once("evaluate 6", func(ctx context.Context) error {
		for {
			select {
			case <-hold:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(50 * time.Millisecond):
				activity.RecordHeartbeat(ctx)
			}
		}
	})
	s.folder.once("train 8", func(ctx context.Context) error { return s.pause(ctx) })
	run := s.submit()
	first := run.GetRunID()
	s.until("pausing", func(status runstate.Status) bool { return status.Committed == 8 })
	asked := s.asked(func() { s.flood(first) })
	t.Logf("%d updates were answered meanwhile", asked)
	close(hold)
	s.until("paused", func(status runstate.Status) bool { return status.Phase == "paused" })
	if err := s.resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.completed(run)
	same(t, "evaluated", s.folder.versions(), []int{2, 6, 10, 14})
	s.save("continued", s.id, "")
}
