// Package activity carries out what the workflows decide: it prepares a run's folder, plays rollouts,
// makes and commits training steps, and evaluates.
//
// Every activity may run more than once; its effect happens once, because what it makes is created
// only when it does not exist yet. An error that retrying cannot cure is marked
// [workflows.NonRetryable]; any other error is retried by Temporal until its cause has passed.
package activity

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/render"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/workflows"
)

// Activities are the activities of one worker process.
type Activities struct {
	// DataDir is the data folder that holds the runs.
	DataDir string
	// Signals reach the runs' workflows.
	Signals Signaler
	// Runs tells whether a run's workflow is still open; nil when nobody can tell.
	Runs Describer
	// Worker names this process, for people.
	Worker string
	// Leases guard the devices that networks are trained on and sampled from.
	Leases Leases
	// Processor is what preparing a run computes on, which takes no lease.
	Processor device.Device
	// NewEvaluator makes a loss evaluator for one learner.
	NewEvaluator func() trainer.Evaluator
	// Arithmetic is what credit computes with.
	Arithmetic kernels.Arithmetic
	Log        *slog.Logger
	// Observer is told what this process does; nil tells nobody.
	Observer Observer
	// Intercept is called before each tool call, within the call's time limit; its error is the tool's. It
	// is for injecting faults; nil otherwise.
	Intercept func(ctx context.Context, call rollout.Call) error
	// Engines makes the engine of one rollout loop or evaluation, without weights, by the run's config and
	// the renderers of its environments by name. nil is the decoder that comes with this program, on the device of its lease.
	// Another one stands for it in tests and measurements.
	Engines func(config configs.Run, renderers map[string]render.Renderer) (Engine, error)

	mu       sync.Mutex
	sessions map[string]*session          // learners by run
	folders  map[string]*runfolder.Folder // opened, by run

	handovers handovers

	// faults, when set, makes operations on the runs' folders fail; only tests set it.
	faults func(op, key string) error
	// recordFault, when set, makes the recording of turns fail; only tests set it.
	recordFault func() error
}

// Signaler delivers a signal to a workflow; [client.Client] is one.
type Signaler interface {
	SignalWorkflow(ctx context.Context, workflowID, runID, name string, arg any) error
}

var _ Signaler = client.Client(nil)

// Registry takes activities under a name; a Temporal worker is one.
type Registry interface {
	RegisterActivityWithOptions(a any, options activity.RegisterOptions)
}

// RegisterFolder registers what learners and rollout workers serve on [workflows.FolderQueue].
func (a *Activities) RegisterFolder(registry Registry) {
	register(registry, workflows.PublishControlActivity, a.PublishControl)
	register(registry, workflows.RecordEventActivity, a.RecordEvent)
}

// RegisterLearner registers what the learner role serves on [workflows.LearnerQueue], under no lease.
func (a *Activities) RegisterLearner(registry Registry) {
	register(registry, workflows.PrepareActivity, a.Prepare)
	register(registry, workflows.ChangeConfigActivity, a.ChangeConfig)
}

// RegisterTraining registers what the learner role serves on the queue of its agent; see [workflows.AgentQueue].
func (a *Activities) RegisterTraining(registry Registry) {
	register(registry, workflows.TrainStepActivity, a.TrainStep)
	register(registry, workflows.RepairActivity, a.Repair)
}

// RegisterLoop registers the loop that the rollout role serves on the queue of its agent.
func (a *Activities) RegisterLoop(registry Registry) {
	register(registry, workflows.RolloutLoopActivity, a.RolloutLoop)
}

// RegisterEvaluation registers the evaluations that the rollout role serves on the queue of its agent.
func (a *Activities) RegisterEvaluation(registry Registry) {
	register(registry, workflows.EvaluateActivity, a.Evaluate)
}

func register(registry Registry, name string, function any) {
	registry.RegisterActivityWithOptions(function, activity.RegisterOptions{Name: name})
}

// heartbeat keeps an activity alive while it computes, with details that it may have. A worker that misses
// three heartbeats is given up. The returned function ends it and waits.
func heartbeat(ctx context.Context, details ...func() any) (stop func()) {
	interval := activity.GetInfo(ctx).HeartbeatTimeout / 3
	if interval <= 0 {
		interval = time.Second
	}
	done := make(chan struct{})
	var beating sync.WaitGroup
	beating.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			said := make([]any, len(details))
			for i, detail := range details {
				said[i] = detail()
			}
			activity.RecordHeartbeat(ctx, said...)
			select {
			case <-done:
				return
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	})
	return func() {
		close(done)
		beating.Wait()
	}
}

// classify marks errors that retrying cannot cure.
func classify(err error) error {
	var corrupt *blob.CorruptError
	var malformed *runfolder.FormatError
	var broken *contractError
	if err != nil && (errors.As(err, &corrupt) || errors.As(err, &malformed) || errors.As(err, &broken)) {
		return temporal.NewNonRetryableApplicationError(err.Error(), workflows.NonRetryable, err)
	}
	return err
}

// contractError is an error about data or settings that no retry can cure.
type contractError struct{ err error }

func (e *contractError) Error() string { return e.err.Error() }
func (e *contractError) Unwrap() error { return e.err }

// lasting marks err as one that no retry can cure; nil stays nil.
func lasting(err error) error {
	if err == nil {
		return nil
	}
	return &contractError{err}
}
