package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"github.com/turnwise-rl/turnwise/internal/agent"
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/telemetry"
	"github.com/turnwise-rl/turnwise/workflows/activity"
)

// addMetricsFlag adds the flag that says where the process is scraped.
func (a *app) addMetricsFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.metricsAddress, "metrics", telemetry.DefaultAddress,
		"address of /metrics for Prometheus, or \"off\"; port 0 chooses one, which the log and the data folder's metrics/ say")
}

// meters are what this process measures. nil, which measures nothing, has all methods.
type meters struct {
	*telemetry.Metrics
	dataDir, address string
	log              *slog.Logger
	announced        *telemetry.Announcement
	free             func() error // gives the name back that it is announced by; nil when it is the agent's
}

// openMetrics begins to serve metrics at the address that was asked for, before anything else starts. stop ends
// it. Without an address, or with "off", nothing is measured.
func (a *app) openMetrics(ctx context.Context, log *slog.Logger) (stop func(), err error) {
	if a.metricsAddress == "" || a.metricsAddress == telemetry.Off {
		return func() {}, nil
	}
	server, err := telemetry.Listen(a.metricsAddress, log)
	if err != nil {
		return nil, usageError{err}
	}
	all, err := telemetry.New(log)
	if err != nil {
		_ = server.Close()
		return nil, err
	}
	m := &meters{Metrics: all, dataDir: a.dataDir, address: server.Address(), log: log}
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- server.Serve(serving, all) }()
	log.Info("metrics are served", "url", "http://"+m.address+telemetry.Path)
	a.meters = m
	return func() {
		m.withdraw()
		end()
		if err := <-served; err != nil {
			log.Warn("metrics", "error", err)
		}
		if err := all.Close(); err != nil {
			log.Warn("metrics", "error", err)
		}
	}, nil
}

// announce writes down for Prometheus where the process of this name is scraped. A process without a device agent
// has no name: it takes one that is the same when it is started again, so that its series go on and what a killed
// one has left is replaced. A process that cannot works on.
func (m *meters) announce(name string) {
	if m == nil {
		return
	}
	m.withdraw()
	host, err := agent.Host(), error(nil)
	if name == "" {
		name, m.free, err = agent.ClaimName(m.dataDir, host+"-control")
	}
	if err == nil {
		m.announced, err = telemetry.Announce(m.dataDir, name, host, m.address)
	}
	if err != nil {
		m.log.Warn("Prometheus is not told where this process is scraped", "error", err)
	}
}

func (m *meters) withdraw() {
	if m.announced != nil {
		if err := m.announced.Withdraw(); err != nil {
			m.log.Warn("Prometheus is not told that this process leaves", "error", err)
		}
		m.announced = nil
	}
	if m.free != nil {
		_ = m.free() // the name is free when the process ends in any case
		m.free = nil
	}
}

// observer hears what activities do; nil when nothing is measured.
func (m *meters) observer() activity.Observer {
	if m == nil {
		return nil
	}
	return m.Metrics
}

// handler takes what the Temporal SDK measures; nil when nothing is measured.
func (m *meters) handler() client.MetricsHandler {
	if m == nil {
		return nil
	}
	return m.SDK()
}

// watch has every scrape ask for the devices.
func (m *meters) watch(now func() telemetry.Devices) {
	if m != nil {
		m.WatchDevices(now)
	}
}

// count counts the XIDs that a source tells of.
func (m *meters) count(source gpu.Source) gpu.Source {
	if m == nil {
		return source
	}
	return m.CountEvents(source)
}
