//go:build server

package workflows

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/serviceerror"

	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/gpu/gpufake"
	"github.com/turnwise-rl/turnwise/internal/lease"
)

// matrixHost is one machine of the fleet.
type matrixHost struct {
	name   string
	source *gpufake.Source
	watch  context.CancelFunc
	done   sync.WaitGroup
	mu     sync.Mutex
	events []gpu.Event
	number int
}

// fleet starts the device pool anew, with machines on which all is well.
func (m *matrix) fleet() {
	t := m.t
	t.Helper()
	m.dismiss()
	var none *serviceerror.NotFound
	if err := m.client.TerminateWorkflow(t.Context(), DevicePoolID, "", "the next trial"); err != nil && !errors.As(err, &none) {
		t.Fatal(err)
	}
	policy := lease.DefaultPolicy()
	policy.SilentAfter = time.Hour
	startDevices(t, m.client, DevicePoolInput{Policy: &policy})
	fleet, err := gpufake.Parse(m.topology.name, []byte(m.topology.fleet))
	if err != nil {
		t.Fatal(err)
	}
	for _, described := range fleet.Hosts {
		host := &matrixHost{name: described.Name, source: gpufake.Open(described)}
		ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
		host.watch = stop
		host.done.Go(func() {
			_ = host.source.Watch(ctx, func(event gpu.Event) {
				host.mu.Lock()
				defer host.mu.Unlock()
				host.events = append(host.events, event)
			})
		})
		m.hosts = append(m.hosts, host)
		m.report(host)
	}
}

// dismiss ends the machines.
func (m *matrix) dismiss() {
	for _, host := range m.hosts {
		host.watch()
		host.done.Wait()
	}
	m.hosts, m.well = nil, false
}

// report tells the device pool all about a machine.
func (m *matrix) report(host *matrixHost) {
	t := m.t
	t.Helper()
	inventory, err := host.source.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	readings, err := host.source.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conditions := map[string]gpu.Condition{}
	for _, reading := range readings {
		conditions[reading.UUID] = reading.Condition()
	}
	host.mu.Lock()
	events := host.events
	host.events = nil
	host.mu.Unlock()
	host.number++
	reply, err := ReportDevices(t.Context(), m.client, lease.Report{Agent: host.name, Session: fmt.Sprintf("%p", host), Host: host.name, Machine: host.name, Boot: "1",
		Number: host.number, Clock: time.Now(), Serves: lease.Capacity{Learner: 1, Rollout: 1, Evaluate: 1}, Computes: []gpu.Kind{gpu.CPU, gpu.GPU},
		Inventory: &inventory, Conditions: conditions, Events: events})
	if err != nil || reply.Refused != "" {
		t.Fatalf("%s: %+v, %v", host.name, reply, err)
	}
}

// hear waits for the event that the driver tells.
func (h *matrixHost) hear(t *testing.T, tells bool) {
	t.Helper()
	for began := time.Now(); tells && time.Since(began) < patience; time.Sleep(time.Millisecond) {
		h.mu.Lock()
		heard := len(h.events) > 0
		h.mu.Unlock()
		if heard {
			return
		}
	}
	if tells {
		t.Fatal("the driver tells of no event")
	}
}

// nameOf is what package gpufake calls a device.
func nameOf(t *testing.T, host *matrixHost, uuid string) string {
	t.Helper()
	inventory, err := host.source.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	parents, instances := -1, 0
	last := ""
	for _, device := range inventory.Devices {
		switch {
		case device.Kind == gpu.CPU:
			if device.UUID == uuid {
				return "cpu"
			}
			continue
		case device.Parent == "" || device.Parent != last:
			parents, instances, last = parents+1, 0, device.Parent
		default:
			instances++
		}
		if device.UUID == uuid && device.Parent != "" {
			return fmt.Sprintf("gpu %d.%d", parents, instances)
		} else if device.UUID == uuid {
			return fmt.Sprintf("gpu %d", parents)
		}
	}
	t.Fatalf("%s is not on %s", uuid, host.name)
	return ""
}
