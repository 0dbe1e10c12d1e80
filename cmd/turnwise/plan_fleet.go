package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/turnwise-rl/turnwise/internal/agent"
	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/workflows"
)

// fleet is the devices that roles are placed on.
type fleet struct {
	lease.Snapshot
	// source is "device pool" or "this machine"; note says what is not as usual.
	source, note string
}

const (
	ofPool    = "device pool"
	ofMachine = "this machine"
)

// anyFleet is that of the device pool, or this machine where there is no server.
func (a *app) anyFleet(ctx context.Context, kind gpu.Kind) (fleet, error) {
	c, _, err := a.dial(ctx)
	if connect.IsUnreachable(err) {
		own, err := machineFleet(ctx, kind)
		own.note = "no Temporal server is reached, so roles are placed on this machine's own devices"
		return own, err
	}
	if err != nil {
		return fleet{}, err
	}
	defer c.Close()
	return poolFleet(ctx, c)
}

// poolPatience is how long a plan waits for the device pool, which answers at once when a control process runs.
const poolPatience = 10 * time.Second

// poolFleet is the fleet that the device pool knows. One that it cannot tell is empty, and the note says why.
func poolFleet(ctx context.Context, c client.Client) (fleet, error) {
	asking, cancel := context.WithTimeout(ctx, poolPatience)
	defer cancel()
	known := fleet{source: ofPool}
	var err error
	known.Snapshot, err = workflows.Devices(asking, c)
	switch {
	case errors.Is(err, workflows.ErrNoDevicePool):
		known.note = err.Error()
	case err != nil && ctx.Err() == nil && asking.Err() != nil:
		known.note = fmt.Sprintf("the device pool has not answered for %s: start a control process with `turnwise worker --roles control`", poolPatience)
	case err != nil:
		return fleet{}, fmt.Errorf("ask the device pool: %w", err)
	}
	return known, nil
}

// machineFleet is this machine, as if one process on it served all roles, for a run on devices of a kind.
func machineFleet(ctx context.Context, kind gpu.Kind) (fleet, error) {
	host, sources := agent.Host(), machineSources(kind)
	computes := machineComputing(ctx, kind, sources)
	report := lease.Report{Agent: host, Session: "plan", Host: host, Machine: host, Number: 1, Clock: time.Now(),
		Serves: lease.Capacity{Learner: 1, Rollout: loopsOfHost, Evaluate: loopsOfHost}, Computes: computes.kinds, Lacks: computes.lacks,
		Inventory: &gpu.Inventory{}, Conditions: map[string]gpu.Condition{}}
	for _, source := range sources {
		inventory, err := source.Inventory(ctx)
		if err != nil {
			return fleet{}, fmt.Errorf("devices of this machine: %w", err)
		}
		report.Inventory.Devices = append(report.Inventory.Devices, inventory.Devices...)
		if report.Inventory.Reason == "" {
			report.Inventory.Driver, report.Inventory.Reason = inventory.Driver, inventory.Reason
		}
		readings, err := source.Read(ctx)
		if err != nil {
			return fleet{}, fmt.Errorf("devices of this machine: %w", err)
		}
		for _, reading := range readings {
			report.Conditions[reading.UUID] = reading.Condition()
		}
	}
	pool := lease.New(lease.DefaultPolicy())
	pool.Step(report.Clock, lease.Reported{Report: report})
	return fleet{Snapshot: pool.Snapshot(report.Clock), source: ofMachine}, nil
}
