package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/kernels/graph"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/activity"
)

// roles are what a worker process can serve.
var roles = []string{"control", "rollout", "learner", "device"}

// parseRoles reads a comma-separated list of roles.
func parseRoles(list string) ([]string, error) {
	var out []string
	for _, role := range strings.Split(list, ",") {
		role = strings.TrimSpace(role)
		if !slices.Contains(roles, role) {
			return nil, usagef("unknown role %q; roles: %s", role, strings.Join(roles, ", "))
		}
		if !slices.Contains(out, role) {
			out = append(out, role)
		}
	}
	return out, nil
}

// newArithmetic is what credit computes with: the operations of the loss graphs.
func newArithmetic() kernels.Arithmetic { return graph.NewArithmetic() }

// newActivities are the activities of this process, without its device agent.
func (a *app) newActivities(c client.Client, log *slog.Logger) *activity.Activities {
	return &activity.Activities{
		DataDir: a.dataDir, Signals: c, Runs: c, Worker: workerName(), Log: log,
		Processor:    cpu.New(),
		NewEvaluator: func() trainer.Evaluator { return graph.New[float32]() },
		Arithmetic:   newArithmetic(),
		Intercept:    a.intercept,
		Observer:     a.meters.observer(),
	}
}

// service is what one process serves: its Temporal workers, one for each queue of its roles, and its device agent.
type service struct {
	control, work workers
	// agent is nil in a process that has no role with devices.
	agent *deviceAgent
}

// newService builds what the given roles serve on one client. loops is how many rollout loops the process holds
// at once, and how many evaluations.
func (a *app) newService(c client.Client, chosen []string, loops int, log *slog.Logger) (*service, error) {
	s := &service{}
	if slices.Contains(chosen, "control") {
		s.control = workers{newController(c)}
	}
	if len(chosen) == len(s.control) {
		return s, nil
	}
	activities := a.newActivities(c, log)
	var serves lease.Capacity
	if slices.Contains(chosen, "learner") {
		serves.Learner = learnersAtOnce
	}
	if slices.Contains(chosen, "rollout") {
		serves.Rollout, serves.Evaluate = loops, loops
	}
	var err error
	if s.agent, err = a.newAgent(c, serves, activities.Processor, activities.LeaseEnded, log); err != nil {
		return nil, err
	}
	activities.Leases = s.agent
	serve := func(queue string, atOnce int, register func(activity.Registry)) {
		w := worker.New(c, queue, worker.Options{DisableWorkflowWorker: true, WorkerStopTimeout: stopTimeout,
			MaxConcurrentActivityExecutionSize: atOnce, MaxHeartbeatThrottleInterval: heartbeatThrottle})
		register(w)
		s.work = append(s.work, w)
	}
	if serves.Rollout > 0 {
		serve(workflows.AgentQueue(lease.Rollout, s.agent.name), loops, activities.RegisterLoop)
		serve(workflows.AgentQueue(lease.Evaluate, s.agent.name), loops, activities.RegisterEvaluation)
	}
	if serves.Learner > 0 {
		serve(workflows.LearnerQueue, 0, activities.RegisterLearner)
		serve(workflows.AgentQueue(lease.Learner, s.agent.name), 0, activities.RegisterTraining)
	}
	if serves != (lease.Capacity{}) {
		serve(workflows.FolderQueue, 0, activities.RegisterFolder)
	}
	return s, nil
}

// newController builds the worker that carries workflows.
func newController(c client.Client) worker.Worker {
	w := worker.New(c, workflows.ControlQueue, worker.Options{LocalActivityWorkerOnly: true, StickyScheduleToStartTimeout: stickyTimeout})
	w.RegisterWorkflowWithOptions(workflows.TrainingRun, workflow.RegisterOptions{Name: workflows.TrainingRunType})
	w.RegisterWorkflowWithOptions(workflows.RolloutPool, workflow.RegisterOptions{Name: workflows.RolloutPoolType})
	w.RegisterWorkflowWithOptions(workflows.Evaluation, workflow.RegisterOptions{Name: workflows.EvaluationType})
	w.RegisterWorkflowWithOptions(workflows.DevicePool, workflow.RegisterOptions{Name: workflows.DevicePoolType})
	return w
}

// start starts everything; on an error what was started is stopped.
func (s *service) start(ctx context.Context) error {
	if s.agent != nil {
		s.agent.start(ctx)
	}
	err := s.control.start()
	if err == nil {
		if err = s.work.start(); err != nil {
			s.control.stop()
		}
	}
	if err != nil && s.agent != nil {
		s.agent.stop()
	}
	return err
}

// failed gets why the process cannot go on serving; nil never gets anything.
func (s *service) failed() <-chan error {
	if s.agent == nil {
		return nil
	}
	return s.agent.failed
}

// name is that of the device agent; "" without one.
func (s *service) name() string {
	if s.agent == nil {
		return ""
	}
	return s.agent.name
}

// stop ends the work, then has the agent take its leave, for which workflows have to run, and then the rest.
func (s *service) stop() {
	s.work.stop()
	if s.agent != nil {
		s.agent.stop()
	}
	s.control.stop()
}

// workers are Temporal workers of one process.
type workers []worker.Worker

const (
	// loopsOfHost is how many rollout loops a process holds that serves runs all by itself: enough for the
	// pools of the runs that one machine carries.
	loopsOfHost = 16
	// learnersAtOnce is how many learners a process serves at once: their memory is the bound that matters.
	learnersAtOnce = 64
	// heartbeatThrottle lets every heartbeat reach the server: without it the SDK holds them back for most
	// of the time-out that they are meant to beat.
	heartbeatThrottle = 100 * time.Millisecond
	// stickyTimeout is how long a workflow task waits for the process that has its workflow in memory, which
	// may be dead.
	stickyTimeout = 2 * time.Second
)

// workerName names this process for people: host and process id.
func workerName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}

// stopTimeout is how long activities in flight may take to leave when the process stops. What they
// had not committed is done again elsewhere.
const stopTimeout = 2 * time.Second

// start starts all workers; on an error those already started are stopped.
func (w workers) start() error {
	for i, one := range w {
		if err := one.Start(); err != nil {
			w[:i].stop()
			return err
		}
	}
	return nil
}

// stop stops all workers at once and waits for them.
func (w workers) stop() {
	done := make(chan struct{})
	for _, one := range w {
		go func() {
			one.Stop()
			done <- struct{}{}
		}()
	}
	for range w {
		<-done
	}
}

// openLog appends this process's log to a file in the data folder. The terminal is for people.
func (a *app) openLog(name string) (*slog.Logger, func() error, error) {
	file, err := os.OpenFile(filepath.Join(a.dataDir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	return slog.New(slog.NewJSONHandler(file, nil)), file.Close, nil
}

// warnOnly keeps the SDK's warnings in the process's log.
func warnOnly(log *slog.Logger) *slog.Logger { return slog.New(levelHandler{log.Handler()}) }

// levelHandler drops what is less than a warning.
type levelHandler struct{ slog.Handler }

func (h levelHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}
func (h levelHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return levelHandler{h.Handler.WithAttrs(attrs)}
}
func (h levelHandler) WithGroup(name string) slog.Handler {
	return levelHandler{h.Handler.WithGroup(name)}
}
