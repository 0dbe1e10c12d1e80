// Package overhead measures orchestration through a real Temporal server: the workflows, activities, signals and
// files of a run, its rollout loop among them, with an engine that sleeps instead of computing and a learner
// that commits without training. What is left is what orchestration costs.
package overhead

import (
	"context"
	"fmt"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/internal/orchestrate"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/activity"
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
	// Step is what a step takes the learner.
	Step time.Duration
	// For is how long is measured, after a warm-up.
	For time.Duration

	// Client reaches the server, whose process is Server.
	Client client.Client
	Server int
	// Activities are those of a process, on a fresh data folder; its engines and signals are replaced. Agent is the
	// name of its device agent, which reports.
	Activities *activity.Activities
	Agent      string
}

// runID names the run that is measured, and its workflow.
const runID = "measured"

// Run starts workers in this process, lets a run go through them and measures.
func (b Bench) Run(ctx context.Context) (Result, error) {
	folder, err := runfolder.Open(b.Activities.DataDir, runID)
	if err != nil {
		return Result{}, err
	}
	input, err := b.input()
	if err != nil {
		return Result{}, err
	}
	p := b.parts(folder)
	stop, err := p.serve()
	if err != nil {
		return Result{}, err
	}
	defer stop()
	run, err := b.Client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: runID, TaskQueue: workflows.ControlQueue, WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		TypedSearchAttributes: temporal.NewSearchAttributes(temporal.NewSearchAttributeKeyKeyword(workflows.RunAttribute).ValueSet(runID)),
	}, workflows.TrainingRunType, input)
	if err != nil {
		return Result{}, fmt.Errorf("start the run: %w", err)
	}
	measured, err := p.measure(ctx)
	if ended := b.end(context.WithoutCancel(ctx), run); err == nil {
		err = ended
	}
	return measured, err
}

// environment is that of every episode, which ends with its first turn.
const environment = "lookup"

// settings are those of the run that are the same in every measurement. Its network is as small as may be.
const settings = `
name: measured
method: {preset: matchtir}
environments: [{type: ` + environment + `}]
tokenizer: {vocab_size: 300}
policy: {layers: 1, hidden: 32, heads: 2, kv_heads: 1, head_dim: 16, ffn: 64}
warm_start: {steps: 0}
sampling: {max_turns: 1, max_tokens: 250}
evaluation: {every: 0}
`

// endless is more steps than any measurement makes.
const endless = 1_000_000

func (b Bench) input() (workflows.RunInput, error) {
	resolved, err := configs.Load([]configs.Source{{Name: "measured.yaml", Data: []byte(settings)}}, []string{
		fmt.Sprint("training.steps=", endless), fmt.Sprint("training.groups_per_step=", b.Batch/b.GroupSize),
		fmt.Sprint("training.group_size=", b.GroupSize), fmt.Sprint("training.staleness=", b.Staleness),
		fmt.Sprint("sampling.slots=", b.Slots), fmt.Sprint("sampling.max_turn_tokens=", sampledTokens),
	})
	if err != nil {
		return workflows.RunInput{}, fmt.Errorf("settings of the measured run: %w", err)
	}
	return activity.Input(runID, resolved)
}

// end cancels the run and waits until its loops have left.
func (b Bench) end(ctx context.Context, run client.WorkflowRun) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	update := client.UpdateWorkflowOptions{WorkflowID: runID, UpdateName: workflows.CancelUpdate}
	if err := workflows.Ask(ctx, b.Client, update, nil); err != nil {
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

// parts are what stands for parts of the run that is measured.
type parts struct {
	bench      Bench
	folder     *runfolder.Folder
	marks      *marks
	activities *activity.Activities
}

func (b Bench) parts(folder *runfolder.Folder) *parts {
	p := &parts{bench: b, folder: folder, marks: newMarks(b.Slots), activities: b.Activities}
	p.activities.Engines, p.activities.Signals = p.engine, teller{p.activities.Signals, p.marks}
	return p
}

// instead are the activities that stand for those of a run, by name.
func (p *parts) instead() map[string]any {
	return map[string]any{workflows.PublishControlActivity: p.publishControl, workflows.TrainStepActivity: p.trainStep}
}

// serve starts a worker for each role, as processes of a run do.
func (p *parts) serve() (stop func(), err error) {
	control := worker.New(p.bench.Client, workflows.ControlQueue, worker.Options{LocalActivityWorkerOnly: true})
	for name, definition := range map[string]any{
		workflows.TrainingRunType: workflows.TrainingRun, workflows.RolloutPoolType: workflows.RolloutPool, workflows.EvaluationType: workflows.Evaluation,
		workflows.DevicePoolType: workflows.DevicePool,
	} {
		control.RegisterWorkflowWithOptions(definition, workflow.RegisterOptions{Name: name})
	}
	serving := []worker.Worker{control}
	for queue, register := range map[string]func(activity.Registry){
		workflows.LearnerQueue: p.activities.RegisterLearner, workflows.FolderQueue: p.activities.RegisterFolder,
		workflows.AgentQueue(lease.Learner, p.bench.Agent):  p.activities.RegisterTraining,
		workflows.AgentQueue(lease.Rollout, p.bench.Agent):  p.activities.RegisterLoop,
		workflows.AgentQueue(lease.Evaluate, p.bench.Agent): p.activities.RegisterEvaluation,
	} {
		w := worker.New(p.bench.Client, queue, worker.Options{DisableWorkflowWorker: true})
		register(observed{w, p.instead()})
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
