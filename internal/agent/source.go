package agent

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// source is one door to devices and what was last seen through it.
type source struct {
	door   gpu.Source
	looked chan struct{} // closed once there is an inventory or an error instead of one
	// again asks for another look and then a report, relist for another list of devices; both are of capacity 1.
	again, relist chan struct{}

	mu sync.Mutex // guards what follows
	// inventory is the last one, and failed says why it is not whole.
	inventory gpu.Inventory
	failed    string
	// last are the last readings, and own our processes then; busy is when the read under way began, zero when
	// none is.
	last []gpu.Reading
	own  []int
	busy time.Time
}

func newSource(door gpu.Source) *source {
	return &source{door: door, looked: make(chan struct{}), again: make(chan struct{}, 1), relist: make(chan struct{}, 1)}
}

// observe lists and reads the devices of a source again and again until ctx ends.
func (a *Agent) observe(ctx context.Context, s *source) {
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	looked := sync.OnceFunc(func() { close(s.looked) })
	listed, told := time.Time{}, false
	for ctx.Err() == nil {
		if (listed.IsZero() || time.Since(listed) >= listEvery) && a.list(ctx, s) {
			listed = time.Now()
		}
		a.read(ctx, s)
		looked()
		if told {
			ask(a.news)
		}
		told = false
		select {
		case <-tick.C:
		case <-s.again:
			told = true
		case <-s.relist:
			listed = time.Time{}
		case <-ctx.Done():
		}
	}
}

// list looks which devices there are, and says whether it could.
func (a *Agent) list(ctx context.Context, s *source) bool {
	s.begin()
	inventory, err := s.door.Inventory(ctx)
	s.end()
	if ctx.Err() != nil {
		return false
	}
	failed := ""
	if err != nil {
		failed = err.Error()
	}
	s.mu.Lock()
	changed := failed != s.failed
	if err == nil || len(inventory.Devices) > 0 {
		// Devices that cannot be listed now stay known: how they are says that they do not answer.
		s.inventory = keepLost(s.inventory, inventory, err)
	} else if len(s.inventory.Devices) == 0 {
		s.inventory = inventory
		if s.inventory.Reason == "" {
			s.inventory.Reason = failed
		}
	}
	s.failed = failed
	s.mu.Unlock()
	if err != nil && changed {
		a.log.Warn("devices cannot be listed", "error", err)
	}
	return err == nil
}

// keepLost keeps, behind the devices of the newest list, those that it lacks because of an error.
func keepLost(before, now gpu.Inventory, err error) gpu.Inventory {
	if err == nil {
		return now
	}
	for _, device := range before.Devices {
		if !slices.ContainsFunc(now.Devices, func(d gpu.Device) bool { return d.UUID == device.UUID }) {
			now.Devices = append(now.Devices, device)
		}
	}
	return now
}

// read looks how the devices are, stops work on those that have come to a fault, and has changes reported.
func (a *Agent) read(ctx context.Context, s *source) {
	before := s.conditions()
	own := a.ownProcesses() // before the read: those that it still sees are among them
	s.begin()
	readings, err := s.door.Read(ctx)
	s.end()
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	s.own = own
	if err != nil {
		readings = nil
		for _, device := range s.inventory.Devices {
			readings = append(readings, gpu.Reading{UUID: device.UUID, Gone: err.Error()})
		}
	}
	first := s.last == nil
	s.last = readings
	s.mu.Unlock()
	now := s.conditions()
	for uuid, condition := range now {
		for _, fault := range condition.Began(before[uuid]) {
			a.log.Warn("a device has a fault", "device", uuid, "fault", fault.Name, "meaning", fault.Meaning)
			if endsWork(fault) {
				a.broken(uuid, fault)
			}
		}
	}
	if !first && !maps.EqualFunc(before, now, gpu.Condition.Equal) { // the first report waits for the first look
		ask(a.news)
	}
}

// ownProcesses are our processes on this machine.
func (a *Agent) ownProcesses() []int {
	if a.config.Own == nil {
		return []int{os.Getpid()}
	}
	return a.config.Own()
}

// endsWork says whether a fault takes the device away from who holds it, at once.
func endsWork(fault gpu.Fault) bool {
	switch fault.Action {
	case gpu.Restart, gpu.Quarantine, gpu.Reset, gpu.Reboot:
		return true
	}
	return false
}

// watch takes the events of a source until ctx ends.
func (a *Agent) watch(ctx context.Context, s *source) {
	for pause := firstPause; ctx.Err() == nil; pause = min(2*pause, longestPause) {
		err := s.door.Watch(ctx, func(event gpu.Event) {
			pause = firstPause
			a.hear(s, event)
		})
		if ctx.Err() != nil {
			return
		}
		a.log.Warn("events of devices cannot be watched, trying again", "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// hear takes an event: work that it ends is ended here and now, and the pool is told.
func (a *Agent) hear(s *source, event gpu.Event) {
	a.log.Warn("device event", "device", event.UUID, "kind", string(event.Kind), "xid", event.Xid, "text", event.Text)
	a.mu.Lock()
	a.events = append(a.events, event)
	if over := len(a.events) - mostEvents; over > 0 {
		a.events = slices.Delete(a.events, 0, over)
		a.log.Warn("events of devices are given up, since the device pool does not take them", "events", over)
	}
	a.mu.Unlock()
	conditions := s.conditions()
	for _, uuid := range s.concerned(event.UUID) {
		if fault, is := gpu.OfEvent(event, conditions[uuid]); is && endsWork(fault) {
			a.broken(uuid, fault)
		}
	}
	switch {
	case event.Kind == gpu.Reloaded:
		ask(s.relist)
		ask(a.urgent)
	case event.Kind == gpu.RecoveryEvent || event.Xid == recoveryChanged:
		ask(s.again) // what the driver wants is in the condition, which goes into the same report
	default:
		ask(a.urgent)
	}
}

// recoveryChanged is the XID that says that the driver wants another recovery than before.
const recoveryChanged = 154

// concerned are the devices that an event is about: when nobody can tell which, all of the source's.
func (s *source) concerned(uuid string) []string {
	if uuid != "" {
		return []string{uuid}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, device := range s.inventory.Devices {
		all = append(all, device.UUID)
	}
	return all
}

func (s *source) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = time.Now()
}

func (s *source) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = time.Time{}
}

// readings are the last ones, in the order of the inventory. A source that hangs has devices that do not answer.
func (s *source) readings() []gpu.Reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	hangs := !s.busy.IsZero() && time.Since(s.busy) >= hung
	out := make([]gpu.Reading, 0, len(s.inventory.Devices))
	for _, device := range s.inventory.Devices {
		at := slices.IndexFunc(s.last, func(r gpu.Reading) bool { return r.UUID == device.UUID })
		switch {
		case hangs:
			out = append(out, gpu.Reading{UUID: device.UUID, Gone: fmt.Sprintf("the driver has not answered for %s", hung)})
		case at >= 0:
			out = append(out, s.last[at])
		case s.last != nil:
			out = append(out, gpu.Reading{UUID: device.UUID, Gone: "the driver does not tell of it"})
		}
	}
	return out
}

// inventory is that of all sources together.
func (a *Agent) inventory() gpu.Inventory {
	out := gpu.Inventory{Devices: []gpu.Device{}}
	var reasons []string
	for _, s := range a.sources {
		s.mu.Lock()
		if out.Driver == "" {
			out.Driver = s.inventory.Driver
		}
		if s.inventory.Reason != "" {
			reasons = append(reasons, s.inventory.Reason)
		}
		out.Devices = append(out.Devices, s.inventory.Devices...)
		s.mu.Unlock()
	}
	out.Reason = strings.Join(reasons, "; ")
	return out
}

// conditions are those of all devices by UUID.
func (a *Agent) conditions() map[string]gpu.Condition {
	all := map[string]gpu.Condition{}
	for _, s := range a.sources {
		maps.Copy(all, s.conditions())
	}
	return all
}

func (s *source) conditions() map[string]gpu.Condition {
	out := map[string]gpu.Condition{}
	readings := s.readings()
	s.mu.Lock()
	own := s.own
	s.mu.Unlock()
	for _, reading := range readings {
		out[reading.UUID] = reading.Condition(own...)
	}
	return out
}
