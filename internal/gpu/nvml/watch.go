package nvml

import (
	"context"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// Times of a watch.
const (
	// hear is how long one wait for events lasts at most, and so how long a watch outlives its context.
	hear = 500 * time.Millisecond
	// lookEvery is how often a watch reads the devices to see what no event tells: that one was reset.
	lookEvery = 10 * time.Second
	// retryFirst and retryLast bound the pause before the driver is opened anew.
	retryFirst, retryLast = time.Second, 30 * time.Second
	// storm is how many waits in a row may end at once without an event before the event set is taken for dead.
	storm = 20
)

// ear hears events of the devices that were there when it was made.
type ear interface {
	// wait waits for the next for at most as long as said.
	wait(most time.Duration) (heard, error)
	free()
}

// heard is what one wait brought.
type heard struct {
	// something is false when the time was over first.
	something bool
	events    []gpu.Event
	// look asks to read the devices: what happened shows there.
	look bool
}

// Watch waits in the driver in a goroutine of its own. When the driver keeps that goroutine longer than a wait
// may last, the watch ends without it.
//
// Reloaded of all devices is told when the driver was away and is back; of one, when it had been lost and answers
// again, or when what counts from the loading of its driver fell. Corrected memory errors are no events: they
// are counted in readings.
func (s *source) Watch(ctx context.Context, tell func(gpu.Event)) error {
	events, done := make(chan gpu.Event), make(chan struct{})
	w := &watch{source: s, send: func(e gpu.Event) {
		select {
		case events <- e:
		case <-ctx.Done():
		}
	}}
	go func() {
		defer close(done)
		w.run(ctx)
	}()
	for {
		select {
		case e := <-events:
			tell(e)
		case <-ctx.Done():
			left := time.NewTimer(patience)
			defer left.Stop()
			select {
			case <-done:
			case <-left.C:
			}
			return ctx.Err()
		}
	}
}

// watch is one call of Watch.
type watch struct {
	source *source
	send   func(gpu.Event)
	last   map[string]beat
	// opened says that the driver was there once, away that it has gone since.
	opened, away bool
}

// run listens until ctx ends, and begins anew with growing pauses after what made it stop.
func (w *watch) run(ctx context.Context) {
	pause := retryFirst
	for ctx.Err() == nil {
		began := time.Now()
		w.listen(ctx)
		if time.Since(began) > retryLast {
			pause = retryFirst
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		pause = min(2*pause, retryLast)
	}
}

// listen opens the driver and hears until something calls for opening it anew.
func (w *watch) listen(ctx context.Context) {
	driver := w.source.driver
	reason, err := driver.open()
	if err != nil || reason != "" {
		w.away = w.opened
		w.look(ctx)
		return
	}
	defer driver.close()
	ear, err := driver.listen()
	if err != nil {
		w.look(ctx)
		return
	}
	defer ear.free()
	if w.away {
		w.last = nil
		w.send(gpu.Event{Kind: gpu.Reloaded, At: time.Now()})
	}
	w.opened, w.away = true, false
	w.look(ctx)
	w.hear(ctx, ear)
}

// hear waits for events until the ear fails, goes wild, or a device was lost or is back.
func (w *watch) hear(ctx context.Context, ear ear) {
	early, looked := 0, time.Now()
	for ctx.Err() == nil {
		asked := time.Now()
		got, err := ear.wait(hear)
		if err != nil {
			w.look(ctx)
			return
		}
		for _, e := range got.events {
			w.send(e)
		}
		if got.something || time.Since(asked) > hear/10 {
			early = 0
		} else if early++; early > storm {
			return
		}
		if got.look || time.Since(looked) >= lookEvery {
			if w.look(ctx) {
				return
			}
			looked = time.Now()
		}
	}
}

// look reads the devices and tells what changed. It reports whether the driver has to be opened anew, because a
// device was lost or is back or because none answers.
func (w *watch) look(ctx context.Context) (anew bool) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	readings, err := w.source.Read(ctx)
	if err != nil && len(readings) == 0 || ctx.Err() != nil {
		return false
	}
	var changed []gpu.Event
	w.last, changed, anew = compare(w.last, readings, time.Now())
	for _, e := range changed {
		w.send(e)
	}
	return anew
}

// beat is what two readings of a device are compared by.
type beat struct {
	gone     string
	energy   float64 // the last that was told, in joules since the driver was loaded; 0 is unknown
	recovery gpu.Recovery
}

// compare says what became of each device. A device that was only silent and answers again was not reset unless
// its count of energy fell.
func compare(last map[string]beat, readings []gpu.Reading, now time.Time) (next map[string]beat, events []gpu.Event, anew bool) {
	next = map[string]beat{}
	answering := 0
	for _, r := range readings {
		before, met := last[r.UUID]
		after := beat{gone: r.Gone, energy: before.energy, recovery: before.recovery}
		if r.Gone == "" {
			answering++
			after.recovery = r.Recovery
			if r.EnergyJoules != nil {
				after.energy = *r.EnergyJoules
			}
		}
		back := before.gone != "" && before.gone != silent && r.Gone == ""
		if met && (back || after.energy < before.energy) {
			events = append(events, gpu.Event{UUID: r.UUID, Kind: gpu.Reloaded, At: now})
			anew = true
		}
		if met && after.recovery != before.recovery {
			events = append(events, gpu.Event{UUID: r.UUID, Kind: gpu.RecoveryEvent, Text: string(after.recovery), At: now})
		}
		anew = anew || before.gone == "" && r.Gone != "" && r.Gone != silent
		next[r.UUID] = after
	}
	return next, events, anew || len(readings) > 0 && answering == 0
}
