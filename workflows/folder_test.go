package workflows

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// runFolder stands for a run's folder and all its workers: it carries the activities out in memory and
// keeps what they leave. A test hooks into a moment by its name, such as "train 3"; the error that a
// hook returns is the activity's.
type runFolder struct {
	mu        sync.Mutex
	spec      runstate.Spec
	committed int
	trained   []TrainInput
	evaluated []int
	fence     int
	controls  []runstate.Control
	events    []string
	hooks     map[string]func(context.Context) error
	signal    func(runstate.GroupRef) // reports a finished group
}

func newRunFolder(spec runstate.Spec) *runFolder {
	return &runFolder{spec: spec, hooks: map[string]func(context.Context) error{}}
}

// at runs the hook of a moment, without holding the lock.
func (f *runFolder) at(ctx context.Context, moment string) error {
	if hook := f.hooks[moment]; hook != nil {
		return hook(ctx)
	}
	return nil
}

func ref(kind string, number int) runstate.Ref {
	return runstate.Ref{Key: fmt.Sprintf("%s/%d", kind, number), Digest: "sha256:0", Size: 1}
}

func (f *runFolder) Prepare(ctx context.Context, _ PrepareInput) (PrepareResult, error) {
	if err := f.at(ctx, "prepare"); err != nil {
		return PrepareResult{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	result := PrepareResult{Committed: f.committed, Weights: ref("weights", f.committed), Evaluated: f.evaluated, Fence: f.fence}
	if len(f.controls) > 0 {
		result.Revision = f.controls[len(f.controls)-1].Revision
	}
	return result, nil
}

func (f *runFolder) TrainStep(ctx context.Context, input TrainInput) (TrainResult, error) {
	if err := f.at(ctx, fmt.Sprintf("train %d", input.Step)); err != nil {
		return TrainResult{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if input.Step != f.committed+1 || input.Fence <= f.fence {
		return TrainResult{}, broken("step %d with fence %d after step %d with fence %d", input.Step, input.Fence, f.committed, f.fence)
	}
	f.committed, f.fence = input.Step, input.Fence
	f.trained = append(f.trained, input)
	return TrainResult{Step: input.Step, Weights: ref("weights", input.Step)}, nil
}

func (f *runFolder) Evaluate(ctx context.Context, input EvaluateInput) error {
	if err := f.at(ctx, fmt.Sprintf("evaluate %d", input.Version)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.evaluated = append(f.evaluated, input.Version)
	return nil
}

// PublishControl keeps the control object, and plays rollout workers: it reports every group that is
// admitted, the last one first.
func (f *runFolder) PublishControl(ctx context.Context, input ControlInput) error {
	moment := fmt.Sprintf("publish %d", input.Control.Version)
	if input.Control.Stopped {
		moment = "stop"
	}
	if err := f.at(ctx, moment); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.controls); n > 0 && f.controls[n-1].Revision >= input.Control.Revision {
		return broken("revision %d after %d", input.Control.Revision, f.controls[n-1].Revision)
	}
	f.controls = append(f.controls, input.Control)
	for number := input.Control.Admitted - 1; number >= input.Control.Consumed && !input.Control.Stopped; number-- {
		f.signal(runstate.GroupRef{Number: number, Object: ref("segments", number)})
	}
	return nil
}

func (f *runFolder) RecordEvent(ctx context.Context, input RecordInput) error {
	if err := f.at(ctx, "record "+input.Text); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, input.Text)
	return nil
}

func broken(format string, args ...any) error {
	return temporal.NewNonRetryableApplicationError(fmt.Sprintf(format, args...), NonRetryable, nil)
}

// steps lists what was trained, for comparison.
func (f *runFolder) steps() []string {
	var out []string
	for _, input := range f.trained {
		var groups []string
		for _, g := range input.Batch {
			groups = append(groups, fmt.Sprint(g.Number))
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%d %s %s", input.Step, input.Kind, strings.Join(groups, ","))))
	}
	return out
}

// stopped says whether rollout workers are told to leave.
func (f *runFolder) stopped() bool {
	return len(f.controls) > 0 && f.controls[len(f.controls)-1].Stopped
}

// stage is a test environment with a run on it.
type stage struct {
	*testsuite.TestWorkflowEnvironment
	t       *testing.T
	folder  *runFolder
	pools   []string // ids of the pools started
	classes []string // values of the status attribute, in order
}

func newStage(t *testing.T, folder *runFolder) *stage {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(quiet{})
	s := &stage{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), t: t, folder: folder}
	s.SetTestTimeout(30 * time.Second)
	s.SetWorkerOptions(worker.Options{Interceptors: []interceptor.WorkerInterceptor{&attributeWatch{stage: s}}})
	s.RegisterWorkflowWithOptions(TrainingRun, workflow.RegisterOptions{Name: TrainingRunType})
	s.RegisterWorkflowWithOptions(func(ctx workflow.Context, _ PoolInput) error {
		s.pools = append(s.pools, workflow.GetInfo(ctx).WorkflowExecution.ID)
		return nil
	}, workflow.RegisterOptions{Name: RolloutPoolType})
	for name, function := range map[string]any{
		PrepareActivity: folder.Prepare, TrainStepActivity: folder.TrainStep, EvaluateActivity: folder.Evaluate,
		PublishControlActivity: folder.PublishControl, RecordEventActivity: folder.RecordEvent,
	} {
		s.RegisterActivityWithOptions(function, activity.RegisterOptions{Name: name})
	}
	folder.signal = func(group runstate.GroupRef) { s.SignalWorkflow(GroupSignal, group) }
	return s
}

func input(spec runstate.Spec) RunInput {
	return RunInput{Run: "a-run", Method: "matchtir", Config: "{}", Spec: spec,
		Limits: Limits{StepTimeout: time.Hour, HeartbeatTimeout: 10 * time.Second, LoopTimeout: time.Hour}}
}

// play carries the run to the end of this workflow run.
func (s *stage) play(in RunInput) error {
	s.t.Helper()
	s.ExecuteWorkflow(TrainingRunType, in)
	if !s.IsWorkflowCompleted() {
		s.t.Fatal("the workflow did not end")
	}
	return s.GetWorkflowError()
}

// hook does something at a moment, once, while the activity of that moment is under way.
func (s *stage) hook(moment string, do func(ctx context.Context) error) {
	var once sync.Once
	s.folder.hooks[moment] = func(ctx context.Context) (err error) {
		once.Do(func() { err = do(ctx) })
		return err
	}
}

// reply is what became of an update.
type reply struct {
	status   runstate.Status
	rejected string
}

// update sends an update from an activity and waits for what becomes of it, so the reply is given
// while that activity is under way.
func (s *stage) update(ctx context.Context, name string) (reply, error) {
	result := make(chan reply, 1)
	s.RegisterDelayedCallback(func() { s.updateNow(name, func(r reply) { result <- r }) }, 0)
	select {
	case r := <-result:
		return r, nil
	case <-ctx.Done():
		return reply{}, broken("%s was not answered: %v", name, ctx.Err())
	}
}

// updateNow sends an update from a callback of the environment.
func (s *stage) updateNow(name string, answer func(reply)) {
	s.UpdateWorkflow(name, "", &testsuite.TestUpdateCallback{
		OnReject: func(err error) { answer(reply{rejected: err.Error()}) },
		OnComplete: func(value any, err error) {
			if err != nil {
				answer(reply{rejected: "failed: " + err.Error()})
				return
			}
			answer(reply{status: value.(ControlReply).Status})
		},
	})
}

// status queries the run. It is for callbacks of the environment, and for after the end.
func (s *stage) status() runstate.Status {
	s.t.Helper()
	value, err := s.QueryWorkflow(StatusQuery)
	if err != nil {
		s.t.Fatal(err)
	}
	var status runstate.Status
	if err := value.Get(&status); err != nil {
		s.t.Fatal(err)
	}
	return status
}

// attributeWatch notes the values of the status attribute.
type attributeWatch struct {
	interceptor.WorkerInterceptorBase
	stage *stage
}

func (w *attributeWatch) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	return &inboundWatch{WorkflowInboundInterceptorBase: interceptor.WorkflowInboundInterceptorBase{Next: next}, stage: w.stage}
}

type inboundWatch struct {
	interceptor.WorkflowInboundInterceptorBase
	stage *stage
}

func (w *inboundWatch) Init(outbound interceptor.WorkflowOutboundInterceptor) error {
	return w.Next.Init(&outboundWatch{WorkflowOutboundInterceptorBase: interceptor.WorkflowOutboundInterceptorBase{Next: outbound}, stage: w.stage})
}

type outboundWatch struct {
	interceptor.WorkflowOutboundInterceptorBase
	stage *stage
}

func (w *outboundWatch) UpsertTypedSearchAttributes(ctx workflow.Context, updates ...temporal.SearchAttributeUpdate) error {
	class, _ := temporal.NewSearchAttributes(updates...).GetKeyword(statusAttribute)
	w.stage.classes = append(w.stage.classes, class)
	return w.Next.UpsertTypedSearchAttributes(ctx, updates...)
}

// quiet is a logger that says nothing: what a test needs to know it checks.
type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}

// same fails the test when two lists differ.
func same[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}
