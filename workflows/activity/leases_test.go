package activity

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.temporal.io/sdk/temporal"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// errTaken is why a lease ends in these tests.
var errTaken = errors.New("device GPU-1 XID 79 has fallen off the bus")

// revocable are leases that a test takes back.
type revocable struct {
	device.Device
	mu      sync.Mutex
	refuse  error
	revokes []context.CancelCauseFunc
	under   []int // fences of the work that began
	done    int   // pieces of work that ended
	failed  []*device.Failure
}

func (r *revocable) Use(ctx context.Context, fence int, _ []string) (context.Context, func(bool) (device.Device, error), func(), error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse != nil {
		return nil, nil, nil, r.refuse
	}
	ctx, revoke := context.WithCancelCause(ctx)
	r.revokes, r.under = append(r.revokes, revoke), append(r.under, fence)
	return ctx, func(bool) (device.Device, error) { return r.Device, nil }, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.done++
		revoke(nil)
	}, nil
}

func (r *revocable) Failed(_ string, failure *device.Failure) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, failure)
}

// revoke takes every lease back.
func (r *revocable) revoke() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, revoke := range r.revokes {
		revoke(errTaken)
	}
}

// isLeaseLost says whether an activity says that its lease has ended, and why, and may be tried again.
func isLeaseLost(err error) bool {
	var application *temporal.ApplicationError
	return errors.As(err, &application) && application.Type() == workflows.LeaseLost && !application.NonRetryable() &&
		strings.Contains(err.Error(), errTaken.Error()) && !isLasting(classify(err))
}

// TestTwoLearnersBelieveThatTheyHoldTheDevice computes one step in two processes. The one whose lease has moved on
// does not know it and comes to its commit; it cannot, whichever of them was first there, and the step stands as
// it would with one learner.
func TestTwoLearnersBelieveThatTheyHoldTheDevice(t *testing.T) {
	alone := newApprentice(t)
	alone.trainTo(3)
	for name, when := range map[string]string{"the other one commits while this computes": "segments/", "the other one commits while this stores": "weights/"} {
		t.Run(name, func(t *testing.T) {
			p := newApprentice(t)
			p.trainTo(2)
			input := p.input(3)
			stale, current := fresh(p.dir), fresh(p.dir)
			older, newer := input, input
			older.Fence, older.Lease = 7, workflows.Under{Fence: 7, Agent: "one", Devices: []string{"GPU-1"}}
			newer.Fence, newer.Lease = 8, workflows.Under{Fence: 8, Agent: "two", Devices: []string{"GPU-1"}}
			overtaken := false
			stale.faults = func(op, key string) error {
				if !overtaken && strings.HasPrefix(key, when) {
					overtaken = true
					if _, err := current.trainStep(t.Context(), newer, newer.Fence<<attemptBits|1); err != nil {
						t.Errorf("the learner with the lease: %v", err)
					}
				}
				return nil
			}
			_, err := stale.trainStep(t.Context(), older, older.Fence<<attemptBits|1)
			if !errors.Is(err, runfolder.ErrStale) || !overtaken || isLasting(classify(err)) {
				t.Errorf("the learner without, overtaken %v: %v; want %v", overtaken, err, runfolder.ErrStale)
			}
			if _, err := stale.trainStep(t.Context(), older, older.Fence<<attemptBits|2); !errors.Is(err, runfolder.ErrStale) {
				t.Errorf("the learner without, once more: %v, want %v", err, runfolder.ErrStale)
			}
			manifest := p.manifest(3)
			if manifest.Fence != 8<<attemptBits|1 {
				t.Errorf("step 3 has fence %d, want that of the lease", manifest.Fence)
			}
			var rows []string
			for _, row := range manifest.Ledger {
				rows = append(rows, row.Trajectory)
			}
			if want := len(input.Batch) * 3; len(rows) != want || len(slices.Compact(slices.Sorted(slices.Values(rows)))) != want {
				t.Errorf("the ledger of step 3 holds %v, want each of %d trajectories once", rows, want)
			}
			if lines, err := p.folder().Metrics(t.Context()); err != nil || len(lines) != 3 {
				t.Errorf("%d lines of metrics, %v; want one for each step", len(lines), err)
			}
			equalSteps(t, alone.digests(0), p.digests(0))
			p.a, p.fence = stale, 8
			p.trainTo(4) // under a lease of its own it goes on from what the other one made
		})
	}
}

// TestStepWithoutItsLease ends at once, commits nothing, and is made from what is committed under the next lease.
func TestStepWithoutItsLease(t *testing.T) {
	p := newApprentice(t)
	p.trainTo(2)
	leases := &revocable{Device: p.a.Processor}
	p.a.Leases = leases
	input := p.input(3)
	input.Lease.Fence = 7
	p.a.faults = func(op, key string) error {
		if op == "put" && strings.HasPrefix(key, "weights/") {
			leases.revoke()
		}
		return nil
	}
	if _, err := p.order(input); !isLeaseLost(err) {
		t.Errorf("a step that loses its lease: %v", err)
	}
	if _, err := p.folder().Manifest(t.Context(), 3); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("step 3: %v, want none", err)
	}
	p.a.faults = nil
	p.a.mu.Lock()
	before := p.a.sessions[p.run]
	p.a.mu.Unlock()
	p.a.LeaseEnded(6)
	if before.freed || before.fence != 7 {
		t.Errorf("the end of lease 6 frees the learner of lease %d", before.fence)
	}
	p.a.LeaseEnded(7)
	if !before.freed || p.a.sessions[p.run] != nil {
		t.Error("the learner of a lease that has ended stays in memory")
	}
	leases.refuse = errTaken
	if _, err := p.order(p.input(3)); !isLeaseLost(err) {
		t.Errorf("a step under a lease that does not hold: %v", err)
	}
	leases.refuse = nil
	input = p.input(3)
	input.Lease.Fence = 8
	p.train(input)
	next := p.input(4)
	next.Lease.Fence = 9 // given anew: begin from what is committed
	p.train(next)
	if got := p.a.sessions[p.run].fence; got != 9 {
		t.Errorf("the learner in memory is of lease %d, want 9", got)
	}
	if diff := cmp.Diff([]int{7, 8, 9}, leases.under); diff != "" || leases.done != 3 {
		t.Errorf("work began under leases %v and ended %d times", leases.under, leases.done)
	}
	alone := newApprentice(t)
	alone.trainTo(4)
	equalSteps(t, alone.digests(0), p.digests(0))
}

// TestLearnerInUseOutlivesItsLease is freed once, by who uses it.
func TestLearnerInUseOutlivesItsLease(t *testing.T) {
	p := newApprentice(t)
	s, release, err := p.a.session(t.Context(), p.run, 7, on(p.a.Processor))
	if err != nil {
		t.Fatal(err)
	}
	var waiting sync.WaitGroup
	waiting.Go(func() { // somebody who waits for it gets another one
		other, done, err := p.a.session(t.Context(), p.run, 7, on(p.a.Processor))
		if err != nil {
			t.Error(err)
			return
		}
		defer done()
		if other == s && s.freed {
			t.Error("a learner without memory is given out")
		}
	})
	p.a.LeaseEnded(7)
	if s.freed {
		t.Error("a learner loses its memory in use")
	}
	release()
	waiting.Wait()
	if !s.freed {
		t.Error("the memory of a learner whose lease has ended stays")
	}
	p.a.LeaseEnded(7)
}

// TestRepairWithoutItsLease leaves the object to the next lease.
func TestRepairWithoutItsLease(t *testing.T) {
	p := newApprentice(t, "checkpoint.every=1")
	p.trainTo(2)
	key := p.manifest(2).Weights.Key
	p.spoil(key)
	p.a.Leases = &revocable{refuse: errTaken}
	if err := p.a.repair(t.Context(), workflows.RepairInput{Run: p.run, Key: key}); !isLeaseLost(err) {
		t.Errorf("a repair without a lease: %v", err)
	}
	p.restart()
	if err := p.a.repair(t.Context(), workflows.RepairInput{Run: p.run, Key: key}); err != nil {
		t.Error(err)
	}
	p.sound(*p.manifest(2).Weights)
}

// TestLoopLosesItsLease in the middle of turns: the loop ends and says why, nothing counts as a failure of an
// episode, and the next tenure goes on at the turns that were cut off.
func TestLoopLosesItsLease(t *testing.T) {
	staged(t, func(t *testing.T, s *stand) {
		leases := &revocable{Device: s.a.Processor}
		s.a.Leases = leases
		s.engine.lag = time.Minute
		l := s.live(time.Hour)
		s.until(func() bool { return s.serving() == 1 })
		s.assign(1, group(0), group(1))
		time.Sleep(30 * time.Second)
		leases.revoke()
		<-l.ended
		if !isLeaseLost(l.err) || l.took > time.Minute {
			t.Errorf("the loop ended after %s with %v", l.took, l.err)
		}
		leases.refuse = errTaken
		l = s.live(time.Hour)
		<-l.ended
		if !isLeaseLost(l.err) {
			t.Errorf("a loop whose lease does not hold ended with %v", l.err)
		}
		leases.refuse, s.engine.lag = nil, time.Second
		l = s.live(time.Hour)
		s.until(func() bool { return s.serving() == 2 })
		s.publish(func(c *runstate.Control) {
			c.Shares = []runstate.Share{{Pool: 0, Tenure: 2, Groups: []runstate.Assignment{{Group: 0, Moved: true}, {Group: 1, Moved: true}}}}
		})
		s.until(func() bool { return len(s.ready()) == 2 })
		l.end()
		if s.short(0) != nil || s.short(1) != nil || s.dropped() != nil {
			t.Errorf("groups are short or dropped: %+v", s.reports)
		}
		for number := range 2 {
			for _, attempt := range s.stored(number).Attempts {
				if isFault(attempt.Failure) {
					t.Errorf("group %d: %+v counts as a failure of the episode", number, attempt)
				}
			}
		}
		for _, report := range s.reports {
			for _, ready := range report.Ready {
				if ready.Failed != 0 {
					t.Errorf("group %d counts %d failures", ready.Number, ready.Failed)
				}
			}
		}
	})
}

// TestEvaluationLosesItsLease records nothing, and is the same under the next lease.
func TestEvaluationLosesItsLease(t *testing.T) {
	staged(t, func(t *testing.T, s *stand) {
		leases := &revocable{Device: s.a.Processor}
		s.a.Leases = leases
		s.engine.lag = time.Minute
		ended := make(chan error, 1)
		go func() { ended <- s.a.evaluate(t.Context(), workflows.EvaluateInput{Run: runID, Version: 2}) }()
		time.Sleep(30 * time.Second)
		leases.revoke()
		if err := <-ended; !isLeaseLost(err) {
			t.Errorf("an evaluation that loses its lease: %v", err)
		}
		if _, err := s.folder().Evaluation(t.Context(), 2); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("it is recorded: %v", err)
		}
		if err := s.a.evaluate(t.Context(), workflows.EvaluateInput{Run: runID, Version: 2}); err != nil {
			t.Error(err)
		}
		synctest.Wait()
	})
}

// TestCancelledWorkIsNotLost says so when the activity itself was withdrawn.
func TestCancelledWorkIsNotLost(t *testing.T) {
	a := fresh(t.TempDir())
	ctx, cancel := context.WithCancelCause(t.Context())
	err := a.underLease(ctx, job{}, func(ctx context.Context, _ *bay) error {
		cancel(&rollout.Failure{Kind: rollout.FailedCancelled, Err: errTaken})
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) || isLeaseLost(err) {
		t.Errorf("withdrawn work ended with %v", err)
	}
}
