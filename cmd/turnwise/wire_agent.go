package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"github.com/turnwise-rl/turnwise/internal/agent"
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/gpu/gpufake"
	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/internal/telemetry"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/workflows"
)

// agentFlags say which device agent a process is.
type agentFlags struct {
	// name is the agent's; "" takes the host's, with a number when another process has it.
	name string
	// fleet is a file with devices that stand for this machine's; "" for its own.
	fleet string
}

func (f *agentFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.name, "name", "", "name of this process's device agent (default the host's name, with a number when another process has it)")
	flags.StringVar(&f.fleet, "fleet", "", "file with fake devices in place of this machine's, for rehearsing faults; see docs/devices.md")
}

// deviceAgent is the device agent of this process.
type deviceAgent struct {
	*agent.Agent
	name string
	free func() error // gives the name back
	// cancel stops it, and failed gets why it ended by itself; ended is closed when it has.
	cancel context.CancelFunc
	failed chan error
	ended  chan struct{}
}

// newAgent makes the agent of a process that serves so much and computes on its processor and its GPUs. ended is told
// of leases that this process has no more.
func (a *app) newAgent(c client.Client, serves lease.Capacity, processor device.Device, ended func(fence int), log *slog.Logger) (*deviceAgent, error) {
	config := agent.Config{Serves: serves, Ended: ended, Log: log,
		Readings: filepath.Join(a.dataDir, agent.ReadingsFolder),
		Report: func(ctx context.Context, report lease.Report) (lease.Reply, error) {
			return workflows.ReportDevices(ctx, c, report)
		}}
	host, err := a.findDevices(&config, processor, log)
	if err != nil {
		return nil, err
	}
	d := &deviceAgent{failed: make(chan error, 1), ended: make(chan struct{})}
	if d.name, d.free, err = claimName(a.dataDir, a.agent.name, host); err != nil {
		return nil, err
	}
	config.Own = func() []int { return agent.Processes(a.dataDir, host) }
	config.Identity = agent.Identify(d.name, host)
	for i, door := range config.Sources {
		config.Sources[i] = a.meters.count(door)
	}
	d.Agent = agent.New(config)
	a.meters.watch(func() telemetry.Devices {
		now := d.Status()
		return telemetry.Devices{Host: host, Devices: now.Inventory.Devices, Readings: now.Readings, Leases: now.Leases,
			Known: !now.Heard.IsZero() && !now.CutOff, Health: now.Health}
	})
	return d, nil
}

// claimName takes the name that an agent was given, or one of its host's; free gives it back.
func claimName(dataDir, given, host string) (name string, free func() error, err error) {
	if given == "" {
		return agent.ClaimName(dataDir, host)
	}
	if err := agent.CheckName(given); err != nil {
		return "", nil, usageError{fmt.Errorf("--name: %w", err)}
	}
	release, err := agent.Reserve(dataDir, given)
	if errors.Is(err, agent.ErrNameTaken) {
		return "", nil, usageError{fmt.Errorf("--name: %w: choose another one, or stop that process first", err)}
	} else if err != nil {
		return "", nil, err
	}
	leave, err := agent.Join(dataDir, host)
	if err != nil {
		return "", nil, errors.Join(err, release())
	}
	return given, func() error { return errors.Join(release(), leave()) }, nil
}

// findDevices opens the doors to this machine's devices, or to those of a fake fleet, and returns the host's name.
func (a *app) findDevices(config *agent.Config, processor device.Device, log *slog.Logger) (host string, err error) {
	if a.agent.fleet == "" {
		config.Sources = ownSources()
		computesOn(config, onMachine(processor, ofSources(context.Background(), config.Sources)), log)
		return agent.Host(), nil
	}
	data, err := os.ReadFile(a.agent.fleet)
	if errors.Is(err, fs.ErrNotExist) {
		return "", usagef("--fleet: no file %s", a.agent.fleet)
	} else if err != nil {
		return "", usagef("--fleet: %v", err)
	}
	fleet, err := gpufake.Parse(a.agent.fleet, data)
	if err != nil {
		return "", usageError{err}
	}
	pretended, err := fleet.Host(a.agent.name)
	if err != nil {
		return "", usageError{fmt.Errorf("--fleet %s: %w: choose one with --name", a.agent.fleet, err)}
	}
	door := gpufake.Open(pretended)
	door.Follow(a.agent.fleet+fleetNow, func(sentence string) { log.Info("fake devices", "note", sentence) })
	config.Sources, config.Boot = []gpu.Source{door}, door.Boot
	computes := onProcessor(processor, true)
	if os.Getenv(cudaDriverVariable) != "" { // which is a rehearsal of the way to a GPU
		computes = onMachine(processor, ofSources(context.Background(), config.Sources))
	}
	computesOn(config, computes, log)
	return pretended.Name, nil
}

func computesOn(config *agent.Config, c computing, log *slog.Logger) {
	config.Computes, config.Lacks, config.Open = c.kinds, c.lacks, c.open
	for _, lack := range c.lacks {
		log.Info("runs do not compute on GPUs here", "device", lack.UUID, "fast_only", lack.Fast, "reason", lack.Why)
	}
}

// start lets the agent report until it is stopped.
func (d *deviceAgent) start(ctx context.Context) {
	ctx, d.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(d.ended)
		if err := d.Run(ctx); err != nil {
			d.failed <- err
		}
	}()
}

// stop has the agent take its leave and waits for it.
func (d *deviceAgent) stop() {
	if d.cancel != nil {
		d.cancel()
		<-d.ended
	}
	_ = d.free() // the name is free when the process ends in any case
}
