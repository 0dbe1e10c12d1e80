//go:build server

package workflows

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/internal/temporalserver/temporaltest"
)

// newFleet is a real server with a worker for workflows, and nothing else.
func newFleet(t *testing.T) *site {
	t.Helper()
	temporaltest.NoLeaks(t)
	t.Cleanup(worker.PurgeStickyWorkflowCache)
	c, endpoint := temporaltest.Start(t)
	if err := connect.Preflight(t.Context(), c, endpoint); err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, client: c}
	s.control()
	return s
}

// eight are the devices of a machine.
func eight(host string) gpu.Inventory {
	inventory := gpu.Inventory{Driver: "580.1"}
	for i := range 8 {
		inventory.Devices = append(inventory.Devices, gpu.Device{UUID: fmt.Sprintf("GPU-%s-%d", host, i), Kind: gpu.GPU, Name: "H200", Index: i, MemoryTotalBytes: 1 << 37, Domain: "nvlink of " + host})
	}
	return inventory
}

// TestServerHundredAgents has a hundred machines report at the same time, when there is no device pool yet: all are
// taken, with all of their devices.
func TestServerHundredAgents(t *testing.T) {
	s := newFleet(t)
	if _, err := Devices(t.Context(), s.client); !errors.Is(err, ErrNoDevicePool) {
		t.Errorf("before the first report: %v", err)
	}
	if _, err := Drain(t.Context(), s.client, DrainInput{UUID: "GPU-a", By: "eve"}); !errors.Is(err, ErrNoDevicePool) {
		t.Errorf("before the first report: %v", err)
	}
	began := time.Now()
	var every, slowest atomic.Int64
	var reporting sync.WaitGroup
	for host := range 100 {
		reporting.Go(func() {
			name := fmt.Sprintf("host-%03d", host)
			inventory := eight(name)
			said := time.Now()
			reply, err := ReportDevices(t.Context(), s.client, lease.Report{Agent: name, Session: "1", Host: name, Machine: name, Number: 1,
				Serves: lease.Capacity{Rollout: 1}, Computes: []gpu.Kind{gpu.GPU}, Inventory: &inventory, Clock: said})
			if err != nil || reply.Refused != "" || reply.Forgot {
				t.Errorf("%s: %+v, %v", name, reply, err)
			}
			every.Store(max(every.Load(), int64(reply.Every)))
			slowest.Store(max(slowest.Load(), int64(time.Since(said))))
		})
	}
	reporting.Wait()
	snapshot, err := Devices(t.Context(), s.client)
	if err != nil {
		t.Fatal(err)
	}
	if len(snapshot.Agents) != 100 || len(snapshot.Devices) != 800 {
		t.Errorf("%d agents with %d devices", len(snapshot.Agents), len(snapshot.Devices))
	}
	t.Logf("100 agents after %s, the slowest answer after %s; they are to report every %s",
		time.Since(began).Round(time.Millisecond), time.Duration(slowest.Load()).Round(time.Millisecond), time.Duration(every.Load()))
}

// TestServerDevicePoolContinues reports until the device pool continues as new under the stream of reports: each
// is answered, and the leases go along.
func TestServerDevicePoolContinues(t *testing.T) {
	s := newFleet(t)
	first := startDevices(t, s.client, DevicePoolInput{})
	holding, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: PoolID("a-run", 0), TaskQueue: ControlQueue},
		RolloutPoolType, PoolInput{Run: "a-run", Limits: someLimits, Request: someNeeds.Request("a-run", PoolID("a-run", 0), lease.Rollout)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, enough := context.WithCancel(t.Context())
	var reporting sync.WaitGroup
	var reports atomic.Int64
	for host := range 8 {
		reporting.Go(func() {
			name := fmt.Sprintf("host-%d", host)
			inventory := processor(name)
			for number := 1; ctx.Err() == nil; number++ {
				reply, err := ReportDevices(t.Context(), s.client, lease.Report{Agent: name, Session: "1", Host: name, Machine: name, Number: number,
					Serves: lease.Capacity{Rollout: 1}, Computes: []gpu.Kind{gpu.CPU}, Inventory: &inventory, Clock: time.Now()})
				if err != nil || reply.Refused != "" || reply.Forgot {
					t.Errorf("report %d of %s: %+v, %v", number, name, reply, err)
				}
				reports.Add(1)
			}
		})
	}
	var again *workflow.ContinueAsNewError
	err = first.GetWithOptions(t.Context(), nil, client.WorkflowRunGetOptions{DisableFollowingRuns: true})
	enough()
	reporting.Wait()
	if !errors.As(err, &again) {
		t.Fatalf("got %v, want continue-as-new", err)
	}
	snapshot, err := Devices(t.Context(), s.client)
	if err != nil {
		t.Fatal(err)
	}
	if len(snapshot.Agents) != 8 || len(snapshot.Leases) != 1 || snapshot.Leases[0].Holder != holding.GetID() {
		t.Errorf("after %d reports: %+v", reports.Load(), snapshot)
	}
	device := snapshot.Devices[0].UUID
	if _, err := Drain(t.Context(), s.client, DrainInput{UUID: device, By: "eve"}); err != nil {
		t.Error(err)
	}
	drained, err := Undrain(t.Context(), s.client, DrainInput{UUID: device, By: "eve"})
	if err != nil || drained.Health != lease.Healthy {
		t.Errorf("%+v, %v", drained, err)
	}
	queue, err := SetQueue(t.Context(), s.client, lease.Queue{Name: "research", Quota: map[gpu.Kind]int{gpu.GPU: 4}, Weight: 2})
	if err != nil || queue.Name != "research" || queue.Weight != 2 {
		t.Errorf("%+v, %v", queue, err)
	}
	s.save("device_pool", DevicePoolID, "")
	t.Logf("%d reports", reports.Load())
	if err := s.client.TerminateWorkflow(t.Context(), DevicePoolID, "", "a test"); err != nil {
		t.Fatal(err)
	}
	if _, err := Devices(t.Context(), s.client); !errors.Is(err, ErrNoDevicePool) {
		t.Errorf("after its end: %v", err)
	}
}
