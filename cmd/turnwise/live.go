package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/common/v1"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// temporalClient is what the verbs that look at runs and steer them need of a Temporal client.
type temporalClient interface {
	DescribeWorkflowExecution(ctx context.Context, workflowID, runID string) (*workflowservice.DescribeWorkflowExecutionResponse, error)
	QueryWorkflow(ctx context.Context, workflowID, runID, queryType string, args ...any) (converter.EncodedValue, error)
	UpdateWorkflow(ctx context.Context, options client.UpdateWorkflowOptions) (client.WorkflowUpdateHandle, error)
	CancelWorkflow(ctx context.Context, workflowID, runID string) error
	ListWorkflow(ctx context.Context, request *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error)
}

var _ temporalClient = client.Client(nil)

// queryTimeout bounds how long a view waits for a worker to answer how a run stands.
const queryTimeout = 3 * time.Second

// live is how a run stands according to Temporal.
type live struct {
	// Known is false when Temporal knows no workflow of the run; then everything else is empty.
	Known bool
	// Ended is how the workflow ended; "" while it runs.
	Ended runstate.Outcome
	// How is Temporal's word for an end that no run decides itself: "terminated", "timed out".
	How string
	// Status is the run's own answer; nil when it has ended or no worker answered.
	Status  *runstate.Status
	Started time.Time
	Pending []pendingActivity
}

// pendingActivity is work that the run has given out.
type pendingActivity struct {
	Type    string `json:"type"`
	Attempt int    `json:"attempt"`
	// Taken is true while a worker has it.
	Taken       bool       `json:"taken"`
	Worker      string     `json:"worker,omitempty"`
	Since       time.Time  `json:"since"`
	NextTry     *time.Time `json:"next_try,omitempty"`
	LastFailure string     `json:"last_failure,omitempty"`
}

// ask describes a run's workflow and, while it runs, asks it how it stands.
func ask(ctx context.Context, t temporalClient, id string) (live, error) {
	description, err := t.DescribeWorkflowExecution(ctx, id, "")
	if unknownWorkflow(err) {
		return live{}, nil
	}
	if err != nil {
		return live{}, err
	}
	info := description.GetWorkflowExecutionInfo()
	out := live{Known: true, Started: info.GetStartTime().AsTime()}
	if first := info.GetExecutionTime(); first != nil {
		out.Started = first.AsTime()
	}
	out.Ended, out.How = verdict(info.GetStatus())
	if out.Ended != "" {
		return out, nil
	}
	for _, p := range description.GetPendingActivities() {
		out.Pending = append(out.Pending, pending(p))
	}
	out.Status = queryStatus(ctx, t, id)
	return out, nil
}

// askPools returns the work that a run's rollout pools have given out.
func askPools(ctx context.Context, t temporalClient, id string, pools int) ([]pendingActivity, error) {
	var out []pendingActivity
	for pool := range pools {
		description, err := t.DescribeWorkflowExecution(ctx, workflows.PoolID(id, pool), "")
		if unknownWorkflow(err) {
			continue // not started yet
		}
		if err != nil {
			return nil, err
		}
		for _, p := range description.GetPendingActivities() {
			out = append(out, pending(p))
		}
	}
	return out, nil
}

// askEvaluations returns the work that evaluations of versions have given out.
func askEvaluations(ctx context.Context, t temporalClient, id string, versions []int) ([]pendingActivity, error) {
	var out []pendingActivity
	for _, version := range versions {
		description, err := t.DescribeWorkflowExecution(ctx, workflows.EvaluationID(id, version), "")
		if unknownWorkflow(err) {
			continue // not started yet, or long over
		}
		if err != nil {
			return nil, err
		}
		for _, p := range description.GetPendingActivities() {
			out = append(out, pending(p))
		}
	}
	return out, nil
}

// worthSaying leaves out the loops that go well: the run's own answer tells who serves its pools.
func worthSaying(inPools []pendingActivity, status *runstate.Status) []pendingActivity {
	if status == nil || len(status.Pools) == 0 {
		return inPools
	}
	return slices.DeleteFunc(inPools, func(p pendingActivity) bool { return p.LastFailure == "" })
}

// queryStatus asks a running workflow how it stands; nil when no worker answers in time.
func queryStatus(ctx context.Context, t temporalClient, id string) *runstate.Status {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	answer, err := t.QueryWorkflow(ctx, id, "", workflows.StatusQuery)
	if err != nil {
		return nil
	}
	var status runstate.Status
	if answer.Get(&status) != nil {
		return nil
	}
	return &status
}

func unknownWorkflow(err error) bool {
	var missing *serviceerror.NotFound
	return errors.As(err, &missing)
}

// verdict translates Temporal's status of a workflow; "" while it runs.
func verdict(status enums.WorkflowExecutionStatus) (outcome runstate.Outcome, how string) {
	switch status {
	case enums.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		return runstate.Completed, ""
	case enums.WORKFLOW_EXECUTION_STATUS_CANCELED:
		return runstate.Cancelled, ""
	case enums.WORKFLOW_EXECUTION_STATUS_FAILED:
		return runstate.Failed, ""
	case enums.WORKFLOW_EXECUTION_STATUS_TERMINATED:
		return runstate.Failed, "terminated"
	case enums.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		return runstate.Failed, "timed out"
	}
	return "", ""
}

func pending(p *workflowpb.PendingActivityInfo) pendingActivity {
	out := pendingActivity{
		Type: p.GetActivityType().GetName(), Attempt: int(p.GetAttempt()), Worker: p.GetLastWorkerIdentity(),
		Taken: p.GetState() == enums.PENDING_ACTIVITY_STATE_STARTED, Since: p.GetScheduledTime().AsTime(),
	}
	if out.Taken {
		out.Since = p.GetLastStartedTime().AsTime()
	}
	if next := p.GetNextAttemptScheduleTime(); next != nil {
		at := next.AsTime()
		out.NextTry = &at
	}
	if failure := p.GetLastFailure(); failure != nil {
		out.LastFailure = oneLine(failure.GetMessage())
		if cause := failure.GetCause(); cause != nil {
			out.LastFailure += ": " + oneLine(cause.GetMessage())
		}
	}
	return out
}

// role is the worker role that serves an activity.
func (p pendingActivity) role() string {
	switch p.Type {
	case workflows.RolloutLoopActivity, workflows.EvaluateActivity:
		return "rollout"
	}
	return "learner"
}

// String says where the work stands: with whom, since when, and what went wrong before.
func (p pendingActivity) String() string { return p.at(time.Now()) }

// unheeded is how long work lies before it is said that a worker may be missing; one that is at hand takes it at once.
const unheeded = 3 * time.Second

func (p pendingActivity) at(now time.Time) string {
	var line strings.Builder
	line.WriteString(p.Type)
	if p.Attempt > 1 {
		fmt.Fprintf(&line, " attempt %d", p.Attempt)
	}
	switch {
	case p.Taken:
		fmt.Fprintf(&line, ", at work for %s", short(now.Sub(p.Since)))
	case p.NextTry != nil && p.NextTry.After(now):
		fmt.Fprintf(&line, ", next try in %s", short(p.NextTry.Sub(now)))
	case now.Sub(p.Since) < unheeded:
		line.WriteString(", to be taken by a worker")
	default:
		fmt.Fprintf(&line, ", taken by no worker for %s: start one with `turnwise worker --roles %s`", short(now.Sub(p.Since)), p.role())
		if p.role() == "rollout" {
			line.WriteString(moreLoops)
		}
	}
	if p.LastFailure != "" {
		fmt.Fprintf(&line, "; last failure: %s", p.LastFailure)
	}
	return line.String()
}

// listed is a run as Temporal lists it.
type listed struct {
	id, method, status string
	started            time.Time
}

// listRuns lists the runs of a cluster whose id begins with prefix, the newest first.
func listRuns(ctx context.Context, t temporalClient, namespace, prefix string) ([]listed, error) {
	query := fmt.Sprintf("WorkflowType = '%s'", workflows.TrainingRunType)
	var out []listed
	seen := map[string]bool{}
	var page []byte
	for {
		response, err := t.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Namespace: namespace, Query: query, NextPageToken: page, PageSize: 200})
		if err != nil {
			return nil, err
		}
		for _, info := range response.GetExecutions() {
			id := info.GetExecution().GetWorkflowId()
			if seen[id] || !strings.HasPrefix(id, prefix) {
				continue // the same run, continued as new
			}
			seen[id] = true
			out = append(out, listing(id, info))
		}
		if page = response.GetNextPageToken(); len(page) == 0 {
			return out, nil
		}
	}
}

func listing(id string, info *workflowpb.WorkflowExecutionInfo) listed {
	attributes := info.GetSearchAttributes().GetIndexedFields()
	run := listed{id: id, method: keyword(attributes[workflows.MethodAttribute]), started: info.GetStartTime().AsTime()}
	switch outcome, how := verdict(info.GetStatus()); {
	case how != "":
		run.status = how
	case outcome != "":
		run.status = string(outcome)
	default:
		run.status = keyword(attributes[workflows.StatusAttribute])
	}
	return run
}

// keyword reads a search attribute; "-" when it is not set.
func keyword(payload *common.Payload) string {
	var value string
	if payload == nil || converter.GetDefaultDataConverter().FromPayload(payload, &value) != nil {
		return nothing
	}
	return value
}
