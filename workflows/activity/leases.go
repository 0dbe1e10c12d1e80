package activity

import (
	"context"

	"go.temporal.io/sdk/temporal"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/workflows"
)

// Leases guard the devices of this process.
type Leases interface {
	// Use begins work under the lease with a fencing token, on the devices with these UUIDs, and returns what
	// computes there. It refuses a lease that does not hold. The context it returns ends, with its cause, when the
	// lease does. release ends the work.
	Use(ctx context.Context, fence int, devices []string) (leased context.Context, compute device.Device, release func(), err error)
}

// underLease does work that may go on as long as its lease holds. Work that is cut off, or not let begin, ends
// with an error of type [workflows.LeaseLost], whatever else it says: nothing is wrong with what it was to do.
func (a *Activities) underLease(ctx context.Context, under workflows.Under, work func(ctx context.Context, on device.Device) error) error {
	leased, on, release, err := a.Leases.Use(ctx, under.Fence, under.Devices)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return leaseLost(err)
	}
	defer release()
	err = work(leased, on)
	if err != nil && leased.Err() != nil && ctx.Err() == nil {
		return leaseLost(context.Cause(leased))
	}
	return err
}

// leaseLost is an error that trying again cures, under the same lease if it holds again or else under another.
func leaseLost(err error) error {
	return temporal.NewApplicationErrorWithCause(err.Error(), workflows.LeaseLost, err)
}

// LeaseEnded lets go of what is in memory for work under a lease that has ended: another process may go on with
// that work, or this one under a later lease, and then from what is committed.
func (a *Activities) LeaseEnded(fence int) {
	a.mu.Lock()
	var ended []*session
	for id, s := range a.sessions {
		if s.fence == fence {
			s.forgotten = true
			ended = append(ended, s)
			delete(a.sessions, id)
		}
	}
	a.mu.Unlock()
	for _, s := range ended {
		a.collect(s)
	}
}
