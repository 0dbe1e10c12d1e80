package nvml

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// watched runs a watch of the machine beside story, and returns what it told.
func watched(t *testing.T, m *machine, story func()) []gpu.Event {
	t.Helper()
	var told []gpu.Event
	synctest.Test(t, func(t *testing.T) {
		m.heard = make(chan heard) // of the bubble
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- newSource(m).Watch(ctx, func(e gpu.Event) { told = append(told, e) }) }()
		time.Sleep(2 * lookEvery)
		story()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the watch ended with %v", err)
		}
		synctest.Wait()
		if m.ears != 0 || m.opened != 0 {
			t.Errorf("%d event sets and %d opens stay behind", m.ears, m.opened)
		}
	})
	return told
}

func checkTold(t *testing.T, got []gpu.Event, want ...gpu.Event) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(gpu.Event{}, "At"), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("told (-want +got): %s", diff)
	}
	for _, e := range got {
		if e.At.IsZero() {
			t.Errorf("%+v has no time", e)
		}
	}
}

func TestWatchTellsEvents(t *testing.T) {
	m := newMachine(2)
	told := watched(t, m, func() {
		m.heard <- heard{something: true, events: []gpu.Event{{UUID: "GPU-1", Kind: gpu.XidEvent, Xid: 79, At: time.Now()}}}
		time.Sleep(time.Second)
	})
	checkTold(t, told, gpu.Event{UUID: "GPU-1", Kind: gpu.XidEvent, Xid: 79})
}

func TestWatchSurvivesAReload(t *testing.T) {
	m := newMachine(2)
	told := watched(t, m, func() {
		m.change(func() { m.deaf, m.reason = errors.New("the driver was unloaded meanwhile"), "unloaded" })
		time.Sleep(2 * retryLast)
		m.change(func() { m.deaf, m.reason = nil, "" })
		time.Sleep(2 * retryLast)
		m.heard <- heard{something: true, events: []gpu.Event{{UUID: "GPU-0", Kind: gpu.DoubleBitECC, At: time.Now()}}}
		time.Sleep(time.Second)
	})
	checkTold(t, told, gpu.Event{Kind: gpu.Reloaded}, gpu.Event{UUID: "GPU-0", Kind: gpu.DoubleBitECC})
	if m.opens < 2 {
		t.Error("the driver was not opened anew")
	}
}

func TestWatchTellsWhatNoEventTells(t *testing.T) {
	lost := errors.New("lost")
	for _, c := range []struct {
		name  string
		story func(m *machine)
		want  []gpu.Event
	}{
		{"nothing", func(*machine) {}, nil},
		{"a device was lost and is back", func(m *machine) {
			m.change(func() { m.boards[1].sick = lost })
			time.Sleep(2 * lookEvery)
			m.change(func() { m.boards[1].sick = nil })
		}, []gpu.Event{{UUID: "GPU-1", Kind: gpu.Reloaded}}},
		{"a device was reset between two looks", func(m *machine) {
			m.change(func() { m.boards[1].energy = 1 })
		}, []gpu.Event{{UUID: "GPU-1", Kind: gpu.Reloaded}}},
		{"a device was slow for a while", func(m *machine) {
			hang := make(chan struct{})
			m.change(func() { m.boards[1].hang, m.boards[1].energy = hang, 200 })
			time.Sleep(3 * lookEvery)
			m.change(func() { m.boards[1].hang = nil })
			close(hang)
		}, nil},
		{"the driver wants a reset, and then none", func(m *machine) {
			m.change(func() { m.boards[0].wants = gpu.RecoverReset })
			m.heard <- heard{something: true, look: true}
			time.Sleep(time.Second)
			m.change(func() { m.boards[0].wants = gpu.RecoverNone })
		}, []gpu.Event{{UUID: "GPU-0", Kind: gpu.RecoveryEvent, Text: "reset"}, {UUID: "GPU-0", Kind: gpu.RecoveryEvent}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(2)
			told := watched(t, m, func() {
				c.story(m)
				time.Sleep(3 * lookEvery)
			})
			checkTold(t, told, c.want...)
		})
	}
}

// TestWatchOpensAnew counts how often a driver is opened whose event set is of no use, with growing pauses.
func TestWatchOpensAnew(t *testing.T) {
	for name, spoil := range map[string]func(*machine){
		"waiting fails":              func(m *machine) { m.deaf = errors.New("lost") },
		"a storm of empty waits":     func(m *machine) { m.wild = true },
		"no device answers any more": func(m *machine) { m.boards[0].sick = errors.New("lost") },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(1)
			told := watched(t, m, func() {
				m.change(func() { spoil(m) })
				time.Sleep(10 * retryLast)
			})
			checkTold(t, told)
			if m.opens < 8 || m.opens > 120 {
				t.Errorf("opened %d times in five minutes", m.opens)
			}
		})
	}
}

func TestWatchWaitsForADriver(t *testing.T) {
	m := newMachine(1)
	m.reason = gpu.NoDriver
	told := watched(t, m, func() {
		m.change(func() { m.reason = "" })
		time.Sleep(2 * retryLast)
		m.heard <- heard{something: true, events: []gpu.Event{{UUID: "GPU-0", Kind: gpu.XidEvent, Xid: 31, At: time.Now()}}}
		time.Sleep(time.Second)
	})
	checkTold(t, told, gpu.Event{UUID: "GPU-0", Kind: gpu.XidEvent, Xid: 31})
}

// TestWatchEndsWithoutItsListener holds a watch whose driver hangs to its context.
func TestWatchEndsWithoutItsListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(1)
		m.boards[0].hang = make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- newSource(m).Watch(ctx, func(gpu.Event) {}) }()
		time.Sleep(time.Second)
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		close(m.boards[0].hang)
	})
}
