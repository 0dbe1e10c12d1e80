package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/activity"
)

// newRunID makes a run's id from its config's name and a few random digits.
func newRunID(name string) string {
	var tail [2]byte
	_, _ = rand.Read(tail[:]) // never fails
	return name + "-" + hex.EncodeToString(tail[:])
}

// startRun starts the workflow of a run, or attaches to it when it is running. A run whose history is
// gone starts afresh and goes on from the last step committed in its folder.
func startRun(ctx context.Context, c client.Client, id string, resolved *configs.Resolved) (client.WorkflowRun, error) {
	input, err := activity.Input(id, resolved)
	if err != nil {
		return nil, err
	}
	return startWorkflow(ctx, c, input)
}

// startWorkflow starts the workflow of a run with its input.
func startWorkflow(ctx context.Context, c client.Client, input workflows.RunInput) (client.WorkflowRun, error) {
	id := input.Run
	options := client.StartWorkflowOptions{
		ID: id, TaskQueue: workflows.ControlQueue, WorkflowTaskTimeout: workflows.TaskTimeout,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:            fmt.Sprintf("%s · %d steps", input.Method, input.Spec.LastStep()),
		TypedSearchAttributes: temporal.NewSearchAttributes(
			temporal.NewSearchAttributeKeyKeyword(workflows.RunAttribute).ValueSet(id),
			temporal.NewSearchAttributeKeyKeyword(workflows.MethodAttribute).ValueSet(input.Method),
		),
	}
	return c.ExecuteWorkflow(ctx, options, workflows.TrainingRunType, input)
}

// unfinishedRun returns the newest run of the data folder with this very config that has not reached
// its end; "" when there is none.
func (a *app) unfinishedRun(ctx context.Context, resolved *configs.Resolved) (string, error) {
	ids, err := runfolder.List(a.dataDir)
	if err != nil {
		return "", err
	}
	newest, newestTime := "", int64(0)
	for _, id := range ids {
		path := filepath.Join(runfolder.Runs(a.dataDir), id, runfolder.ConfigKey)
		text, err := os.ReadFile(path)
		if err != nil {
			continue // a folder that was never made ready
		}
		theirs, err := configs.Reload(path, text)
		if err != nil || theirs.Digest() != resolved.Digest() {
			continue // another run, or one that an earlier program made
		}
		folder, err := runfolder.Open(a.dataDir, id)
		if err != nil {
			return "", err
		}
		if ended, err := hasEnded(ctx, folder, activity.Spec(resolved.Run).LastStep()); err != nil || ended {
			if err != nil {
				return "", err
			}
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		if modified := info.ModTime().UnixNano(); modified > newestTime {
			newest, newestTime = id, modified
		}
	}
	return newest, nil
}

// hasEnded reports whether a run's last step is committed and evaluated, or the run was sent home.
func hasEnded(ctx context.Context, folder *runfolder.Folder, lastStep int) (bool, error) {
	control, err := folder.Control(ctx)
	if err != nil {
		return false, err
	}
	if control.Stopped {
		return true, nil
	}
	evaluated, err := folder.Evaluations(ctx)
	return len(evaluated) > 0 && evaluated[len(evaluated)-1] == lastStep, err
}

// host is what a command needs to carry runs in its own process: a server to talk to and workers.
type host struct {
	client   client.Client
	endpoint connect.Endpoint
	// failed gets why this process cannot go on carrying runs.
	failed <-chan error
	stop   func()
}

// whileServing returns a context that ends, with its cause, when this process cannot go on carrying runs, and
// what ends looking for that.
func (h *host) whileServing(ctx context.Context) (serving context.Context, end func()) {
	ctx, fail := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case err := <-h.failed:
			fail(err)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		fail(nil)
		<-watched
	}
}

// host starts or attaches to the embedded server, unless the environment names a cluster, and starts
// workers of all roles in this process.
func (a *app) host(ctx context.Context, ports connect.SpawnConfig) (*host, error) {
	if err := a.makeDataDir(); err != nil {
		return nil, err
	}
	log, closeLog, err := a.openLog("turnwise.log")
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	closeMetrics, err := a.openMetrics(ctx, log)
	if err != nil {
		closeLog()
		return nil, err
	}
	leave := func() { closeMetrics(); closeLog() }
	h := &host{}
	stopServer, err := a.reach(ctx, h, ports, log)
	if err != nil {
		leave()
		return nil, err
	}
	if err := connect.Preflight(ctx, h.client, h.endpoint); err != nil {
		stopServer()
		leave()
		return nil, err
	}
	serving, err := a.newService(h.client, roles, loopsOfHost, log)
	if err == nil {
		err = serving.start(ctx)
	}
	if err != nil {
		stopServer()
		leave()
		return nil, err
	}
	h.failed = serving.failed()
	h.stop = func() {
		serving.stop()
		stopServer()
		leave()
	}
	a.meters.announce(serving.name())
	return h, nil
}

// reach fills in the host's client and returns what gives it back.
func (a *app) reach(ctx context.Context, h *host, ports connect.SpawnConfig, log *slog.Logger) (stop func(), err error) {
	_, external, err := connect.FromEnvironment()
	if err != nil {
		return nil, usageError{err}
	}
	options := connect.Options{DataDir: a.dataDir, Logger: warnOnly(log), Metrics: a.meters.handler()}
	if external {
		h.client, h.endpoint, err = connect.Dial(ctx, options)
		if err != nil {
			return nil, err
		}
		return h.client.Close, nil
	}
	ports.DataDir, ports.Logger = a.dataDir, warnOnly(log)
	ports.Report = func(e connect.Event) {
		log.Warn("embedded server", "event", string(e.Kind), "attempt", e.Attempt, "error", e.Err)
		a.note("embedded Temporal server %s", e.Kind)
	}
	child, err := connect.Spawn(ctx, ports)
	if err != nil {
		return nil, err
	}
	h.client, h.endpoint, err = connect.DialEmbedded(ctx, options)
	if err != nil {
		child.Stop()
		return nil, err
	}
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if err := child.Supervise(watching); err != nil {
			a.note("the embedded Temporal server does not stay up: %v", err)
		}
	}()
	return func() {
		stopWatching()
		<-watched
		h.client.Close()
		child.Stop()
	}, nil
}
