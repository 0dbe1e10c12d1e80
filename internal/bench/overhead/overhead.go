// Package overhead measures orchestration through a real Temporal server: the workflows, signals, control
// objects, journals, segments and manifests of a run, with episodes that sleep instead of computing and
// a learner that commits without training. What is left is what orchestration costs.
//
// The rollout loop is a stand-in that keeps the contract of the real one: it claims a tenure, plays its
// share member by member, makes each turn durable, stores each group and reports it, with one signal
// under way at a time. It fails no episode and leaves only with its run.
package overhead

import (
	"context"
	"fmt"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/internal/orchestrate"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// Bench is what to measure.
type Bench struct {
	// Slots is how many episodes are in flight.
	Slots int
	// Batch is the trajectories of a step, in groups of GroupSize, which divides it.
	Batch, GroupSize int
	Staleness        int
	// Latency is that of an episode, in seconds.
	Latency orchestrate.Latency
	// For is how long is measured, after a warm-up.
	For time.Duration

	// Client reaches the server, whose process is Server.
	Client client.Client
	Server int
	// DataDir is a fresh data folder.
	DataDir string
}

// runID names the run that is measured, and its workflow.
const runID = "measured"

// warmUp is how long the run goes before it is measured: Temporal's caches fill, connections open.
const warmUp = 3 * time.Second

// Run starts workers in this process, lets a run go through them and measures.
func (b Bench) Run(ctx context.Context) (Result, error) {
	folder, err := runfolder.Open(b.DataDir, runID)
	if err != nil {
		return Result{}, err
	}
	p := &parts{bench: b, folder: folder, marks: newMarks()}
	stop, err := p.serve()
	if err != nil {
		return Result{}, err
	}
	defer stop()
	run, err := b.Client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: runID, TaskQueue: workflows.ControlQueue, WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		TypedSearchAttributes: temporal.NewSearchAttributes(temporal.NewSearchAttributeKeyKeyword(workflows.RunAttribute).ValueSet(runID)),
	}, workflows.TrainingRunType, b.input())
	if err != nil {
		return Result{}, fmt.Errorf("start the run: %w", err)
	}
	measured, err := p.measure(ctx)
	if ended := b.end(context.WithoutCancel(ctx), run); err == nil {
		err = ended
	}
	return measured, err
}

// endless is more steps than any measurement makes.
const endless = 1 << 30

func (b Bench) input() workflows.RunInput {
	return workflows.RunInput{
		Run: runID, Method: "none",
		Spec: runstate.Spec{
			TrainSteps: endless, GroupsPerStep: b.Batch / b.GroupSize, GroupSize: b.GroupSize, Staleness: b.Staleness,
			Pools: 1, Slots: b.Slots, CheckpointEvery: endless,
			Failures:    runstate.Failures{Retries: 1, Replacements: 1, MaxShare: 0.5, Window: 64},
			StepTimeout: time.Hour, StallAfter: time.Hour,
		},
		Limits: workflows.Limits{StepTimeout: time.Hour, HeartbeatTimeout: 10 * time.Second, LoopTimeout: 2 * time.Hour, GiveUpAfter: time.Hour},
	}
}

// end cancels the run and waits until its loops have left.
func (b Bench) end(ctx context.Context, run client.WorkflowRun) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	update, err := b.Client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: runID, UpdateName: workflows.CancelUpdate, WaitForStage: client.WorkflowUpdateStageCompleted})
	if err == nil {
		err = update.Get(ctx, nil)
	}
	if err != nil {
		return fmt.Errorf("cancel the measured run: %w", err)
	}
	if err := run.Get(ctx, nil); err != nil && !temporal.IsCanceledError(err) {
		return fmt.Errorf("the measured run: %w", err)
	}
	pool := b.Client.GetWorkflow(ctx, workflows.PoolID(runID, 0), "")
	if err := pool.Get(ctx, nil); err != nil {
		return fmt.Errorf("the pool of the measured run: %w", err)
	}
	return nil
}

// parts are the activities of the run that is measured.
type parts struct {
	bench  Bench
	folder *runfolder.Folder
	marks  *marks
}

// serve starts a worker for each role, as processes of a run do.
func (p *parts) serve() (stop func(), err error) {
	control := worker.New(p.bench.Client, workflows.ControlQueue, worker.Options{LocalActivityWorkerOnly: true})
	for name, definition := range map[string]any{
		workflows.TrainingRunType: workflows.TrainingRun, workflows.RolloutPoolType: workflows.RolloutPool, workflows.EvaluationType: workflows.Evaluation,
	} {
		control.RegisterWorkflowWithOptions(definition, workflow.RegisterOptions{Name: name})
	}
	only := worker.Options{DisableWorkflowWorker: true}
	serving := []worker.Worker{control}
	for queue, activities := range map[string]map[string]any{
		workflows.LearnerQueue: {workflows.PrepareActivity: p.prepare, workflows.PublishControlActivity: p.publishControl,
			workflows.RecordEventActivity: p.recordEvent, workflows.TrainStepActivity: p.trainStep},
		workflows.RolloutQueue:  {workflows.RolloutLoopActivity: p.rolloutLoop},
		workflows.EvaluateQueue: {workflows.EvaluateActivity: p.evaluate},
	} {
		w := worker.New(p.bench.Client, queue, only)
		for name, function := range activities {
			w.RegisterActivityWithOptions(function, activity.RegisterOptions{Name: name})
		}
		serving = append(serving, w)
	}
	started := 0
	stop = func() {
		for _, w := range serving[:started] {
			w.Stop()
		}
	}
	for _, w := range serving {
		if err := w.Start(); err != nil {
			stop()
			return nil, err
		}
		started++
	}
	return stop, nil
}
