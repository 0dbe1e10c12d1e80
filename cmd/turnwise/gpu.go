package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	sdktemporal "go.temporal.io/sdk/temporal"

	"github.com/turnwise-rl/turnwise/internal/agent"
	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/workflows"
)

func gpuVerb(a *app) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "gpu",
		Short: "Show every device, how it is and who holds it; take it out and give it back",
		Long: "Show a line for each device of the device pool, in PCI bus order on each host, the processor first: load,\n" +
			"memory, health, and the run and role that hold it. Under the table stands why devices are not healthy, and\n" +
			"who waits for what. Without a server or workers it shows the devices of this machine.",
		Example: "  turnwise gpu\n  turnwise gpu -o json\n  turnwise gpu drain GPU-1f2e --why 'fan is loud'",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("gpu %q: know describe, drain, undrain, queue; `turnwise gpu` alone lists the devices", args[0])
			}
			d := a.newDesk()
			defer d.hangUp()
			if watch {
				return d.watch(cmd.Context())
			}
			f, err := d.list(cmd.Context())
			if err != nil {
				return err
			}
			return a.printDevices(f)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on: redraw on a terminal, else print devices again when they change")
	cmd.AddCommand(gpuDescribeVerb(a), gpuDrainVerb(a), gpuUndrainVerb(a), gpuQueueVerb(a))
	return cmd
}

// printDevices prints the table, or one object of JSON.
func (a *app) printDevices(f deviceList) error {
	if a.json() {
		return a.printJSON(f)
	}
	a.print("%s", f.text())
	if f.Reason != nil {
		a.note("no GPU: %s", *f.Reason)
	}
	return nil
}

// oneDevice reads the argument of a verb that is about one device.
func oneDevice(verb string, args []string) (string, error) {
	if len(args) != 1 {
		return "", usagef("gpu %s takes the beginning of one device's UUID; `turnwise gpu` lists them", verb)
	}
	return args[0], nil
}

// devicePool is what the verbs ask of the device pool.
type devicePool interface {
	devices(context.Context) (lease.Snapshot, error)
	drain(context.Context, workflows.DrainInput) (lease.DeviceStatus, error)
	undrain(context.Context, workflows.DrainInput) (lease.DeviceStatus, error)
	setQueue(context.Context, lease.Queue) (lease.QueueStatus, error)
}

// temporalPool asks the workflow.
type temporalPool struct{ client.Client }

func (t temporalPool) devices(ctx context.Context) (lease.Snapshot, error) {
	return workflows.Devices(ctx, t)
}
func (t temporalPool) drain(ctx context.Context, input workflows.DrainInput) (lease.DeviceStatus, error) {
	return workflows.Drain(ctx, t, input)
}
func (t temporalPool) undrain(ctx context.Context, input workflows.DrainInput) (lease.DeviceStatus, error) {
	return workflows.Undrain(ctx, t, input)
}
func (t temporalPool) setQueue(ctx context.Context, queue lease.Queue) (lease.QueueStatus, error) {
	return workflows.SetQueue(ctx, t, queue)
}

// desk is where devices are asked for: the device pool when there is one, and this machine.
type desk struct {
	app  *app
	dial func(context.Context) (devicePool, func(), error)
	// sources are this machine's devices.
	sources func() []gpu.Source
	host    string
	user    string // who asks
	now     func() time.Time
	// settle is how long means of load and power are taken over at the first look.
	settle time.Duration

	pool  devicePool
	close func()
	local []gpu.Source // opened when they are asked for
	// said is the last note about a device pool that is not reached.
	said string
}

func (a *app) newDesk() *desk {
	return &desk{app: a, sources: ownSources, host: agent.Host(), user: userName(), now: time.Now, settle: 200 * time.Millisecond, dial: func(ctx context.Context) (devicePool, func(), error) {
		c, _, err := a.dial(ctx)
		if err != nil {
			return nil, nil, err
		}
		return temporalPool{c}, c.Close, nil
	}}
}

func (d *desk) hangUp() {
	if d.close != nil {
		d.close()
	}
}

// reach dials unless there is a connection.
func (d *desk) reach(ctx context.Context) (devicePool, error) {
	if d.pool == nil {
		pool, hangUp, err := d.dial(ctx)
		if err != nil {
			return nil, err
		}
		d.pool, d.close = pool, hangUp
	}
	return d.pool, nil
}

// snapshot asks the device pool for all that it knows.
func (d *desk) snapshot(ctx context.Context) (lease.Snapshot, error) {
	pool, err := d.reach(ctx)
	if err != nil {
		return lease.Snapshot{}, err
	}
	waiting, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	snapshot, err := pool.devices(waiting)
	return snapshot, explainPool(ctx, waiting, err)
}

// deviceList is what the device pool has or, when there is none, this machine.
func (d *desk) list(ctx context.Context) (deviceList, error) {
	snapshot, err := d.snapshot(ctx)
	if err == nil {
		d.said = ""
		f := listOf(snapshot, readReadings(d.app.dataDir, d.now()))
		f.now = d.now()
		return f, nil
	}
	if ctx.Err() != nil || !withoutPool(err) {
		return deviceList{}, err
	}
	why := err.Error()
	if !errors.Is(err, errPoolSilent) { // which names the device pool itself
		why = "no device pool: " + why
	}
	if note := why + "; these are this machine's devices, and what their condition alone says"; note != d.said {
		d.app.note("%s", note)
		d.said = note
	}
	return d.machine(ctx)
}

// errPoolSilent says that no worker answers for the device pool.
var errPoolSilent = errors.New("the device pool does not answer: is a control worker running? Start one with `turnwise worker --roles control`")

// withoutPool says whether an error means that there is no device pool to ask, for now or at all.
func withoutPool(err error) bool {
	return connect.IsUnreachable(err) || errors.Is(err, workflows.ErrNoDevicePool) || errors.Is(err, errPoolSilent) || exitCode(err) == exitUnreachable
}

// explainPool says in a sentence why the device pool did not do what it was asked. What it refuses is the user's mistake.
func explainPool(ctx, waiting context.Context, err error) error {
	var refused *sdktemporal.ApplicationError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return usagef("%s", refused.Message())
	case errors.Is(err, workflows.ErrNoDevicePool), ctx.Err() != nil:
		return err
	case waiting.Err() != nil, unanswered(err):
		return errPoolSilent
	}
	return unreachable(err)
}

// unanswered recognises the answers of a server that has found no worker for a question, in the time that it had or at
// once. Its clock may be ahead of this machine's.
func unanswered(err error) bool {
	var late *client.WorkflowUpdateServiceTimeoutOrCanceledError
	var deadline *serviceerror.DeadlineExceeded
	var early *serviceerror.WorkflowNotReady
	var nobody *serviceerror.FailedPrecondition
	return errors.As(err, &late) || errors.As(err, &deadline) || errors.As(err, &early) || errors.As(err, &nobody) || errors.Is(err, context.DeadlineExceeded)
}

// machine is what this machine has by itself.
func (d *desk) machine(ctx context.Context) (deviceList, error) {
	if d.local == nil {
		d.local = d.sources()
		select {
		case <-time.After(d.settle):
		case <-ctx.Done():
		}
	}
	ctx, cancel := context.WithTimeout(ctx, devicesTimeout)
	defer cancel()
	var inventories []gpu.Inventory
	readings := map[string]gpu.Reading{}
	for _, source := range d.local {
		inventory, err := source.Inventory(ctx)
		if err != nil {
			d.app.note("%v", err)
		}
		inventories = append(inventories, inventory)
		read, err := source.Read(ctx)
		if err != nil {
			d.app.note("%v", err)
		}
		for _, reading := range read {
			readings[reading.UUID] = reading
		}
	}
	f := ownList(inventories, readings, d.host, d.now())
	if len(f.Devices) == 0 && f.Reason == nil {
		return f, fmt.Errorf("this machine tells of no device at all; `turnwise doctor` looks for the cause")
	}
	return f, nil
}
