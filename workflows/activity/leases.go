package activity

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.temporal.io/sdk/temporal"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/workflows"
)

// Leases guard the devices of this process.
type Leases interface {
	// Use begins work under the lease with a fencing token, on the devices with these UUIDs. compute returns the
	// first of them, open for computing; with exact, a row's result does not depend on the rows beside it. Use
	// refuses a lease that does not hold. The context it returns ends, with its cause, when the lease does. release
	// ends the work.
	Use(ctx context.Context, fence int, devices []string) (leased context.Context, compute func(exact bool) (device.Device, error), release func(), err error)
	// Failed takes note that a device computes nothing any more in this process, which ends all work in it.
	Failed(uuid string, failure *device.Failure)
}

// job is work under a lease.
type job struct {
	run   string
	under workflows.Under
	// spares is what takes less memory, by what it was wanted for.
	spares spares
}

// bay is where a job computes.
type bay struct {
	compute func(exact bool) (device.Device, error)
	// leave ends the job because of what its device says, wherever in the work that is heard.
	leave context.CancelCauseFunc
}

// device is the one that a run computes on.
func (b *bay) device(r *run) (device.Device, error) {
	on, err := b.compute(r.config.Device.Exact)
	if err != nil {
		return nil, err
	}
	if !on.Supports(computeType(r.config)) {
		return nil, lasting(fmt.Errorf("%s does not compute in %s: set device.precision to %s", on.Name(), r.config.Device.Precision, configs.F32))
	}
	return on, nil
}

// heard ends the job when an error says that its device can do no more of it.
func (b *bay) heard(err error) {
	var failure *device.Failure
	var full *device.OutOfMemory
	if errors.As(err, &failure) || errors.As(err, &full) {
		b.leave(err)
	}
}

// underLease does a job that may go on as long as its lease holds. One that is cut off, or not let begin, ends with
// an error of type [workflows.LeaseLost], whatever else it says: nothing is wrong with what it was to do. One whose
// device fails ends with [workflows.DeviceFailed], one whose device is full with [workflows.OutOfMemory].
func (a *Activities) underLease(ctx context.Context, j job, work func(ctx context.Context, at *bay) error) error {
	leased, compute, release, err := a.Leases.Use(ctx, j.under.Fence, j.under.Devices)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return leaseLost(err)
	}
	defer release()
	working, leave := context.WithCancelCause(leased)
	defer leave(nil)
	err = work(working, &bay{compute: compute, leave: leave})
	if err == nil || ctx.Err() != nil {
		return err
	}
	said := errors.Join(err, context.Cause(working)) // what ended the work may have been heard anywhere in it
	var failure *device.Failure
	var full *device.OutOfMemory
	switch {
	case errors.As(said, &failure):
		a.Leases.Failed(strings.Join(j.under.Devices[:min(1, len(j.under.Devices))], ""), failure)
		return temporal.NewApplicationError(failure.Error(), workflows.DeviceFailed)
	case leased.Err() != nil:
		return leaseLost(context.Cause(leased))
	case errors.As(said, &full):
		return a.outOfMemory(ctx, j, full)
	}
	return err
}

// withLearner does a job with the learner of its run. One whose device is full lets go of the learner: what it holds
// of work that was not done is in the way, of others too.
func (a *Activities) withLearner(ctx context.Context, run string, under workflows.Under, work func(ctx context.Context, s *session) error) error {
	return a.underLease(ctx, job{run: run, under: under, spares: learnerSpares}, func(ctx context.Context, at *bay) error {
		s, release, err := a.session(ctx, run, under.Fence, at.device)
		if err != nil {
			return err
		}
		defer release()
		err = work(ctx, s)
		var full *device.OutOfMemory
		if errors.As(err, &full) {
			a.forget(run)
		}
		return err
	})
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
