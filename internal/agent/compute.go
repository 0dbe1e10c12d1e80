package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/kernels/device"
)

// Opener opens a device of this machine for computing, in the way that its results do not depend on what is
// computed beside them when exact is set. close lets go of it, and of whatever memory is still held on it.
type Opener func(of gpu.Device, exact bool) (opened device.Device, close func() error, err error)

// computer is a device that is open.
type computer struct {
	device device.Device
	close  func() error
}

// way is how a device is open: a device may be open in both ways at once.
type way struct {
	uuid  string
	exact bool
}

// computers are the devices that this process computes on. One is open as long as a lease of the agent names it or
// work goes on on it, so that what a learner keeps in its memory stays there from step to step.
type computers struct {
	mu   sync.Mutex // held while devices are opened and closed, and taken before that of the agent
	open map[way]computer
}

// compute returns the device that a use is for, which it opens when nobody has. Who asks twice is two users: see shared.
func (a *Agent) compute(u *use, exact bool) (device.Device, error) {
	a.computers.mu.Lock()
	defer a.computers.mu.Unlock()
	a.mu.Lock()
	_, atWork := a.uses[u]
	a.mu.Unlock()
	if !atWork {
		return nil, a.lost(u.fence, "its work has ended")
	}
	uuid := u.devices[0]
	as := way{uuid, exact}
	if there, known := a.computers.open[as]; known {
		return device.Shared(there.device), nil
	}
	known := a.inventory().Devices
	at := slices.IndexFunc(known, func(d gpu.Device) bool { return d.UUID == uuid })
	if at < 0 {
		return nil, a.lost(u.fence, fmt.Sprintf("device %s is not there", uuid))
	}
	opened, closing, err := a.config.Open(known[at], exact)
	if err != nil {
		return nil, fmt.Errorf("open device %s: %w", uuid, err)
	}
	if a.computers.open == nil {
		a.computers.open = map[way]computer{}
	}
	a.computers.open[as] = computer{opened, closing}
	a.log.Info("a device is open", "device", uuid, "name", opened.Name(), "exact", exact)
	return device.Shared(opened), nil
}

// tidy closes idle devices until ctx ends. A device that takes long to open or to close holds up nobody's reports.
func (a *Agent) tidy(ctx context.Context) {
	for {
		select {
		case <-a.idle:
			a.closeIdle()
		case <-ctx.Done():
			return
		}
	}
}

// closeIdle closes the devices that no lease names any more and no work goes on on.
func (a *Agent) closeIdle() {
	a.computers.mu.Lock()
	defer a.computers.mu.Unlock()
	needed := map[string]bool{}
	a.mu.Lock()
	for u := range a.uses {
		needed[u.devices[0]] = true
	}
	for _, l := range a.leases {
		for _, uuid := range l.Devices {
			needed[uuid] = needed[uuid] || a.why == nil
		}
	}
	a.mu.Unlock()
	for as, c := range a.computers.open {
		if needed[as.uuid] {
			continue
		}
		delete(a.computers.open, as)
		if err := c.close(); err != nil {
			a.log.Warn("a device could not be closed in order", "device", as.uuid, "error", err)
			continue
		}
		a.log.Info("a device is closed", "device", as.uuid)
	}
}

// FailedError says that a device has failed this process for good, so that the process gives up its leases and has
// to be started again.
type FailedError struct {
	Agent   string
	UUID    string
	Failure *device.Failure
}

func (e *FailedError) Error() string {
	return fmt.Sprintf("agent %s leaves, since a device has failed its process (%s): %v: start the process again", e.Agent, e.UUID, e.Failure)
}

func (e *FailedError) Unwrap() error { return e.Failure }

// Failed takes note that a device computes nothing any more in this process. All work under leases of the agent ends,
// the device pool is told, and [Agent.Run] ends with a [*FailedError]. Of several failures the first one counts.
func (a *Agent) Failed(uuid string, failure *device.Failure) {
	a.mu.Lock()
	if a.failure != nil {
		a.mu.Unlock()
		return
	}
	a.failure = &FailedError{Agent: a.config.Identity.Name, UUID: uuid, Failure: failure}
	kind := gpu.ComputeFailed
	if failure.Lost {
		kind = gpu.ComputeLost
	}
	a.events = append(a.events, gpu.Event{UUID: uuid, At: time.Now().UTC(), Kind: kind, Text: failure.Operation + ": " + failure.Reason})
	for fence, l := range a.leases {
		if slices.Contains(l.Devices, uuid) {
			a.doubted[fence] = true
		}
	}
	a.cancel(func(*use) bool { return true }, fmt.Sprintf("device %s has failed this process: %v", uuid, failure))
	close(a.failing)
	a.mu.Unlock()
	a.log.Error("a device has failed this process, which gives up its leases", "device", uuid, "error", failure)
}

// failed is why the agent leaves; nil when no device has failed it.
func (a *Agent) failed() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failure == nil {
		return nil
	}
	return a.failure
}
