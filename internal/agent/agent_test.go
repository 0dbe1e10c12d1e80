package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
)

// TestReportsChangesOnly watches what an agent tells: everything once, and after that what has changed, at the
// times that the pool wants.
func TestReportsChangesOnly(t *testing.T) {
	play(t, newBoard("GPU-a", "GPU-b"), func(s *scene) {
		first := s.office.last()
		if first.Number != 1 || first.Inventory == nil || len(first.Inventory.Devices) != 2 || len(first.Conditions) != 2 || first.Session != "s1" || first.Serves.Learner != 1 {
			t.Errorf("the first report is %+v", first)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if second := s.office.last(); second.Number != 2 || second.Inventory != nil || second.Conditions != nil || second.Events != nil || second.Held != nil {
			t.Errorf("a report without news is %+v", second)
		}
		s.board.set(func() { s.board.sick["GPU-b"] = gpu.Reading{Throttle: []gpu.Throttle{gpu.ThrottleThermal}} })
		time.Sleep(readEvery + reportGap)
		synctest.Wait()
		if third := s.office.last(); third.Number != 3 || third.Inventory != nil || len(third.Conditions) != 1 || len(third.Conditions["GPU-b"].Throttle) != 1 {
			t.Errorf("a report of a device that throttles is %+v", third)
		}
		s.office.set(func() { s.office.reply.Forgot = true })
		time.Sleep(5 * time.Second)
		s.office.set(func() { s.office.reply.Forgot = false })
		time.Sleep(reportGap)
		synctest.Wait()
		if again := s.office.last(); again.Inventory == nil || len(again.Conditions) != 2 {
			t.Errorf("a report to a pool that forgot is %+v", again)
		}
		s.board.set(func() { s.board.devices = s.board.devices[:1] })
		time.Sleep(listEvery + 5*time.Second)
		synctest.Wait()
		if got := s.Status().Inventory; len(got.Devices) != 1 {
			t.Errorf("a device that was taken out is still known: %+v", got)
		}
	})
}

// TestTimesAreThePools reports as often as the reply says.
func TestTimesAreThePools(t *testing.T) {
	play(t, newBoard("GPU-a"), func(s *scene) {
		s.office.set(func() { s.office.reply.Every, s.office.reply.SilentAfter = time.Minute, 3*time.Minute })
		time.Sleep(5 * time.Second)
		synctest.Wait()
		before := s.office.count()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if got := s.office.count() - before; got != 10 {
			t.Errorf("%d reports in ten minutes, asked for one each", got)
		}
	})
}

// TestEventsAreKeptUntilTaken loses no event while the pool is away, tells each once, and tells at once.
func TestEventsAreKeptUntilTaken(t *testing.T) {
	play(t, newBoard("GPU-a"), func(s *scene) {
		s.board.event(gpu.Event{UUID: "GPU-a", Kind: gpu.XidEvent, Xid: 13})
		synctest.Wait()
		if got := s.office.last(); len(got.Events) != 1 || got.Events[0].Xid != 13 {
			t.Errorf("the report after an event is %+v", got)
		}
		s.office.set(func() { s.office.away = errAway })
		for xid := range 3 * eventsAtOnce {
			s.board.event(gpu.Event{UUID: "GPU-a", Kind: gpu.XidEvent, Xid: 1000 + xid})
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		s.office.set(func() { s.office.away = nil })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		var got []int
		numbers := map[int]bool{}
		taken, _ := s.office.all()
		for _, report := range taken {
			if numbers[report.Number] {
				t.Errorf("report %d was taken twice", report.Number)
			}
			numbers[report.Number] = true
			if len(report.Events) > eventsAtOnce {
				t.Errorf("%d events in a report", len(report.Events))
			}
			for _, event := range report.Events {
				got = append(got, event.Xid)
			}
		}
		want := []int{13}
		for xid := range 3 * eventsAtOnce {
			want = append(want, 1000+xid)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events told (-want +got):\n%s", diff)
		}
	})
}

// TestEventsAreBounded gives the oldest up when a device does not stop telling and nobody listens.
func TestEventsAreBounded(t *testing.T) {
	play(t, newBoard("GPU-a"), func(s *scene) {
		s.office.set(func() { s.office.away = errAway })
		for xid := range 3 * mostEvents {
			s.board.event(gpu.Event{UUID: "GPU-a", Kind: gpu.XidEvent, Xid: 1000 + xid})
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := len(s.events); n != mostEvents || s.events[n-1].Xid != 1000+3*mostEvents-1 {
			t.Errorf("%d events are kept, the last one %d", n, s.events[n-1].Xid)
		}
	})
}

// TestBacksOff does not hammer a server that is away, and says the same thing again, not another one.
func TestBacksOff(t *testing.T) {
	play(t, newBoard("GPU-a"), func(s *scene) {
		s.office.set(func() { s.office.away = errAway })
		time.Sleep(5 * time.Second)
		synctest.Wait()
		_, before := s.office.all()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if _, tried := s.office.all(); tried-before < 60 || tried-before > 300 {
			t.Errorf("%d attempts in ten minutes, want one each few seconds", tried-before)
		}
		s.office.set(func() { s.office.away = nil })
		time.Sleep(longestPause)
		synctest.Wait()
		if taken, _ := s.office.all(); taken[1].Number != 2 {
			t.Errorf("after the pool was away report %d comes, want 2", taken[1].Number)
		}
	})
}

// TestRefused ends the agent, and its work, with the pool's own words.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board, office := newBoard("GPU-a"), &office{reply: lease.Reply{Leases: []lease.Lease{lent(7, "run", "GPU-a")}}}
		a := New(Config{Identity: Identity{Name: "here"}, Sources: []gpu.Source{board}, Report: office.report, Log: newTestLog()})
		result := make(chan error, 1)
		go func() { result <- a.Run(t.Context()) }()
		work, _, release, err := a.Use(t.Context(), 7, []string{"GPU-a"})
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		office.set(func() {
			office.reply = lease.Reply{Refused: "agent here is another machine's: choose a name with --name"}
		})
		err = <-result
		var refused *RefusedError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), "agent here") || !strings.Contains(err.Error(), "--name") {
			t.Errorf("the agent ended with %v", err)
		}
		if cause := over(work); !errors.As(cause, &refused) {
			t.Errorf("work under a refused agent ended with %v", cause)
		}
		if _, _, _, err := a.Use(t.Context(), 7, []string{"GPU-a"}); err == nil {
			t.Error("a refused agent lets work begin")
		}
		if last := office.last(); last.Leaving {
			t.Error("a refused agent takes leave")
		}
	})
}

// TestSaysGoodbye ends work and tells the pool that the process stops. A pool that does not listen is not waited for.
func TestSaysGoodbye(t *testing.T) {
	for _, away := range []bool{false, true} {
		t.Run(fmt.Sprint("away=", away), func(t *testing.T) {
			play(t, newBoard("GPU-a"), func(s *scene) {
				s.office.grant(lent(7, "run", "GPU-a"))
				work, release := s.at(7, "GPU-a")
				defer release()
				if away {
					s.office.set(func() { s.office.away = errAway })
				}
				s.stop()
				if cause := over(work); !errors.Is(cause, errStopped) {
					t.Errorf("work of an agent that stops ended with %v", cause)
				}
				if last := s.office.last(); last.Leaving == away || len(last.Held) > 0 && !away {
					t.Errorf("the last report is %+v", last)
				}
			})
		})
	}
}

// TestSourcesFail keeps devices that cannot be listed, and says of those that cannot be read that they are gone.
func TestSourcesFail(t *testing.T) {
	play(t, newBoard("GPU-a"), func(s *scene) {
		s.office.grant(lent(7, "run", "GPU-a"))
		work, release := s.at(7, "GPU-a")
		defer release()
		s.board.set(func() {
			s.board.listing, s.board.reading, s.board.devices = errors.New("no list"), errors.New("lost it"), nil
		})
		time.Sleep(readEvery + reportGap)
		var lost *LostError
		if cause := over(work); !errors.As(cause, &lost) || !strings.Contains(cause.Error(), "lost it") {
			t.Errorf("work on a device that is gone ended with %v", cause)
		}
		if got := s.office.last(); got.Conditions["GPU-a"].Gone != "lost it" {
			t.Errorf("the report says %+v", got)
		}
		time.Sleep(listEvery)
		if got := s.Status().Inventory; len(got.Devices) != 1 {
			t.Errorf("a list that failed leaves %+v", got)
		}
	})
}

// TestSourceHangs does not hold up reports, and gives its devices up.
func TestSourceHangs(t *testing.T) {
	well, stuck := newBoard("GPU-a"), newBoard("GPU-b")
	synctest.Test(t, func(t *testing.T) {
		stuck.hangs = make(chan struct{})
		office := &office{reply: lease.Reply{Every: 5 * time.Second, SilentAfter: 15 * time.Second}}
		a := New(Config{Identity: Identity{Name: "here"}, Sources: []gpu.Source{well, stuck}, Report: office.report, Log: newTestLog()})
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = a.Run(ctx) })
		time.Sleep(firstLook + time.Second)
		synctest.Wait()
		if office.count() == 0 {
			t.Fatal("a source that hangs keeps the agent from reporting")
		}
		time.Sleep(hung)
		synctest.Wait()
		if got := a.conditions()["GPU-b"].Gone; !strings.Contains(got, "has not answered") {
			t.Errorf("the device of a driver that hangs is %q", got)
		}
		taken, _ := office.all()
		if !slices.ContainsFunc(taken, func(r lease.Report) bool { return r.Conditions["GPU-b"].Gone != "" }) {
			t.Error("the pool was not told")
		}
		stop()
		running.Wait()
	})
}
