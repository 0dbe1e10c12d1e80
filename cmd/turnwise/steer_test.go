//go:build slim

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/common/v1"
	enums "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	sdktemporal "go.temporal.io/sdk/temporal"

	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// cluster is a Temporal client with scripted answers.
type cluster struct {
	// status answers the query; nil means that no worker does.
	status *runstate.Status
	// queue are the answers before that, in order.
	queue []runstate.Status
	// workflows by id; an id that is missing is unknown.
	workflows map[string]*workflowservice.DescribeWorkflowExecutionResponse
	listed    []*workflowpb.WorkflowExecutionInfo
	updateErr error
	err       error // of every call

	// set answers a change of settings.
	set workflows.SetReply

	updated   []string
	args      []any // of the last update
	notes     []string
	cancelled []string
}

func running(pending ...*workflowpb.PendingActivityInfo) *workflowservice.DescribeWorkflowExecutionResponse {
	return execution(enums.WORKFLOW_EXECUTION_STATUS_RUNNING, pending...)
}

func execution(status enums.WorkflowExecutionStatus, pending ...*workflowpb.PendingActivityInfo) *workflowservice.DescribeWorkflowExecutionResponse {
	info := &workflowpb.WorkflowExecutionInfo{Status: status}
	fill(&info.StartTime).Seconds = fixtureStart.Unix()
	return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: info, PendingActivities: pending}
}

// fill makes the value of a field, whose type need not be named.
func fill[T any](field **T) *T {
	*field = new(T)
	return *field
}

func (c *cluster) DescribeWorkflowExecution(_ context.Context, id, _ string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	if c.err != nil {
		return nil, c.err
	}
	if found := c.workflows[id]; found != nil {
		return found, nil
	}
	return nil, serviceerror.NewNotFound("no workflow")
}

func (c *cluster) QueryWorkflow(_ context.Context, _, _, name string, _ ...any) (converter.EncodedValue, error) {
	if name != workflows.StatusQuery {
		return nil, errors.New("unknown query " + name)
	}
	if c.status == nil {
		return nil, serviceerror.NewDeadlineExceeded("no poller")
	}
	status := *c.status
	if len(c.queue) > 0 {
		status, c.queue = c.queue[0], c.queue[1:]
	}
	payloads, err := converter.GetDefaultDataConverter().ToPayloads(status)
	return client.NewValue(payloads), err
}

func (c *cluster) UpdateWorkflow(_ context.Context, options client.UpdateWorkflowOptions) (client.WorkflowUpdateHandle, error) {
	if c.err != nil {
		return nil, c.err
	}
	c.updated, c.args = append(c.updated, options.UpdateName), options.Args
	if options.WaitForStage != client.WorkflowUpdateStageCompleted {
		return nil, errors.New("an answer takes the completed stage")
	}
	return reply{c}, nil
}

// at is the helm of a run on a scripted cluster. Its clock advances by a second with each look.
func (c *cluster) at(run string) *helm {
	ticks := make(chan time.Time)
	close(ticks) // a tick is always there
	clock := fixtureStart
	return &helm{temporalClient: c, run: run, note: func(format string, args ...any) { c.notes = append(c.notes, fmt.Sprintf(format, args...)) }, tick: ticks,
		now: func() time.Time { clock = clock.Add(time.Second); return clock }}
}

// reply is the handle of an update that is answered.
type reply struct{ cluster *cluster }

func (reply) WorkflowID() string { return "" }
func (reply) RunID() string      { return "" }
func (reply) UpdateID() string   { return "" }
func (r reply) Get(_ context.Context, value any) error {
	if r.cluster.updateErr != nil {
		return r.cluster.updateErr
	}
	switch reply := value.(type) {
	case *workflows.ControlReply:
		reply.Status = *r.cluster.status
	case *workflows.SetReply:
		*reply = r.cluster.set
	}
	return nil
}

func (c *cluster) CancelWorkflow(_ context.Context, id, _ string) error {
	c.cancelled = append(c.cancelled, id)
	return c.err
}

func (c *cluster) ListWorkflow(context.Context, *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	return &workflowservice.ListWorkflowExecutionsResponse{Executions: c.listed}, c.err
}

// pauseAtOnce is `pause --no-wait`.
func pauseAtOnce(ctx context.Context, h *helm) (steering, error) { return pauseRun(ctx, h, true) }

func TestSteeringAnswers(t *testing.T) {
	training := runstate.Status{Phase: "pausing", Committed: 33, LastStep: 130, WaitingFor: "the learner to commit step 34"}
	cancelling := training
	cancelling.Phase = "cancelling"
	tests := []struct {
		name   string
		act    func(context.Context, *helm) (steering, error)
		status runstate.Status
		want   string
		update string
	}{
		{"pause at work", pauseAtOnce, training, "pausing: step 34 is being trained; pauses after step 34 of 130", "pause"},
		{"pause at rest", pauseAtOnce, runstate.Status{Phase: "paused", Committed: 33, LastStep: 130}, "paused at step 33 of 130", "pause"},
		{"pause during evaluation", pauseAtOnce, runstate.Status{Phase: "pausing", Committed: 33, LastStep: 130, WaitingFor: "the evaluation of version 33"},
			"pausing: waits for the evaluation of version 33; pauses after step 33 of 130", "pause"},
		{"pause what is being cancelled", pauseAtOnce, cancelling, "cancelling at step 33 of 130: waits for the learner to commit step 34", "pause"},
		{"resume what goes on", resumeRun, runstate.Status{Phase: "rolling-out", Committed: 33, LastStep: 130}, "was neither paused nor held: rolling-out at step 33 of 130", "resume"},
		{"resume what is failing", resumeRun, runstate.Status{Phase: "failing", Committed: 33, LastStep: 130}, "failing at step 33 of 130", "resume"},
		{"cancel at work", cancelRun, cancelling, "cancelling: waits for the learner to commit step 34; ends after step 34 of 130, and what is committed stays", "cancel"},
		{"cancel at rest", cancelRun, runstate.Status{Phase: "cancelled", Committed: 33, LastStep: 130}, "cancelled at step 33 of 130; what is committed stays", "cancel"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := &cluster{status: &test.status}
			got, err := test.act(t.Context(), c.at("demo"))
			if err != nil {
				t.Fatal(err)
			}
			if got.Answer != test.want || !slices.Equal(c.updated, []string{test.update}) {
				t.Errorf("%v answered %q, want %q", c.updated, got.Answer, test.want)
			}
		})
	}
}

func TestSteeringErrors(t *testing.T) {
	ended := map[string]*workflowservice.DescribeWorkflowExecutionResponse{"demo": execution(enums.WORKFLOW_EXECUTION_STATUS_COMPLETED)}
	tests := []struct {
		name    string
		cluster *cluster
		want    string
		code    int
	}{
		{"refused", &cluster{updateErr: sdktemporal.NewApplicationError("pause: the run has ended (completed)", "")}, "run demo: pause: the run has ended (completed)", exitFailed},
		{"ended", &cluster{updateErr: serviceerror.NewNotFound("closed"), workflows: ended}, "run demo has ended (completed); `turnwise describe run demo`", exitFailed},
		{"unknown", &cluster{updateErr: serviceerror.NewNotFound("none")}, "Temporal has no workflow of run demo", exitUsage},
		{"server gone", &cluster{err: serviceerror.NewUnavailable("refused")}, "lost the connection to Temporal", exitUnreachable},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := pauseAtOnce(t.Context(), test.cluster.at("demo"))
			if err == nil || !strings.Contains(err.Error(), test.want) || exitCode(err) != test.code {
				t.Errorf("error %v with exit code %d, want %q and %d", err, exitCode(err), test.want, test.code)
			}
		})
	}
}

func TestCancelNow(t *testing.T) {
	c := &cluster{workflows: map[string]*workflowservice.DescribeWorkflowExecutionResponse{"demo": running()}}
	got, err := cancelNow(t.Context(), c.at("demo"))
	if err != nil || !slices.Equal(c.cancelled, []string{"demo"}) || got.Phase != "cancelling" || !strings.Contains(got.Answer, "abandoned") {
		t.Errorf("got %+v, %v; cancelled %v", got, err, c.cancelled)
	}
	c = &cluster{workflows: map[string]*workflowservice.DescribeWorkflowExecutionResponse{"demo": execution(enums.WORKFLOW_EXECUTION_STATUS_FAILED)}}
	if _, err := cancelNow(t.Context(), c.at("demo")); err == nil || !strings.Contains(err.Error(), "has ended (failed)") || c.cancelled != nil {
		t.Errorf("error %v; cancelled %v", err, c.cancelled)
	}
}

func TestAnyRunPrefersTheFolder(t *testing.T) {
	a := &app{dataDir: t.TempDir()}
	if err := (fixture{run: "demo-1"}).write(a.dataDir); err != nil {
		t.Fatal(err)
	}
	c := &cluster{listed: []*workflowpb.WorkflowExecutionInfo{info("demo-9"), info("far-1"), info("far-2"), info("far")}}
	for prefix, want := range map[string]string{"demo": "demo-1", "demo-9": "demo-9", "far-1": "far-1", "far": "far"} {
		if got, err := a.anyRun(t.Context(), c, "ns", prefix); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", prefix, got, err, want)
		}
	}
	for prefix, want := range map[string]string{"fa": "beginning of 3 runs", "zzz": "no such run"} {
		if _, err := a.anyRun(t.Context(), c, "ns", prefix); err == nil || !strings.Contains(err.Error(), want) || exitCode(err) != exitUsage {
			t.Errorf("%s: got %v", prefix, err)
		}
	}
}

func info(id string) *workflowpb.WorkflowExecutionInfo {
	payload := func(text string) *common.Payload {
		p, err := converter.GetDefaultDataConverter().ToPayload(text)
		if err != nil {
			panic(err)
		}
		return p
	}
	run := &workflowpb.WorkflowExecutionInfo{
		Execution: &common.WorkflowExecution{WorkflowId: id}, Status: enums.WORKFLOW_EXECUTION_STATUS_RUNNING,
		SearchAttributes: &common.SearchAttributes{IndexedFields: map[string]*common.Payload{workflows.MethodAttribute: payload("grpo"), workflows.StatusAttribute: payload("paused")}},
	}
	fill(&run.StartTime).Seconds = fixtureStart.Unix()
	return run
}

func TestListMergesFolderAndCluster(t *testing.T) {
	var errs buffer
	a := &app{dataDir: t.TempDir(), err: &errs}
	if err := (fixture{run: "demo-1"}).write(a.dataDir); err != nil {
		t.Fatal(err)
	}
	c := &cluster{
		status:    &runstate.Status{Phase: "training", Committed: 3, LastStep: 4},
		workflows: map[string]*workflowservice.DescribeWorkflowExecutionResponse{"demo-1": running()},
		listed:    []*workflowpb.WorkflowExecutionInfo{info("demo-1"), info("far-1")},
	}
	rows, err := (&runLister{app: a, client: c}).rows(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 2 || rows[0].Run != "demo-1" || rows[1].Run != "far-1" {
		t.Fatalf("got %+v", rows)
	}
	if rows[0].Status != "training" || *rows[0].Success != 0.75 {
		t.Errorf("here: %+v", rows[0])
	}
	if rows[1].Status != "paused" || rows[1].Method != "grpo" || rows[1].Folder != "" {
		t.Errorf("elsewhere: %+v", rows[1])
	}
}

func TestDescribeShowsWhatFails(t *testing.T) {
	now := time.Now()
	failing := &workflowpb.PendingActivityInfo{
		ActivityType: &common.ActivityType{Name: workflows.TrainStepActivity}, Attempt: 3, State: enums.PENDING_ACTIVITY_STATE_SCHEDULED,
		LastFailure: &failurepb.Failure{Message: "commit step 34", Cause: &failurepb.Failure{Message: "no space left\non device"}},
	}
	next := fill(&failing.NextAttemptScheduleTime)
	next.Seconds, next.Nanos = now.Unix()+9, 0
	waiting := &workflowpb.PendingActivityInfo{
		ActivityType: &common.ActivityType{Name: workflows.RolloutLoopActivity}, Attempt: 1, State: enums.PENDING_ACTIVITY_STATE_SCHEDULED,
	}
	fill(&waiting.ScheduledTime).Seconds = now.Unix() - 90
	c := &cluster{
		status:    &runstate.Status{Phase: "training", Committed: 33, LastStep: 130, WaitingFor: "the learner to commit step 34"},
		workflows: map[string]*workflowservice.DescribeWorkflowExecutionResponse{"demo": running(failing), "demo/pool/0": running(waiting)},
	}
	d := &description{Run: "demo", now: now}
	if err := d.addLive(t.Context(), c, 2); err != nil {
		t.Fatal(err)
	}
	var out buffer
	d.write(&app{out: &out})
	for _, want := range []string{
		"phase      training, step 33 of 130", "waits for  the learner to commit step 34",
		"TrainStep attempt 3, next try in 8s; last failure: commit step 34: no space left on device",
		"RolloutLoop, taken by no worker for 1m30s: start one with `turnwise worker --roles rollout`, or a worker that holds more pools with `--loops N`",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}

	c.status = nil
	d = &description{Run: "demo", now: now}
	if err := d.addLive(t.Context(), c, 0); err != nil || !strings.Contains(d.Note, "--roles control") {
		t.Errorf("without a worker: %q, %v", d.Note, err)
	}
	d = &description{Run: "unheard"}
	if err := d.addLive(t.Context(), c, 0); err != nil || !strings.Contains(d.Note, "no workflow") {
		t.Errorf("unknown to Temporal: %q, %v", d.Note, err)
	}
}

// TestNoAnswerBeforeTheDeadline: the server may give up waiting for a run a moment before the command does.
func TestNoAnswerBeforeTheDeadline(t *testing.T) {
	late := client.NewWorkflowUpdateServiceTimeoutOrCanceledError(serviceerror.NewDeadlineExceeded("x"))
	err := explainUpdate(t.Context(), t.Context(), nil, "demo", workflows.PauseUpdate, late)
	if !strings.Contains(err.Error(), "--roles control") || exitCode(err) != exitFailed {
		t.Errorf("got %v", err)
	}
}

// TestTasksThatFailAreToldAsSuch: a control worker that answers, but cannot make the workflow's tasks, is not told as one that is away.
func TestTasksThatFailAreToldAsSuch(t *testing.T) {
	dropped := serviceerror.NewWorkflowNotReady("Workflow Task in failed state.")
	waiting, cancel := context.WithCancel(t.Context())
	cancel()
	err := explainUpdate(t.Context(), waiting, nil, "demo", workflows.PauseUpdate, dropped)
	for _, part := range []string{"run demo could not be asked to pause", "its log says why", "Workflow Task in failed state"} {
		if !strings.Contains(err.Error(), part) || exitCode(err) != exitFailed {
			t.Errorf("got %v, want %q", err, part)
		}
	}
}

func TestConnectionLostHasItsExitCode(t *testing.T) {
	for _, err := range []error{serviceerror.NewUnavailable("x"), serviceerror.NewDeadlineExceeded("x"), connect.ErrNoServer} {
		if code := exitCode(unreachable(err)); code != exitUnreachable {
			t.Errorf("%v has exit code %d", err, code)
		}
	}
	if code := exitCode(unreachable(errors.New("other"))); code != exitFailed {
		t.Errorf("another error has exit code %d", code)
	}
}
