//go:build server

package workflows

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	enums "go.temporal.io/api/enums/v1"
	history "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/internal/temporalserver/temporaltest"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// The tests against a real server link it, which takes minutes to build, so they are behind a build tag.
// They write the histories for TestReplay when told to:
//
//	go test -tags server -run TestServer ./workflows [-record]
var record = flag.Bool("record", false, "write testdata/histories anew")

// site is a real server with workers around an in-memory folder, and one run.
type site struct {
	t      *testing.T
	client client.Client
	id     string
	folder *runFolder
	input  RunInput
	// latency is how long a loop plays one group.
	latency time.Duration
	over    chan struct{} // closed at the end, so that what pretends to be dead can go
}

func newSite(t *testing.T, spec runstate.Spec) *site {
	t.Helper()
	temporaltest.NoLeaks(t)
	t.Cleanup(worker.PurgeStickyWorkflowCache) // a workflow that was terminated stays in it
	c, endpoint := temporaltest.Start(t)
	if err := connect.Preflight(t.Context(), c, endpoint); err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, client: c, id: "a-run", folder: newRunFolder(spec), input: input(spec), latency: 5 * time.Millisecond, over: make(chan struct{})}
	s.input.Limits.HeartbeatTimeout = time.Second
	s.control()
	startDevices(t, c, DevicePoolInput{Policy: quickPolicy()})
	for queue, activities := range s.folder.activities() {
		s.start(worker.New(c, queue, worker.Options{DisableWorkflowWorker: true}), activities)
	}
	reports(t, c, someAgent, lease.Capacity{Learner: 1, Evaluate: 1}, processor(someAgent))
	t.Cleanup(func() { close(s.over) })
	return s
}

// control starts a worker for the workflows.
func (s *site) control() worker.Worker {
	w := worker.New(s.client, ControlQueue, worker.Options{LocalActivityWorkerOnly: true, StickyScheduleToStartTimeout: 2 * time.Second})
	for name, function := range workflowTypes {
		w.RegisterWorkflowWithOptions(function, workflow.RegisterOptions{Name: name})
	}
	s.start(w, nil)
	return w
}

func (s *site) start(w worker.Worker, activities map[string]any) {
	s.t.Helper()
	for name, function := range activities {
		w.RegisterActivityWithOptions(function, activity.RegisterOptions{Name: name})
	}
	if err := w.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(w.Stop)
}

// rollouts is a rollout worker.
type rollouts struct {
	*site
	worker worker.Worker
	agent  *reporter
	name   string
	dead   atomic.Bool
}

// rollouts starts a rollout worker that holds so many loops.
func (s *site) rollouts(name string, loops int) *rollouts {
	s.t.Helper()
	r := &rollouts{site: s, name: name}
	r.worker = worker.New(s.client, AgentQueue(lease.Rollout, name), worker.Options{DisableWorkflowWorker: true, MaxConcurrentActivityExecutionSize: loops, WorkerStopTimeout: time.Second})
	s.start(r.worker, map[string]any{RolloutLoopActivity: r.loop})
	r.agent = reports(s.t, s.client, name, lease.Capacity{Rollout: loops}, processor(name))
	return r
}

// vanish is what a process does that is killed: it takes no work, says nothing more, and answers nobody.
func (r *rollouts) vanish() {
	r.dead.Store(true)
	r.agent.fallSilent()
	r.worker.Stop()
}

// stop is what a process does that is asked to leave.
func (r *rollouts) stop() {
	r.worker.Stop()
	r.agent.leave()
}

// loop is a rollout loop: it plays its share as it changes.
func (r *rollouts) loop(ctx context.Context, input LoopInput) (LoopResult, error) {
	began, tenure := time.Now(), r.folder.claim()
	if err := r.tell(ctx, PoolSignal, PoolNews{Pool: input.Pool, State: PoolServing, Tenure: tenure, Worker: r.name}); err != nil {
		return r.left(tenure, err)
	}
	told, quiet := map[string]bool{}, 0
	ticker := time.NewTicker(max(r.latency, time.Millisecond))
	defer ticker.Stop()
	for {
		if r.dead.Load() {
			<-r.over
			return LoopResult{}, errors.New("dead")
		}
		activity.RecordHeartbeat(ctx, LoopProgress{Tenure: tenure, Worker: r.name})
		control, _ := r.folder.last()
		if control.Stopped {
			return LoopResult{Tenure: tenure, Stopped: true}, nil
		}
		report := GroupsReport{Pool: input.Pool, Tenure: tenure}
		for _, share := range control.Shares {
			if share.Pool != input.Pool || share.Tenure != tenure || control.Paused {
				continue
			}
			for _, group := range share.Groups {
				key := fmt.Sprint(group.Group, ".", group.Round)
				if !told[key] && len(report.Ready) < 2 {
					told[key] = true
					report.Ready = append(report.Ready, ready(group.Group, control.Version))
				}
			}
		}
		err := error(nil)
		switch {
		case len(report.Ready) > 0:
			err = r.tell(ctx, GroupsSignal, report)
		case control.Paused && quiet != control.Revision:
			quiet = control.Revision
			err = r.tell(ctx, PoolSignal, PoolNews{Pool: input.Pool, State: PoolQuiet, Tenure: tenure, Revision: quiet})
		case time.Since(began) > input.HandOverAfter:
			return LoopResult{Tenure: tenure, Reason: "it hands over"}, nil
		}
		if err != nil {
			return r.left(tenure, err)
		}
		select {
		case <-ticker.C:
		case <-activity.GetWorkerStopChannel(ctx):
			if !r.dead.Load() {
				return LoopResult{Tenure: tenure, Reason: "its worker is stopping"}, nil
			}
		}
	}
}

func (s *site) tell(ctx context.Context, signal string, message any) error {
	return s.client.SignalWorkflow(ctx, s.id, "", signal, message)
}

// left says how a loop ends that could not tell its run something.
func (r *rollouts) left(tenure int, err error) (LoopResult, error) {
	var gone *serviceerror.NotFound
	if errors.As(err, &gone) {
		return LoopResult{Tenure: tenure, Stopped: true, Reason: "the run is gone"}, nil
	}
	return LoopResult{}, err
}

// submit starts the run.
func (s *site) submit() client.WorkflowRun {
	s.t.Helper()
	options := client.StartWorkflowOptions{ID: s.id, TaskQueue: ControlQueue, WorkflowTaskTimeout: TaskTimeout}
	run, err := s.client.ExecuteWorkflow(s.t.Context(), options, TrainingRunType, s.input)
	if err != nil {
		s.t.Fatal(err)
	}
	return run
}

// update asks the run for something and waits for the answer.
func (s *site) update(ctx context.Context, reply any, name string, args ...any) error {
	return Ask(ctx, s.client, client.UpdateWorkflowOptions{WorkflowID: s.id, UpdateName: name, Args: args}, reply)
}

func (s *site) pause(ctx context.Context) error  { return s.update(ctx, &ControlReply{}, PauseUpdate) }
func (s *site) resume(ctx context.Context) error { return s.update(ctx, &ControlReply{}, ResumeUpdate) }

func (s *site) status() runstate.Status {
	s.t.Helper()
	var status runstate.Status
	value, err := s.client.QueryWorkflow(s.t.Context(), s.id, "", StatusQuery)
	if err == nil {
		err = value.Get(&status)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return status
}

// until waits for the run to come to a state.
func (s *site) until(what string, reached func(runstate.Status) bool) {
	s.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for status := s.status(); !reached(status); status = s.status() {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: still %+v", what, status)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// completed waits for the run's end and checks that every step is there, each group trained once.
func (s *site) completed(run client.WorkflowRun) {
	s.t.Helper()
	var result RunResult
	if err := run.Get(s.t.Context(), &result); err != nil {
		s.t.Fatal(err)
	}
	spec := s.folder.spec
	if result.Outcome != runstate.Completed || result.Committed != spec.LastStep() {
		s.t.Errorf("result: %+v", result)
	}
	if groups := s.folder.trainedOnce(); len(groups) != spec.TrainSteps*spec.GroupsPerStep {
		s.t.Errorf("%d groups trained: %v", len(groups), groups)
	}
	s.class("completed")
}

// class checks by which status the run is listed.
func (s *site) class(want string) {
	s.t.Helper()
	description, err := s.client.DescribeWorkflow(s.t.Context(), s.id, "")
	if err != nil {
		s.t.Fatal(err)
	}
	if got, _ := description.TypedSearchAttributes.GetKeyword(statusAttribute); got != want {
		s.t.Errorf("%s: got %q, want %q", StatusAttribute, got, want)
	}
}

// ended waits for a workflow that ends by itself.
func (s *site) ended(workflowID string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	if err := s.client.GetWorkflow(ctx, workflowID, "").Get(ctx, nil); err != nil {
		s.t.Errorf("%s: %v, want it to end by itself", workflowID, err)
	}
}

// heard says whether the run's events have a line that matches.
func (s *site) heard(pattern string) bool {
	s.folder.mu.Lock()
	defer s.folder.mu.Unlock()
	return slices.ContainsFunc(s.folder.events, regexp.MustCompile(pattern).MatchString)
}

// history reads the history of one workflow run; an empty run id means the latest one.
func (s *site) history(workflowID, runID string) *history.History {
	s.t.Helper()
	var out history.History
	events := s.client.GetWorkflowHistory(s.t.Context(), workflowID, runID, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		if err != nil {
			s.t.Fatal(err)
		}
		out.Events = append(out.Events, event)
	}
	return &out
}

// save writes a history for TestReplay, when asked to, and returns the id of the history before it.
func (s *site) save(name, workflowID, runID string) (before string) {
	s.t.Helper()
	out := s.history(workflowID, runID)
	before = out.Events[0].GetWorkflowExecutionStartedEventAttributes().GetContinuedExecutionRunId()
	if !*record {
		return before
	}
	data, err := temporalproto.CustomJSONMarshalOptions{Indent: " "}.Marshal(out)
	if err != nil {
		s.t.Fatal(err)
	}
	data = regexp.MustCompile(`"identity": "[^"]*"`).ReplaceAll(data, []byte(`"identity": "recorder"`))
	if err := os.MkdirAll("testdata/histories", 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("testdata/histories", name+".json"), append(data, '\n'), 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("%s: %d events, %d bytes", name, len(out.Events), len(data))
	return before
}

// asked pauses the run again and again, by several at once, for as long as meanwhile takes, and says how often.
func (s *site) asked(meanwhile func()) int {
	s.t.Helper()
	asking, enough := context.WithCancel(s.t.Context())
	defer enough()
	var askers sync.WaitGroup
	var asked atomic.Int64
	for range 4 {
		askers.Go(func() {
			for asking.Err() == nil {
				if err := s.pause(s.t.Context()); err != nil {
					s.t.Errorf("update %d: %v", asked.Load(), err)
				}
				asked.Add(1)
				time.Sleep(25 * time.Millisecond)
			}
		})
	}
	meanwhile()
	enough()
	askers.Wait()
	return int(asked.Load())
}

// flood sends some hundred signals a second that mean nothing until the run continues as new under them.
func (s *site) flood(first string) {
	s.t.Helper()
	ctx, stop := context.WithCancel(s.t.Context())
	defer stop()
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() {
			for ctx.Err() == nil {
				if err := s.tell(ctx, PoolSignal, PoolNews{Pool: 99, State: PoolServing, Tenure: 1}); err != nil && ctx.Err() == nil {
					s.t.Error(err)
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	var again *workflow.ContinueAsNewError
	err := s.client.GetWorkflow(s.t.Context(), s.id, first).GetWithOptions(s.t.Context(), nil, client.WorkflowRunGetOptions{DisableFollowingRuns: true})
	stop()
	senders.Wait()
	if !errors.As(err, &again) {
		s.t.Fatalf("got %v, want continue-as-new", err)
	}
}
