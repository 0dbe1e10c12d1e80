//go:build slim

package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/internal/agent"
	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

const twoHosts = `
hosts:
  - name: alpha
    processor: 64GiB
    devices: [{model: H200, count: 2}]
  - name: beta
    devices: [{model: A100}]
`

// TestAgentFlags names the process and chooses its devices; what cannot be is a usage error that says what to do.
func TestAgentFlags(t *testing.T) {
	dir := t.TempDir()
	fleet, broken := filepath.Join(dir, "fleet.yaml"), filepath.Join(dir, "broken.yaml")
	for path, text := range map[string]string{fleet: twoHosts, broken: "hosts: 7\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host := agent.Host()
	for _, test := range []struct {
		flags      agentFlags
		name, want string // the agent's name, or a part of the error
	}{
		{agentFlags{}, host, ""},
		{agentFlags{name: "gpu-7"}, "gpu-7", ""},
		{agentFlags{name: "a/b"}, "", "--name"},
		{agentFlags{fleet: filepath.Join(dir, "none.yaml")}, "", "none.yaml"},
		{agentFlags{fleet: broken}, "", "broken.yaml"},
		{agentFlags{fleet: fleet}, "", "--name"},
		{agentFlags{fleet: fleet, name: "gamma"}, "", "alpha"},
		{agentFlags{fleet: fleet, name: "alpha"}, "alpha", ""},
	} {
		a := &app{in: strings.NewReader(""), out: io.Discard, err: io.Discard, dataDir: dir, agent: test.flags}
		d, err := a.newAgent(nil, lease.Capacity{Learner: 1}, nil, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			if test.want == "" || exitCode(err) != exitUsage || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%+v: %v, exit %d; want %q", test.flags, err, exitCode(err), test.want)
			}
			continue
		}
		if test.want != "" || d.name != test.name {
			t.Errorf("%+v: agent %s; want %q", test.flags, d.name, test.name+test.want)
		}
		d.stop() // so that the name is free for the next
	}
}

// TestNameOfTheLiving refuses a name that a living process has, which would lose its leases, and gives it to the next
// one when that process is gone. A process without a name of its own takes the next of its host's.
func TestNameOfTheLiving(t *testing.T) {
	dir, host := t.TempDir(), agent.Host()
	start := func(name string) (*deviceAgent, error) {
		a := &app{in: strings.NewReader(""), out: io.Discard, err: io.Discard, dataDir: dir, agent: agentFlags{name: name}}
		return a.newAgent(nil, lease.Capacity{}, nil, nil, slog.New(slog.DiscardHandler))
	}
	for _, name := range []string{"alpha", host} {
		first, err := start(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := start(name); err == nil || exitCode(err) != exitUsage || !strings.Contains(err.Error(), "another process has this name: "+name) ||
			!strings.Contains(err.Error(), "choose another one") {
			t.Errorf("a second %s: %v, exit %d", name, err, exitCode(err))
		}
		if name == host {
			second, err := start("")
			if err != nil || second.name != host+"-2" {
				t.Fatalf("without a name: %+v, %v", second, err)
			}
			second.stop()
		}
		first.stop()
		again, err := start(name)
		if err != nil {
			t.Fatalf("%s again: %v", name, err)
		}
		again.stop()
	}
}

// TestFleetStandsForTheMachine offers GPUs, which the processor computes for, and no others do.
func TestFleetStandsForTheMachine(t *testing.T) {
	fleet := filepath.Join(t.TempDir(), "fleet.yaml")
	if err := os.WriteFile(fleet, []byte(twoHosts), 0o600); err != nil {
		t.Fatal(err)
	}
	for kinds, flags := range map[int]agentFlags{1: {}, 2: {fleet: fleet, name: "alpha"}} {
		a := &app{dataDir: t.TempDir(), agent: flags}
		config := agent.Config{}
		host, err := a.findDevices(&config, nil, slog.New(slog.DiscardHandler))
		if err != nil || len(config.Computes) != kinds || len(config.Sources) == 0 || kinds == 2 && (host != "alpha" || config.Boot == nil) {
			t.Errorf("%+v: host %s computes for %v, %v", flags, host, config.Computes, err)
		}
	}
}

// TestLearnerText says where the learner is, that it has to leave, or why it is nowhere.
func TestLearnerText(t *testing.T) {
	for want, status := range map[string]runstate.Status{
		"":                        {},
		"GPU-1 on beta (lease 7)": {Learner: runstate.LearnerStatus{Where: "GPU-1 on beta", Fence: 7}},
		"GPU-1 on beta (lease 7), to be given back after what is in flight: priority 1 waits": {
			Learner: runstate.LearnerStatus{Where: "GPU-1 on beta", Fence: 7, Yield: "priority 1 waits"}},
		"without a device: needs 4; free 3": {WaitingFor: "groups: 3 of 4 ready", Learner: runstate.LearnerStatus{Waiting: "needs 4; free 3"}},
		"without a device":                  {WaitingFor: "a device for the learner: needs 4; free 3", Learner: runstate.LearnerStatus{Waiting: "needs 4; free 3"}},
	} {
		if got := learnerText(status.Learner, status.WaitingFor); got != want {
			t.Errorf("%+v: %q, want %q", status, got, want)
		}
	}
}

// TestHostThatCannotServe ends what follows a run in it with the reason; a host that serves ends nothing.
func TestHostThatCannotServe(t *testing.T) {
	refused := &agent.RefusedError{Agent: "here", Reason: "choose a name with --name"}
	failed := make(chan error, 1)
	h := &host{failed: failed}
	ctx, end := h.whileServing(t.Context())
	if ctx.Err() != nil {
		t.Errorf("a host that serves: %v", ctx.Err())
	}
	end()
	ctx, end = h.whileServing(t.Context())
	defer end()
	failed <- refused
	<-ctx.Done()
	if cause := context.Cause(ctx); cause != refused {
		t.Errorf("a host that cannot serve: %v, want %v", cause, refused)
	}
}
