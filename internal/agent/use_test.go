package agent

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// TestUseWaitsForTheWord of the pool, asks for it at once, and begins work only under what the pool confirms.
func TestUseWaitsForTheWord(t *testing.T) {
	play(t, newBoard("GPU-a", "GPU-b"), func(s *scene) {
		if lost := s.refused(7, "GPU-a"); !strings.Contains(lost.Reason, "taken it back") {
			t.Errorf("a lease that nobody gave is refused with %q", lost.Reason)
		}
		s.office.grant(lent(7, "run", "GPU-a"), lent(8, "other", "GPU-b"))
		began := time.Now()
		work, release := s.at(7, "GPU-a")
		if waited := time.Since(began); waited > 0 {
			t.Errorf("a lease that the pool has given was confirmed after %s", waited)
		}
		if got := s.Status(); len(got.Held) != 1 || got.Held[0] != 7 || len(got.Leases) != 2 {
			t.Errorf("the agent holds %v of %v", got.Held, got.Leases)
		}
		s.refused(7, "GPU-b")
		s.refused(9, "GPU-b")
		before := s.office.count()
		_, again := s.at(7, "GPU-a")
		if s.office.count() != before {
			t.Error("a lease that is known was asked for")
		}
		time.Sleep(time.Minute)
		if got := s.office.last().Held; len(got) != 1 || got[0] != 7 {
			t.Errorf("the report says that %v is at work, want 7 once", got)
		}
		release()
		release()
		again()
		if over(work) == nil {
			t.Error("the context of work that has ended goes on")
		}
		if got := s.Status().Held; got != nil {
			t.Errorf("the agent holds %v after the end", got)
		}
	})
}

// TestLeaseEnds ends work when the pool takes a lease back, and when it gives it anew; other work goes on.
func TestLeaseEnds(t *testing.T) {
	play(t, newBoard("GPU-a", "GPU-b"), func(s *scene) {
		s.office.grant(lent(7, "run", "GPU-a"), lent(8, "other", "GPU-b"))
		first, release := s.at(7, "GPU-a")
		defer release()
		second, end := s.at(8, "GPU-b")
		defer end()
		s.office.grant(lent(9, "run", "GPU-a"), lent(8, "other", "GPU-b"))
		time.Sleep(5 * time.Second)
		if cause := over(first); cause == nil || !strings.Contains(cause.Error(), "given anew as lease 9") {
			t.Errorf("work under a lease that was given anew: %v", cause)
		}
		s.refused(7, "GPU-a")
		third, done := s.at(9, "GPU-a")
		defer done()
		s.office.grant(lent(8, "other", "GPU-b"))
		time.Sleep(5 * time.Second)
		var lost *LostError
		if cause := over(third); !errors.As(cause, &lost) || lost.Fence != 9 || !strings.Contains(lost.Reason, "taken it back") {
			t.Errorf("work under a lease that was taken back: %v", cause)
		}
		if cause := over(second); cause != nil {
			t.Errorf("other work ended with %v", cause)
		}
		s.office.set(func() { s.office.reply.Leases, s.office.reply.Unclaimed = nil, []int{8, 99} })
		time.Sleep(5 * time.Second)
		if cause := over(second); cause != nil {
			t.Errorf("work under a lease that a new pool does not know yet ended with %v", cause)
		}
		if len(s.ended) != 2 || s.ended[0] != 7 || s.ended[1] != 9 {
			t.Errorf("the leases that ended are %v, want 7 and 9", s.ended)
		}
	})
}

// TestSelfFencing ends all work before the pool can have given its devices away: counted from when the last
// report that was taken was sent, however long its reply took.
func TestSelfFencing(t *testing.T) {
	play(t, newBoard("GPU-a"), func(s *scene) {
		s.office.grant(lent(7, "run", "GPU-a"))
		work, release := s.at(7, "GPU-a")
		defer release()
		s.office.set(func() { s.office.slow = 4 * time.Second })
		s.office.wait(s.office.count() + 1)
		sent := time.Now().Add(-4 * time.Second)
		s.office.set(func() { s.office.away = errAway })
		time.Sleep(time.Until(sent.Add(15*time.Second - 10*time.Millisecond)))
		if cause := over(work); cause != nil {
			t.Fatalf("the work ended too early: %v", cause)
		}
		time.Sleep(10 * time.Millisecond)
		var lost *LostError
		if cause := over(work); !errors.As(cause, &lost) || !strings.Contains(lost.Reason, "15s") {
			t.Errorf("at the end of the silence the work ended with %v", cause)
		}
		if status := s.Status(); !status.CutOff || status.Leases != nil {
			t.Errorf("the agent says %+v", status)
		}
		var waiting sync.WaitGroup
		waiting.Go(func() {
			_, end := s.at(7, "GPU-a") // nobody knows yet
			end()
		})
		time.Sleep(time.Hour)
		synctest.Wait()
		s.office.set(func() { s.office.away = nil })
		waiting.Wait()
		if status := s.Status(); status.CutOff || len(status.Leases) != 1 {
			t.Errorf("after the pool is back the agent says %+v", status)
		}
		if s.ended != nil {
			t.Errorf("leases %v have ended, though the pool has them still", s.ended)
		}
	})
}

// TestLateReply does not trust a reply to a report that was sent too long ago.
func TestLateReply(t *testing.T) {
	play(t, newBoard("GPU-a"), func(s *scene) {
		s.office.grant(lent(7, "run", "GPU-a"))
		work, release := s.at(7, "GPU-a")
		defer release()
		time.Sleep(5 * time.Second)
		s.office.set(func() { s.office.away = errAway })
		time.Sleep(20 * time.Second)
		if over(work) == nil {
			t.Fatal("the work goes on")
		}
		before := s.office.count()
		s.office.set(func() { s.office.away = nil })
		time.Sleep(longestPause)
		synctest.Wait()
		if n := s.office.count() - before; n < 2 || s.Status().CutOff {
			t.Errorf("after a late reply %d reports were taken, cut off %v; want another one at once", n, s.Status().CutOff)
		}
	})
}

// TestFaultEndsWork does not wait for the pool when the device is the reason, and asks the pool before it lets
// the work begin again.
func TestFaultEndsWork(t *testing.T) {
	for _, test := range []struct {
		event gpu.Event
		ends  bool
	}{
		{gpu.Event{UUID: "GPU-a", Kind: gpu.XidEvent, Xid: 79}, true},
		{gpu.Event{UUID: "GPU-a", Kind: gpu.XidEvent, Xid: 31}, true},
		{gpu.Event{UUID: "GPU-a", Kind: gpu.XidEvent, Xid: 63}, false}, // drain: the step is finished
		{gpu.Event{UUID: "GPU-a", Kind: gpu.XidEvent, Xid: 9999}, false},
		{gpu.Event{UUID: "GPU-b", Kind: gpu.XidEvent, Xid: 79}, false},
		{gpu.Event{Kind: gpu.XidEvent, Xid: 79}, true}, // nobody can tell which
		{gpu.Event{Kind: gpu.Reloaded}, false},
	} {
		play(t, newBoard("GPU-a", "GPU-b"), func(s *scene) {
			s.office.grant(lent(7, "run", "GPU-a"))
			work, release := s.at(7, "GPU-a")
			defer release()
			s.office.set(func() { s.office.away = errAway })
			s.board.event(test.event)
			if cause := over(work); (cause != nil) != test.ends {
				t.Errorf("%+v: the work ended with %v", test.event, cause)
			}
			s.office.set(func() { s.office.away = nil })
			before := s.office.count()
			_, end := s.at(7, "GPU-a") // the pool says that the lease stands
			end()
			if asked := s.office.count() > before; asked != test.ends {
				t.Errorf("%+v: the pool was asked before work began again: %v", test.event, asked)
			}
		})
	}
}

// TestRecoveryIsReportedWithItsEvent reads the device before the pool hears that the driver changed its mind.
func TestRecoveryIsReportedWithItsEvent(t *testing.T) {
	play(t, newBoard("GPU-a"), func(s *scene) {
		time.Sleep(time.Second)
		s.board.set(func() { s.board.sick["GPU-a"] = gpu.Reading{Recovery: gpu.RecoverReset} })
		s.board.event(gpu.Event{UUID: "GPU-a", Kind: gpu.RecoveryEvent})
		synctest.Wait()
		if last := s.office.last(); len(last.Events) != 1 || last.Conditions["GPU-a"].Recovery != gpu.RecoverReset {
			t.Errorf("the report is %+v", last)
		}
	})
}

// TestUseEndsWithItsCaller waits no longer than who asks, and goes on no longer.
func TestUseEndsWithItsCaller(t *testing.T) {
	play(t, newBoard("GPU-a"), func(s *scene) {
		s.office.set(func() { s.office.away = errAway })
		ctx, cancel := context.WithTimeoutCause(s.t.Context(), time.Hour, errAway)
		defer cancel()
		if _, _, _, err := s.Use(ctx, 7, []string{"GPU-a"}); !errors.Is(err, errAway) {
			t.Errorf("work that nobody waits for any more: %v", err)
		}
		s.office.set(func() { s.office.away = nil })
		s.office.grant(lent(7, "run", "GPU-a"))
		asker, leave := context.WithCancel(s.t.Context())
		work, _, release, err := s.Use(asker, 7, []string{"GPU-a"})
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		leave()
		if !errors.Is(over(work), context.Canceled) {
			t.Errorf("work whose caller has left: %v", over(work))
		}
	})
}

// TestManyUses begin and end from many goroutines while leases come and go.
func TestManyUses(t *testing.T) {
	play(t, newBoard("GPU-a", "GPU-b"), func(s *scene) {
		var working sync.WaitGroup
		for n := range 32 {
			working.Go(func() {
				for i := range 20 {
					uuid, fence := "GPU-a", 7
					if (n+i)%2 == 0 {
						uuid, fence = "GPU-b", 8
					}
					ctx, _, release, err := s.Use(s.t.Context(), fence, []string{uuid})
					if err != nil {
						time.Sleep(time.Second)
						continue
					}
					select {
					case <-time.After(time.Duration(n) * time.Second):
					case <-ctx.Done():
					}
					release()
				}
			})
		}
		for round := range 30 {
			switch round % 3 {
			case 0:
				s.office.grant(lent(7, "run", "GPU-a"))
			case 1:
				s.office.grant(lent(7, "run", "GPU-a"), lent(8, "other", "GPU-b"))
			case 2:
				s.board.event(gpu.Event{UUID: "GPU-a", Kind: gpu.XidEvent, Xid: 13})
			}
			time.Sleep(7 * time.Second)
			_ = s.Status()
		}
		working.Wait()
		if held := s.Status().Held; held != nil {
			t.Errorf("at the end %v is at work", held)
		}
	})
}
