//go:build slim

package main

import (
	"strings"
	"testing"

	"go.temporal.io/api/common/v1"
	enums "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"

	"github.com/turnwise-rl/turnwise/workflows"
)

// FuzzHistoryPayloads reads histories whose payloads hold anything: an error or a reading, never a panic,
// and no commit out of a payload that cannot be read.
func FuzzHistoryPayloads(f *testing.F) {
	f.Add(`{"step":3,"weights":{"digest":"sha256:a"}}`, `{"ready":[{"number":1,"object":{"digest":"sha256:b"}}]}`, `{"committed":4}`)
	f.Add(`{"step":3,"corrupt":[1]}`, `{}`, `null`)
	f.Add(`[]`, `{"ready":7}`, `{"committed":"x"}`)
	f.Fuzz(func(t *testing.T, result, signal, end string) {
		c := chapter{asked: map[int64]workflows.TrainInput{1: {Step: 3}}}
		raw := func(text string) *common.Payloads {
			return &common.Payloads{Payloads: []*common.Payload{{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(text)}}}
		}
		err := c.take(&historypb.HistoryEvent{EventType: enums.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, Attributes: &historypb.HistoryEvent_ActivityTaskCompletedEventAttributes{
			ActivityTaskCompletedEventAttributes: &historypb.ActivityTaskCompletedEventAttributes{ScheduledEventId: 1, Result: raw(result)}}})
		if err != nil && len(c.Commits) > 0 {
			t.Errorf("a commit out of %q: %v", result, err)
		}
		err = c.take(&historypb.HistoryEvent{EventType: enums.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED, Attributes: &historypb.HistoryEvent_WorkflowExecutionSignaledEventAttributes{
			WorkflowExecutionSignaledEventAttributes: &historypb.WorkflowExecutionSignaledEventAttributes{SignalName: workflows.GroupsSignal, Input: raw(signal)}}})
		if err != nil && len(c.Groups) > 0 {
			t.Errorf("a group out of %q: %v", signal, err)
		}
		_ = c.take(&historypb.HistoryEvent{EventType: enums.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED, Attributes: &historypb.HistoryEvent_WorkflowExecutionCompletedEventAttributes{
			WorkflowExecutionCompletedEventAttributes: &historypb.WorkflowExecutionCompletedEventAttributes{Result: raw(end)}}})
		if c.Outcome != "completed" {
			t.Errorf("a workflow that completed is %q", c.Outcome)
		}
	})
}

// FuzzLedgerTarget reads any arguments: a target with a run, or a mistake of the user.
func FuzzLedgerTarget(f *testing.F) {
	for _, args := range []string{"demo", "demo g7", "demo g7/3", "demo/g7/t3", "run demo g1", "demo g-1/2", "/ /", "a/b/c/d"} {
		f.Add(args)
	}
	f.Fuzz(func(t *testing.T, line string) {
		target, err := parseLedgerTarget(strings.Split(line, " "))
		switch {
		case err != nil && exitCode(err) != exitUsage:
			t.Errorf("%q: %v is no usage error", line, err)
		case err == nil && (target.run == "" || target.group < -1 || target.member < -1):
			t.Errorf("%q is %+v", line, target)
		}
	})
}
