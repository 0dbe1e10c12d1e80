package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/kernels/device"
)

// LostError says that work may not go on, or not begin, because its lease does not hold.
type LostError struct {
	Agent  string
	Fence  int
	Reason string
}

func (e *LostError) Error() string {
	return fmt.Sprintf("lease %d on agent %s does not hold: %s", e.Fence, e.Agent, e.Reason)
}

// use is one piece of work under a lease.
type use struct {
	fence   int
	devices []string
	cancel  context.CancelCauseFunc
}

// Use begins work under the lease with a fencing token, on the devices with these UUIDs. It waits until the
// device pool has confirmed the lease, and refuses one that the pool does not have, or not any more, with a
// [*LostError]. The returned context ends with a [*LostError] as its cause when the lease is taken back, when
// its device fails, or when the pool has not been heard of for too long. compute returns the first of the devices,
// open for computing in either way, until the use has ended; what is allocated there stays beyond that, for as long
// as the lease does. release ends the use; it may be called more than once.
func (a *Agent) Use(ctx context.Context, fence int, devices []string) (leased context.Context, compute func(exact bool) (device.Device, error), release func(), err error) {
	if len(devices) == 0 {
		return nil, nil, nil, a.lost(fence, "it is for no device")
	}
	if err := a.confirm(ctx, fence); err != nil {
		return nil, nil, nil, err
	}
	known := a.inventory().Devices
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.why != nil {
		return nil, nil, nil, a.lost(fence, a.why.Error())
	}
	held, ok := a.leases[fence]
	if !ok || a.cut { // since it was confirmed
		return nil, nil, nil, a.lost(fence, "it ended a moment ago")
	}
	for _, uuid := range devices {
		if !slices.Contains(held.Devices, uuid) {
			return nil, nil, nil, a.lost(fence, fmt.Sprintf("it is for %s, not for %s", strings.Join(held.Devices, ", "), uuid))
		}
		if !slices.ContainsFunc(known, func(d gpu.Device) bool { return d.UUID == uuid }) {
			return nil, nil, nil, a.lost(fence, fmt.Sprintf("device %s is not there", uuid))
		}
	}
	leased, cancel := context.WithCancelCause(ctx)
	u := &use{fence: fence, devices: devices, cancel: cancel}
	a.uses[u] = struct{}{}
	release = func() {
		a.mu.Lock()
		delete(a.uses, u)
		over := a.why != nil
		a.mu.Unlock()
		cancel(nil)
		if over {
			a.closeIdle()
		} else {
			ask(a.idle)
		}
	}
	return leased, func(exact bool) (device.Device, error) { return a.compute(u, exact) }, release, nil
}

func (a *Agent) lost(fence int, reason string) *LostError {
	return &LostError{Agent: a.config.Identity.Name, Fence: fence, Reason: reason}
}

// confirm waits until the pool has said that a lease is this agent's: in its last reply, or else in the first
// to a report that is made from here on. While the pool is away nobody knows, and the work waits.
func (a *Agent) confirm(ctx context.Context, fence int) error {
	a.mu.Lock()
	since := a.number
	for {
		_, listed := a.leases[fence]
		stands := listed && !a.cut && !a.doubted[fence]
		denied := !listed && !a.cut && a.judged > since
		replied := a.replied
		a.mu.Unlock()
		switch {
		case stands:
			return nil
		case denied:
			return a.lost(fence, "the device pool has given it to nobody, or taken it back")
		}
		ask(a.urgent)
		select {
		case <-replied:
		case <-a.over:
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.lost(fence, a.why.Error())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		a.mu.Lock()
	}
}

// take makes the leases of a reply those of the agent, and returns the fences of those that ended. Unclaimed ones,
// which a pool that lost its history does not know yet, are as they were. The caller holds mu.
func (a *Agent) take(leases []lease.Lease, unclaimed []int) (ended []int) {
	now := make(map[int]lease.Lease, len(leases))
	for _, l := range leases {
		now[l.Fence] = l
	}
	for _, fence := range unclaimed {
		if l, known := a.leases[fence]; known {
			now[fence] = l
		}
	}
	for fence, before := range a.leases {
		if _, still := now[fence]; still {
			continue
		}
		ended = append(ended, fence)
		reason := "the device pool has taken it back"
		for _, l := range leases {
			if l.Holder == before.Holder && l.Fence > fence {
				reason = fmt.Sprintf("it was given anew as lease %d", l.Fence)
			}
		}
		a.cancel(func(u *use) bool { return u.fence == fence }, reason)
	}
	a.leases = now
	clear(a.doubted)
	slices.Sort(ended)
	return ended
}

// cancel ends the uses that match. The caller holds mu.
func (a *Agent) cancel(match func(*use) bool, reason string) {
	for u := range a.uses {
		if match(u) {
			u.cancel(a.lost(u.fence, reason))
		}
	}
}

// broken ends what is at work on a device that has come to a fault, and doubts its leases until the pool has
// judged.
func (a *Agent) broken(uuid string, fault gpu.Fault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for fence, l := range a.leases {
		if slices.Contains(l.Devices, uuid) {
			a.doubted[fence] = true
		}
	}
	a.cancel(func(u *use) bool { return slices.Contains(u.devices, uuid) }, fmt.Sprintf("device %s %s", uuid, fault))
}
