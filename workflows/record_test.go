//go:build record

package workflows

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	enums "go.temporal.io/api/enums/v1"
	history "go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/internal/temporalserver/temporaltest"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// TestRecord plays runs on a real server and writes their histories for TestReplay:
//
//	go test -tags record -run TestRecord ./workflows
//
// It links the embedded server, so it is behind a build tag.
func TestRecord(t *testing.T) {
	c, endpoint := temporaltest.Start(t)
	if err := connect.Preflight(t.Context(), c, endpoint); err != nil {
		t.Fatal(err)
	}
	for name, scene := range map[string]func(*recording){
		"full": recordFull, "cancelled": recordCancelled, "abandoned": recordAbandoned, "restarted": recordRestarted,
		"handover": recordHandover, "pool": recordPool,
	} {
		t.Run(name, func(t *testing.T) {
			scene(newRecording(t, c, "run-"+name))
		})
	}
}

// recording is one run on a real server with workers around an in-memory folder.
type recording struct {
	t      *testing.T
	client client.Client
	id     string
	folder *runFolder
	loops  sync.Map // pool to the number of loops it has had
}

func newRecording(t *testing.T, c client.Client, id string) *recording {
	t.Helper()
	r := &recording{t: t, client: c, id: id, folder: newRunFolder(small)}
	r.folder.signal = func(runstate.GroupRef) {}
	control := worker.New(c, ControlQueue, worker.Options{LocalActivityWorkerOnly: true})
	control.RegisterWorkflowWithOptions(TrainingRun, workflow.RegisterOptions{Name: TrainingRunType})
	control.RegisterWorkflowWithOptions(RolloutPool, workflow.RegisterOptions{Name: RolloutPoolType})
	learner := worker.New(c, LearnerQueue, worker.Options{DisableWorkflowWorker: true})
	for name, function := range map[string]any{
		PrepareActivity: r.folder.Prepare, TrainStepActivity: r.folder.TrainStep,
		PublishControlActivity: r.folder.PublishControl, RecordEventActivity: r.folder.RecordEvent,
	} {
		learner.RegisterActivityWithOptions(function, activity.RegisterOptions{Name: name})
	}
	rollout := worker.New(c, RolloutQueue, worker.Options{DisableWorkflowWorker: true})
	rollout.RegisterActivityWithOptions(r.folder.Evaluate, activity.RegisterOptions{Name: EvaluateActivity})
	rollout.RegisterActivityWithOptions(r.loop, activity.RegisterOptions{Name: RolloutLoopActivity})
	for _, w := range []worker.Worker{control, learner, rollout} {
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Stop)
	}
	return r
}

// loop is a rollout worker: it reports its pool's groups as they are admitted, and hands over once.
func (r *recording) loop(ctx context.Context, input LoopInput) (LoopResult, error) {
	count := 1
	if before, ok := r.loops.Load(input.Pool); ok {
		count += before.(int)
	}
	r.loops.Store(input.Pool, count)
	for next := input.Pool; ; {
		r.folder.mu.Lock()
		var control runstate.Control
		if n := len(r.folder.controls); n > 0 {
			control = r.folder.controls[n-1]
		}
		r.folder.mu.Unlock()
		if control.Stopped {
			return LoopResult{Stopped: true}, nil
		}
		for ; next < control.Admitted; next += input.Pools {
			group := runstate.GroupRef{Number: next, Object: ref("segments", next)}
			if err := r.client.SignalWorkflow(ctx, input.Run, "", GroupSignal, group); err != nil {
				return LoopResult{}, err
			}
			if count == 1 && input.Pool == 1 {
				return LoopResult{}, nil
			}
		}
		activity.RecordHeartbeat(ctx)
		select {
		case <-ctx.Done():
			return LoopResult{}, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (r *recording) start() client.WorkflowRun {
	r.t.Helper()
	in := input(small)
	in.Run = r.id
	in.Limits.HeartbeatTimeout = 2 * time.Second
	run, err := r.client.ExecuteWorkflow(r.t.Context(), client.StartWorkflowOptions{ID: r.id, TaskQueue: ControlQueue}, TrainingRunType, in)
	if err != nil {
		r.t.Fatal(err)
	}
	return run
}

func (r *recording) update(ctx context.Context, name string) error {
	handle, err := r.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{WorkflowID: r.id, UpdateName: name, WaitForStage: client.WorkflowUpdateStageCompleted})
	if err != nil {
		return err
	}
	var reply ControlReply
	return handle.Get(ctx, &reply)
}

// once hooks into the first occurrence of a moment.
func (r *recording) once(moment string, do func(context.Context) error) {
	var once sync.Once
	r.folder.hooks[moment] = func(ctx context.Context) (err error) {
		once.Do(func() { err = do(ctx) })
		return err
	}
}

func (r *recording) completed(run client.WorkflowRun) {
	r.t.Helper()
	var result RunResult
	if err := run.Get(r.t.Context(), &result); err != nil {
		r.t.Fatal(err)
	}
	if result.Outcome != runstate.Completed || result.Committed != small.LastStep() {
		r.t.Fatalf("result: %+v", result)
	}
	same(r.t, "steps", r.folder.steps(), smallSteps)
	r.attribute("completed")
}

// attribute checks by which status the run is listed.
func (r *recording) attribute(want string) {
	r.t.Helper()
	description, err := r.client.DescribeWorkflow(r.t.Context(), r.id, "")
	if err != nil {
		r.t.Fatal(err)
	}
	if got, _ := description.TypedSearchAttributes.GetKeyword(statusAttribute); got != want {
		r.t.Errorf("%s: got %q, want %q", StatusAttribute, got, want)
	}
}

// save writes the history of one workflow run; an empty run id means the latest one.
func (r *recording) save(name, workflowID, runID string) *history.History {
	r.t.Helper()
	var out history.History
	events := r.client.GetWorkflowHistory(r.t.Context(), workflowID, runID, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		if err != nil {
			r.t.Fatal(err)
		}
		out.Events = append(out.Events, event)
	}
	data, err := temporalproto.CustomJSONMarshalOptions{Indent: " "}.Marshal(&out)
	if err != nil {
		r.t.Fatal(err)
	}
	data = regexp.MustCompile(`"identity": "[^"]*"`).ReplaceAll(data, []byte(`"identity": "recorder"`))
	if err := os.MkdirAll("testdata/histories", 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("testdata/histories", name+".json"), append(data, '\n'), 0o644); err != nil {
		r.t.Fatal(err)
	}
	r.t.Logf("%s: %d events, %d bytes", name, len(out.Events), len(data))
	return &out
}

// recordFull pauses and resumes on the way. A pool of an earlier run is still there and is replaced.
func recordFull(r *recording) {
	stale, err := r.client.ExecuteWorkflow(r.t.Context(), client.StartWorkflowOptions{ID: PoolID(r.id, 0), TaskQueue: ControlQueue},
		RolloutPoolType, PoolInput{Run: r.id, Pool: 0, Pools: 2, Limits: input(small).Limits})
	if err != nil {
		r.t.Fatal(err)
	}
	r.once("train 4", func(ctx context.Context) error { return r.update(ctx, PauseUpdate) })
	r.once("record pause asked at step 3", func(ctx context.Context) error { return r.update(ctx, ResumeUpdate) })
	run := r.start()
	r.completed(run)
	r.save("full", r.id, run.GetRunID())
	if err := r.client.GetWorkflow(r.t.Context(), PoolID(r.id, 0), "").Get(r.t.Context(), nil); err != nil {
		r.t.Errorf("the new pool: %v", err)
	}
	r.save("pool_stopped", PoolID(r.id, 0), "")
	var terminated *temporal.TerminatedError
	if err := stale.Get(r.t.Context(), nil); !errors.As(err, &terminated) {
		r.t.Errorf("the pool of an earlier run: %v, want it terminated", err)
	}
}

func recordCancelled(r *recording) {
	r.once("train 4", func(ctx context.Context) error { return r.update(ctx, CancelUpdate) })
	run := r.start()
	if err := run.Get(r.t.Context(), nil); !temporal.IsCanceledError(err) {
		r.t.Fatalf("got %v, want a cancellation", err)
	}
	r.attribute("cancelled")
	r.save("cancelled", r.id, run.GetRunID())
}

// recordAbandoned cancels the workflow; the run closes after the learner has let go.
func recordAbandoned(r *recording) {
	left := false
	r.once("train 4", func(ctx context.Context) error {
		if err := r.client.CancelWorkflow(ctx, r.id, ""); err != nil {
			return err
		}
		for ctx.Err() == nil {
			activity.RecordHeartbeat(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
		r.folder.mu.Lock()
		left = true
		r.folder.mu.Unlock()
		return ctx.Err()
	})
	run := r.start()
	if err := run.Get(r.t.Context(), nil); !temporal.IsCanceledError(err) {
		r.t.Fatalf("got %v, want a cancellation", err)
	}
	r.folder.mu.Lock()
	if !left || !r.folder.stopped() {
		r.t.Errorf("the learner has let go: %v; controls: %+v", left, r.folder.controls)
	}
	r.folder.mu.Unlock()
	r.attribute("cancelled")
	r.save("abandoned", r.id, run.GetRunID())
	if err := r.client.GetWorkflow(r.t.Context(), PoolID(r.id, 0), "").Get(r.t.Context(), nil); err != nil {
		r.t.Errorf("the pool: %v, want it to leave by itself", err)
	}
}

// recordRestarted fails and is submitted again.
func recordRestarted(r *recording) {
	r.once("train 4", func(context.Context) error { return broken("no device") })
	run := r.start()
	var failure *temporal.ApplicationError
	if err := run.Get(r.t.Context(), nil); !errors.As(err, &failure) || failure.Message() != "step 4: no device" {
		r.t.Fatalf("got %v, want the learner's failure", err)
	}
	r.attribute("failed")
	r.save("failed", r.id, run.GetRunID())
	again := r.start()
	r.completed(again)
	r.save("restarted", r.id, again.GetRunID())
}

// recordHandover floods a paused run with signals until it continues as new under them.
func recordHandover(r *recording) {
	r.once("train 4", func(ctx context.Context) error { return r.update(ctx, PauseUpdate) })
	run := r.start()
	first := run.GetRunID()
	flood, stop := context.WithCancel(r.t.Context())
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() {
			for i := 0; flood.Err() == nil; i++ {
				group := runstate.GroupRef{Number: i % 6, Object: ref("segments", i%6)}
				if err := r.client.SignalWorkflow(flood, r.id, "", GroupSignal, group); err != nil && flood.Err() == nil {
					r.t.Error(err)
					return
				}
			}
		})
	}
	var again *workflow.ContinueAsNewError
	err := r.client.GetWorkflow(r.t.Context(), r.id, first).GetWithOptions(r.t.Context(), nil, client.WorkflowRunGetOptions{DisableFollowingRuns: true})
	stop()
	senders.Wait()
	if !errors.As(err, &again) {
		r.t.Fatalf("got %v, want continue-as-new", err)
	}
	r.attribute("paused")
	if err := r.update(r.t.Context(), ResumeUpdate); err != nil {
		r.t.Fatal(err)
	}
	r.completed(run)
	r.save("handed_over", r.id, "")
}

// recordPool is a pool that hands over, and one that a person cancels.
func recordPool(r *recording) {
	r.completed(r.start())
	id := PoolID(r.id, 1)
	if err := r.client.GetWorkflow(r.t.Context(), id, "").Get(r.t.Context(), nil); err != nil {
		r.t.Error(err)
	}
	last := r.save("pool_handed_over", id, "")
	before := last.Events[0].GetWorkflowExecutionStartedEventAttributes().GetContinuedExecutionRunId()
	r.save("pool_handed_over", id, before)

	in := PoolInput{Run: r.id + "-gone", Pool: 0, Pools: 1, Limits: input(small).Limits}
	in.Limits.HeartbeatTimeout = 2 * time.Second
	r.folder.mu.Lock()
	r.folder.controls = nil
	r.folder.mu.Unlock()
	id = PoolID(in.Run, 0)
	pool, err := r.client.ExecuteWorkflow(r.t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: ControlQueue}, RolloutPoolType, in)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.client.CancelWorkflow(r.t.Context(), id, ""); err != nil {
		r.t.Fatal(err)
	}
	if err := pool.Get(r.t.Context(), nil); !temporal.IsCanceledError(err) {
		r.t.Errorf("got %v, want a cancellation", err)
	}
	r.save("pool_cancelled", id, "")
}
