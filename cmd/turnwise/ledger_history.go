package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/api/common/v1"
	enums "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/turnwise-rl/turnwise/internal/ledger"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// historyClient is what reading a run's history needs of a Temporal client.
type historyClient interface {
	DescribeWorkflowExecution(ctx context.Context, workflowID, runID string) (*workflowservice.DescribeWorkflowExecutionResponse, error)
	GetWorkflowHistory(ctx context.Context, workflowID, runID string, wait bool, filter enums.HistoryEventFilterType) client.HistoryEventIterator
	ListWorkflow(ctx context.Context, request *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error)
}

// readHistory reads every workflow run of a training run that Temporal still has: those that continue
// each other, and earlier ones that the run was submitted as. It returns nil when there is none.
func readHistory(ctx context.Context, c historyClient, id string) (*ledger.History, error) {
	runs, err := workflowRuns(ctx, c, id)
	if err != nil {
		return nil, err
	}
	var chapters []chapter
	read := map[string]bool{}
	for len(runs) > 0 {
		run := runs[0]
		runs = runs[1:]
		if run == "" || read[run] {
			continue
		}
		read[run] = true
		one, err := readChapter(ctx, c, id, run)
		if unknownWorkflow(err) {
			continue // forgotten: its time of retention is over
		}
		if err != nil {
			return nil, err
		}
		chapters = append(chapters, one)
		runs = append(runs, one.continues)
	}
	if len(chapters) == 0 {
		return nil, nil
	}
	slices.SortStableFunc(chapters, func(x, y chapter) int { return x.started.Compare(y.started) })
	whole := &ledger.History{}
	for _, one := range chapters {
		whole.Commits = append(whole.Commits, one.Commits...)
		whole.Groups = append(whole.Groups, one.Groups...)
		whole.Outcome, whole.Committed = one.Outcome, one.Committed // those of the last count
	}
	return whole, nil
}

// workflowRuns lists the ids of the workflow runs of a training run. The newest is asked for by name,
// since listing may lag behind.
func workflowRuns(ctx context.Context, c historyClient, id string) ([]string, error) {
	newest, err := c.DescribeWorkflowExecution(ctx, id, "")
	if unknownWorkflow(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	runs := []string{newest.GetWorkflowExecutionInfo().GetExecution().GetRunId()}
	request := &workflowservice.ListWorkflowExecutionsRequest{Query: fmt.Sprintf("WorkflowId = '%s'", id), PageSize: 200}
	for {
		response, err := c.ListWorkflow(ctx, request)
		if err != nil {
			return nil, err
		}
		for _, info := range response.GetExecutions() {
			runs = append(runs, info.GetExecution().GetRunId())
		}
		if request.NextPageToken = response.GetNextPageToken(); len(request.NextPageToken) == 0 {
			return runs, nil
		}
	}
}

// chapter is the history of one workflow run.
type chapter struct {
	ledger.History
	started time.Time
	// continues is the workflow run before it; "" when it continues none.
	continues string
	// asked are the training steps in flight, by the event that scheduled them.
	asked map[int64]workflows.TrainInput
}

func readChapter(ctx context.Context, c historyClient, id, run string) (chapter, error) {
	one := chapter{asked: map[int64]workflows.TrainInput{}}
	events := c.GetWorkflowHistory(ctx, id, run, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		if err != nil {
			return one, err
		}
		if err := one.take(event); err != nil {
			return one, fmt.Errorf("event %d of workflow run %s: %w", event.GetEventId(), run, err)
		}
	}
	return one, nil
}

// take reads the few events that say what is committed, which groups there are and how the run ended.
func (c *chapter) take(event *historypb.HistoryEvent) error {
	switch event.GetEventType() {
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
		c.started = event.GetEventTime().AsTime()
		c.continues = event.GetWorkflowExecutionStartedEventAttributes().GetContinuedExecutionRunId()
	case enums.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
		attributes := event.GetActivityTaskScheduledEventAttributes()
		if attributes.GetActivityType().GetName() == workflows.TrainStepActivity {
			var input workflows.TrainInput
			if err := decodePayloads(attributes.GetInput(), &input); err != nil {
				return err
			}
			c.asked[event.GetEventId()] = input
		}
	case enums.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
		return c.completed(event.GetActivityTaskCompletedEventAttributes())
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
		return c.signaled(event.GetWorkflowExecutionSignaledEventAttributes())
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
		return c.ended(runstate.Completed, event.GetWorkflowExecutionCompletedEventAttributes().GetResult())
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
		failure := event.GetWorkflowExecutionFailedEventAttributes().GetFailure()
		return c.ended(runstate.Failed, failure.GetApplicationFailureInfo().GetDetails())
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
		return c.ended(runstate.Cancelled, event.GetWorkflowExecutionCanceledEventAttributes().GetDetails())
	}
	return nil
}

// completed takes a training step that its activity calls committed.
func (c *chapter) completed(attributes *historypb.ActivityTaskCompletedEventAttributes) error {
	input, training := c.asked[attributes.GetScheduledEventId()]
	if !training {
		return nil
	}
	var result workflows.TrainResult
	if err := decodePayloads(attributes.GetResult(), &result); err != nil {
		return err
	}
	if len(result.Corrupt) > 0 {
		return nil // it says why it committed nothing
	}
	commit := ledger.Commit{Step: result.Step, Weights: result.Weights.Digest}
	for _, group := range input.Batch {
		commit.Batch = append(commit.Batch, ledger.Batched{Group: group.Number, Digest: group.Object.Digest})
	}
	c.Commits = append(c.Commits, commit)
	return nil
}

// signaled takes the groups that a rollout loop reports.
func (c *chapter) signaled(attributes *historypb.WorkflowExecutionSignaledEventAttributes) error {
	if attributes.GetSignalName() != workflows.GroupsSignal {
		return nil
	}
	var report workflows.GroupsReport
	if err := decodePayloads(attributes.GetInput(), &report); err != nil {
		return err
	}
	for _, group := range report.Ready {
		c.Groups = append(c.Groups, ledger.Batched{Group: group.Number, Digest: group.Object.Digest})
	}
	return nil
}

// ended takes how the workflow ended by its own account. A workflow that was terminated has none.
func (c *chapter) ended(outcome runstate.Outcome, payloads *common.Payloads) error {
	c.Outcome = string(outcome)
	if len(payloads.GetPayloads()) == 0 {
		return nil
	}
	var result workflows.RunResult
	err := decodePayloads(payloads, &result)
	c.Committed = result.Committed
	return err
}

func decodePayloads(payloads *common.Payloads, into any) error {
	return converter.GetDefaultDataConverter().FromPayloads(payloads, into)
}
