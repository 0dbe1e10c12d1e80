//go:build server

package workflows

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
)

// quickPolicy makes a device pool notice within a second or two.
func quickPolicy() *lease.Policy {
	policy := lease.DefaultPolicy()
	policy.ReportEvery, policy.SilentAfter = 300*time.Millisecond, 1500*time.Millisecond
	return &policy
}

// startDevices starts the device pool.
func startDevices(t *testing.T, c client.Client, input DevicePoolInput) client.WorkflowRun {
	t.Helper()
	options := client.StartWorkflowOptions{ID: DevicePoolID, TaskQueue: ControlQueue, WorkflowTaskTimeout: TaskTimeout}
	run, err := c.ExecuteWorkflow(t.Context(), options, DevicePoolType, input)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// reporter reports as the device agent of a process does.
type reporter struct {
	t      *testing.T
	client client.Client

	mu     sync.Mutex
	report lease.Report
	reply  lease.Reply

	quiet context.CancelFunc
	done  sync.WaitGroup
}

// processor is the device of a machine without a GPU.
func processor(host string) gpu.Inventory {
	return gpu.Inventory{Reason: gpu.NoDriver, Devices: []gpu.Device{{UUID: "CPU-" + host, Kind: gpu.CPU, Name: "a processor", MemoryTotalBytes: 1 << 40}}}
}

// reports has an agent report until the test ends or it falls silent.
func reports(t *testing.T, c client.Client, host string, serves lease.Capacity, inventory gpu.Inventory) *reporter {
	t.Helper()
	r := &reporter{t: t, client: c, report: lease.Report{Agent: host, Session: "1", Host: host, Machine: "machine of " + host, Boot: "1",
		Serves: serves, Computes: []gpu.Kind{gpu.CPU, gpu.GPU}, Inventory: &inventory}}
	if err := r.say(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	ctx, quiet := context.WithCancel(context.WithoutCancel(t.Context()))
	r.quiet = quiet
	r.done.Go(func() {
		for {
			r.mu.Lock()
			every := r.reply.Every
			r.mu.Unlock()
			select {
			case <-ctx.Done():
				return
			case <-time.After(every):
			}
			if err := r.say(ctx, nil); err != nil && ctx.Err() == nil {
				t.Errorf("agent %s: %v", host, err)
				return
			}
		}
	})
	t.Cleanup(r.fallSilent)
	return r
}

// say sends one report, with what change makes of it.
func (r *reporter) say(ctx context.Context, change func(*lease.Report)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if change != nil {
		change(&r.report)
	}
	r.report.Number++
	r.report.Clock = time.Now()
	reply, err := ReportDevices(ctx, r.client, r.report)
	if err != nil {
		return err
	}
	if reply.Refused != "" {
		r.t.Errorf("agent %s is refused: %s", r.report.Agent, reply.Refused)
	}
	r.reply, r.report.Events = reply, nil
	return nil
}

// fallSilent is an agent whose process has died.
func (r *reporter) fallSilent() {
	r.quiet()
	r.done.Wait()
}

// leave is an agent whose process stops in order.
func (r *reporter) leave() {
	r.fallSilent()
	if err := r.say(context.WithoutCancel(r.t.Context()), func(report *lease.Report) { report.Leaving = true }); err != nil {
		r.t.Error(err)
	}
}
