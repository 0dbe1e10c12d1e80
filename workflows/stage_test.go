package workflows

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// stage is a test environment with a run on it. Rollout pools are stand-ins: they serve as soon as they
// are started, and finish whatever is in their share as soon as it is published.
type stage struct {
	*testsuite.TestWorkflowEnvironment
	t       *testing.T
	folder  *runFolder
	classes []string // values of the status attribute, in order
	// play says what pools do about a control object.
	play func(runstate.Control)
	over chan struct{} // closed when the run's workflow has returned
	// devices stand for the device pool.
	devices *someDevices

	mu    sync.Mutex
	pools []string // ids of the pools started
}

func newStage(t *testing.T, folder *runFolder) *stage {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(quiet{})
	s := &stage{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), t: t, folder: folder, over: make(chan struct{})}
	s.play = s.finishShares
	s.SetTestTimeout(30 * time.Second)
	s.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: "a-run", TaskQueue: ControlQueue})
	s.SetWorkerOptions(worker.Options{Interceptors: []interceptor.WorkerInterceptor{&attributeWatch{stage: s}}})
	s.RegisterWorkflowWithOptions(TrainingRun, workflow.RegisterOptions{Name: TrainingRunType})
	s.RegisterWorkflowWithOptions(Evaluation, workflow.RegisterOptions{Name: EvaluationType})
	s.RegisterWorkflowWithOptions(s.pool, workflow.RegisterOptions{Name: RolloutPoolType})
	for _, activities := range folder.activities() {
		for name, function := range activities {
			s.RegisterActivityWithOptions(function, activity.RegisterOptions{Name: name})
		}
	}
	// The environment knows no way to its root workflow for signals of a child.
	s.OnSignalExternalWorkflow(anything, "a-run", "", EvaluationSignal, anything).Return(
		func(_, _, _, name string, message any) error {
			s.SignalWorkflow(name, message)
			return nil
		}).Maybe()
	s.devices = answerForDevices(s.TestWorkflowEnvironment, "a-run")
	folder.published = func(control runstate.Control) { s.play(control) }
	return s
}

// pool stands for a RolloutPool. It reaches into the environment, as no real workflow could.
//
//workflowcheck:ignore
func (s *stage) pool(ctx workflow.Context, input PoolInput) error {
	s.mu.Lock()
	s.pools = append(s.pools, workflow.GetInfo(ctx).WorkflowExecution.ID)
	s.mu.Unlock()
	s.SignalWorkflow(PoolSignal, PoolNews{Pool: input.Pool, State: PoolServing, Tenure: s.folder.claim(), Worker: "a worker"})
	return nil
}

// finishShares reports every group in a share, the last one first.
func (s *stage) finishShares(control runstate.Control) {
	for _, share := range control.Shares {
		if control.Paused {
			s.SignalWorkflow(PoolSignal, PoolNews{Pool: share.Pool, State: PoolQuiet, Tenure: share.Tenure, Revision: control.Revision})
			continue
		}
		report := GroupsReport{Pool: share.Pool, Tenure: share.Tenure}
		for _, group := range slices.Backward(share.Groups) {
			report.Ready = append(report.Ready, ready(group.Group, control.Version))
		}
		if len(report.Ready) > 0 {
			s.SignalWorkflow(GroupsSignal, report)
		}
	}
}

func ready(number, version int) ReadyGroup {
	return ReadyGroup{GroupRef: runstate.GroupRef{Number: number, Object: ref("segments", number), Oldest: version, Newest: version}}
}

// anything matches every argument of a mocked call.
const anything = "mock.Anything"

// small is a plan with everything in it, and deterministic.
var small = runstate.Spec{WarmSteps: 2, TrainSteps: 3, GroupsPerStep: 2, GroupSize: 2, EvaluateEvery: 1, CheckpointEvery: 2, Pools: 2, Slots: 2,
	Failures: runstate.Failures{Retries: 1, Replacements: 1, MaxShare: 0.5, Window: 20}, StepTimeout: time.Hour, StallAfter: 10 * time.Minute}

// smallSteps are its steps, whatever happens on the way.
var smallSteps = []string{"1 warm", "2 warm", "3 reinforce 0,1", "4 reinforce 2,3", "5 reinforce 4,5"}

func input(spec runstate.Spec) RunInput {
	return RunInput{Run: "a-run", Method: "matchtir", Config: "{}", Spec: spec, Limits: someLimits, Devices: someNeeds}
}

var someLimits = Limits{StepTimeout: time.Hour, HeartbeatTimeout: 10 * time.Second, LoopTimeout: time.Hour, GiveUpAfter: 12 * time.Hour}

// carry carries the run to the end of this workflow run. What pools and evaluations had said to the
// history before reaches this one, as it does on a server.
func (s *stage) carry(in RunInput) error {
	s.t.Helper()
	if in.State != nil {
		s.RegisterDelayedCallback(func() {
			for _, version := range s.folder.versions() {
				s.SignalWorkflow(EvaluationSignal, EvaluationNews{Version: version})
			}
			control, _ := s.folder.last()
			s.play(control)
		}, 0)
		for pool, p := range in.State.Pools {
			if !p.Serving {
				s.RegisterDelayedCallback(func() {
					s.SignalWorkflow(PoolSignal, PoolNews{Pool: pool, State: PoolServing, Tenure: s.folder.claim(), Worker: "a worker"})
				}, time.Minute)
			}
		}
	}
	s.ExecuteWorkflow(TrainingRunType, in)
	if !s.IsWorkflowCompleted() {
		s.t.Fatal("the workflow did not end")
	}
	return s.GetWorkflowError()
}

// reply is what became of an update.
type reply struct {
	status   runstate.Status
	set      SetReply
	rejected string
}

// update sends an update from an activity and waits for what becomes of it, so the reply is given
// while that activity is under way.
func (s *stage) update(ctx context.Context, name string, args ...any) (reply, error) {
	result := make(chan reply, 1)
	s.RegisterDelayedCallback(func() { s.updateNow(func(r reply) { result <- r }, name, args...) }, 0)
	select {
	case r := <-result:
		return r, nil
	case <-s.over:
		return reply{rejected: "the workflow has returned"}, nil
	case <-ctx.Done():
		return reply{}, broken("%s was not answered: %v", name, ctx.Err())
	}
}

// updateNow sends an update from a callback of the environment.
func (s *stage) updateNow(answer func(reply), name string, args ...any) {
	select {
	case <-s.over:
		return
	default:
	}
	s.UpdateWorkflow(name, "", &testsuite.TestUpdateCallback{
		OnReject: func(err error) { answer(reply{rejected: err.Error()}) },
		OnComplete: func(value any, err error) {
			switch v := value.(type) {
			case ControlReply:
				answer(reply{status: v.Status})
			case SetReply:
				if err == nil {
					answer(reply{status: v.Status, set: v})
					return
				}
				answer(reply{rejected: "failed: " + err.Error()})
			default:
				answer(reply{rejected: "failed: " + err.Error()})
			}
		},
	}, args...)
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

func completed(t *testing.T, s *stage, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var result RunResult
	if err := s.GetWorkflowResult(&result); err != nil {
		t.Fatal(err)
	}
	want := RunResult{Outcome: runstate.Completed, Committed: 5, Weights: ref("weights", 5)}
	if result != want {
		t.Errorf("result: got %+v, want %+v", result, want)
	}
	same(t, "steps", s.folder.steps(), smallSteps)
	same(t, "evaluated versions", s.folder.versions(), []int{2, 3, 4, 5})
	if control, _ := s.folder.last(); !control.Stopped {
		t.Errorf("rollout workers are not told to leave: %+v", control)
	}
	if status := s.status(); status.Phase != "completed" || status.Committed != 5 || status.WaitingFor != "" {
		t.Errorf("status at the end: %+v", status)
	}
}

func cancelled(t *testing.T, err error) RunResult {
	t.Helper()
	var result RunResult
	var cancelled *temporal.CanceledError
	if !errors.As(err, &cancelled) {
		t.Fatalf("got %v, want a cancellation", err)
	}
	if err := cancelled.Details(&result); err != nil {
		t.Fatal(err)
	}
	if result.Outcome != runstate.Cancelled {
		t.Errorf("result: %+v", result)
	}
	return result
}

func failed(t *testing.T, s *stage, err error, want string) {
	t.Helper()
	var failure *temporal.ApplicationError
	if !errors.As(err, &failure) || failure.Message() != want || failure.Type() != "RunFailed" {
		t.Errorf("got %v, want the failure %q", err, want)
	}
	same(t, "status attribute", s.classes, []string{"running", "failed"})
	if _, last := s.folder.last(); !strings.HasSuffix(last, ": "+want) {
		t.Errorf("last event: %q", last)
	}
}

// next returns what a workflow run carries to the next one.
func next(t *testing.T, err error) RunInput {
	t.Helper()
	var again *workflow.ContinueAsNewError
	if !errors.As(err, &again) {
		t.Fatalf("got %v, want continue-as-new", err)
	}
	var in RunInput
	if err := converter.GetDefaultDataConverter().FromPayloads(again.Input, &in); err != nil {
		t.Fatal(err)
	}
	if in.State == nil || again.WorkflowType.Name != TrainingRunType {
		t.Fatalf("continue-as-new of %s with %+v", again.WorkflowType.Name, in)
	}
	return in
}

// same fails the test when two lists differ.
func same[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
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

func (w *inboundWatch) ExecuteWorkflow(ctx workflow.Context, in *interceptor.ExecuteWorkflowInput) (any, error) {
	result, err := w.Next.ExecuteWorkflow(ctx, in)
	if workflow.GetInfo(ctx).WorkflowType.Name == TrainingRunType {
		close(w.stage.over)
	}
	return result, err
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
