package agent

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/kernels/device"
)

// shelf opens devices that only have names, and counts.
type shelf struct {
	mu      sync.Mutex
	opened  []string
	closed  []string
	refuses error
}

type hardware struct {
	device.Device
	name string
}

func (h hardware) Name() string { return h.name }

func (s *shelf) open(of gpu.Device, exact bool) (device.Device, func() error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuses != nil {
		return nil, nil, s.refuses
	}
	name := of.UUID
	if exact {
		name += " exact"
	}
	s.opened = append(s.opened, name)
	return hardware{name: name}, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.closed = append(s.closed, name)
		return nil
	}, nil
}

// wants compares what is open.
func (s *shelf) wants(t *testing.T, open ...string) {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := slices.Clone(s.opened)
	for _, name := range s.closed {
		at := slices.Index(now, name)
		if at < 0 {
			t.Fatalf("%s was closed and not open", name)
		}
		now = slices.Delete(now, at, at+1)
	}
	slices.Sort(now)
	if !slices.Equal(now, open) {
		t.Errorf("open are %v, want %v", now, open)
	}
}

var quiet = slog.New(slog.DiscardHandler)

func with(s *shelf) func(*Config) { return func(c *Config) { c.Open = s.open } }

// TestDevicesAreOpenUnderLeases opens a device when work first asks for it, once for all who want it in the same
// way, and closes it when no lease names it and nobody works on it any more.
func TestDevicesAreOpenUnderLeases(t *testing.T) {
	s := &shelf{}
	play(t, newBoard("GPU-a", "GPU-b"), func(sc *scene) {
		sc.office.grant(lent(7, "run", "GPU-a"), lent(8, "pool", "GPU-a"), lent(9, "other", "GPU-b"))
		_, learner, leave, err := sc.Use(sc.t.Context(), 7, []string{"GPU-a"})
		if err != nil {
			t.Fatal(err)
		}
		s.wants(t)
		first, err := learner(false)
		if err != nil || first.Name() != "GPU-a" {
			t.Fatalf("%v, %v", first, err)
		}
		_, pool, end, err := sc.Use(sc.t.Context(), 8, []string{"GPU-a"})
		if err != nil {
			t.Fatal(err)
		}
		if second, err := pool(false); err != nil || second != first {
			t.Errorf("the same device was opened twice: %v", err)
		}
		if exact, err := pool(true); err != nil || exact == first {
			t.Errorf("one device is open in both ways: %v", err)
		}
		s.wants(t, "GPU-a", "GPU-a exact")
		leave() // between two steps the learner's memory stays
		s.wants(t, "GPU-a", "GPU-a exact")
		if _, err := learner(false); err == nil {
			t.Error("a device is given to work that has ended")
		}
		sc.office.grant(lent(9, "other", "GPU-b"))
		time.Sleep(5 * time.Second)
		s.wants(t, "GPU-a", "GPU-a exact") // the pool's work has not ended
		end()
		s.wants(t)
		_, other, done, err := sc.Use(sc.t.Context(), 9, []string{"GPU-b"})
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		if _, err := other(true); err != nil {
			t.Fatal(err)
		}
		s.wants(t, "GPU-b exact")
		s.refuses = errors.New("no driver")
		if _, err := other(false); err == nil || !strings.Contains(err.Error(), "open device GPU-b: no driver") {
			t.Errorf("a device that does not open: %v", err)
		}
	}, with(s))
	if len(s.closed) != 3 { // the last one when the agent ended
		t.Errorf("closed are %v", s.closed)
	}
}

// several is a device that tells its users apart.
type several struct {
	device.Device
	user  int
	users *int
}

func (s several) Share() device.Device {
	*s.users++
	return several{s.Device, *s.users, s.users}
}

// TestUsersOfADeviceAreToldApart wants a user of the device for each who asks, whoever opened it.
func TestUsersOfADeviceAreToldApart(t *testing.T) {
	users, opened := 0, 0
	play(t, newBoard("GPU-a"), func(sc *scene) {
		sc.office.grant(lent(7, "run", "GPU-a"), lent(8, "pool", "GPU-a"))
		for i, fence := range []int{7, 8} {
			_, compute, release, err := sc.Use(sc.t.Context(), fence, []string{"GPU-a"})
			if err != nil {
				t.Fatal(err)
			}
			defer release()
			if got, err := compute(false); err != nil || got.(several).user != i+1 {
				t.Errorf("user %d: %v, %v", i+1, got, err)
			}
		}
	}, func(c *Config) {
		c.Open = func(gpu.Device, bool) (device.Device, func() error, error) {
			opened++
			return several{Device: hardware{name: "GPU-a"}, users: &users}, func() error { return nil }, nil
		}
	})
	if opened != 1 {
		t.Errorf("the device was opened %d times", opened)
	}
}

// TestEveryDeviceIsClosedAtTheEnd leaves nothing open when the agent stops while nobody works.
func TestEveryDeviceIsClosedAtTheEnd(t *testing.T) {
	s := &shelf{}
	play(t, newBoard("GPU-a"), func(sc *scene) {
		sc.office.grant(lent(7, "run", "GPU-a"))
		_, compute, release, err := sc.Use(sc.t.Context(), 7, []string{"GPU-a"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := compute(true); err != nil {
			t.Fatal(err)
		}
		release()
		s.wants(t, "GPU-a exact")
	}, with(s))
	if !slices.Equal(s.closed, []string{"GPU-a exact"}) {
		t.Errorf("closed are %v", s.closed)
	}
}

// TestFailedDevice has a device fail a process: all its work ends, the pool hears what happened before it hears a
// goodbye, and the agent ends with the failure.
func TestFailedDevice(t *testing.T) {
	for lost, kind := range map[bool]gpu.EventKind{false: gpu.ComputeFailed, true: gpu.ComputeLost} {
		synctest.Test(t, func(t *testing.T) {
			board := newBoard("GPU-a", "GPU-b")
			office := &office{}
			office.reply.Every, office.reply.SilentAfter = 5*time.Second, 15*time.Second
			office.grant(lent(7, "run", "GPU-a"), lent(8, "pool", "GPU-b"))
			s := &shelf{}
			a := New(Config{Identity: Identity{Name: "here", Session: "s1", Host: "host", Machine: "m", Boot: "b"}, Computes: []gpu.Kind{gpu.GPU},
				Sources: []gpu.Source{board}, Report: office.report, Log: quiet, Open: s.open})
			result := make(chan error, 1)
			go func() { result <- a.Run(t.Context()) }()
			var works []context.Context
			var ends []func()
			for fence, uuid := range map[int]string{7: "GPU-a", 8: "GPU-b"} {
				work, compute, release, err := a.Use(t.Context(), fence, []string{uuid})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := compute(false); err != nil {
					t.Fatal(err)
				}
				works, ends = append(works, work), append(ends, release)
			}
			failure := &device.Failure{Device: "cuda:0", Operation: "Product", Reason: "CUDA_ERROR_ILLEGAL_ADDRESS", Lost: lost}
			a.Failed("GPU-a", failure)
			a.Failed("GPU-b", &device.Failure{Device: "cuda:1"})
			for _, work := range works {
				if cause := over(work); cause == nil || !strings.Contains(cause.Error(), failure.Error()) {
					t.Errorf("work in the process goes on, or ends with %v", cause)
				}
			}
			var failed *FailedError
			if err := <-result; !errors.As(err, &failed) || failed.UUID != "GPU-a" || !errors.Is(err, error(failure)) {
				t.Errorf("the agent ended with %v", err)
			}
			reports, _ := office.all()
			last, before := reports[len(reports)-1], reports[len(reports)-2]
			if !last.Leaving || before.Leaving || len(before.Held) > 0 {
				t.Errorf("the agent says goodbye with %+v after %+v", last, before)
			}
			if len(before.Events) != 1 || before.Events[0].Kind != kind || before.Events[0].UUID != "GPU-a" || !strings.Contains(before.Events[0].Text, failure.Reason) {
				t.Errorf("the pool hears of %+v", before.Events)
			}
			s.wants(t, "GPU-a", "GPU-b") // work has not come to its end
			for _, end := range ends {
				end()
			}
			s.wants(t)
		})
	}
}

// TestFailedWhileThePoolIsAway leaves without having told anybody, and not late.
func TestFailedWhileThePoolIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		office := &office{}
		a := New(Config{Identity: Identity{Name: "here"}, Sources: []gpu.Source{newBoard("GPU-a")}, Report: office.report, Log: quiet})
		result := make(chan error, 1)
		go func() { result <- a.Run(t.Context()) }()
		time.Sleep(time.Second)
		office.set(func() { office.away = errAway })
		time.Sleep(time.Minute)
		began := time.Now()
		a.Failed("GPU-a", &device.Failure{Device: "cuda:0"})
		if err := <-result; err == nil || time.Since(began) > 2*leavePatience {
			t.Errorf("the agent ended with %v after %s", err, time.Since(began))
		}
	})
}
