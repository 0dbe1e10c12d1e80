//go:build slim

package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/common/v1"
	enums "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/turnwise-rl/turnwise/internal/ledger"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// asyncFolder is the folder of the asynchronous fixture.
func asyncFolder(t *testing.T) (dataDir string, folder *runfolder.Folder) {
	t.Helper()
	dataDir = t.TempDir()
	if err := (fixture{run: "demo"}).writeAsync(dataDir); err != nil {
		t.Fatal(err)
	}
	folder, err := runfolder.Open(dataDir, "demo")
	if err != nil {
		t.Fatal(err)
	}
	return dataDir, folder
}

func findings(t *testing.T, folder *runfolder.Folder, history *ledger.History) []ledger.Finding {
	t.Helper()
	facts, err := ledgerFacts(t.Context(), folder, "demo")
	if err != nil {
		t.Fatal(err)
	}
	facts.History = history
	return ledger.Check(facts)
}

// wants fails the test unless one of the findings is of a kind and says some words.
func wants(t *testing.T, got []ledger.Finding, kind ledger.Kind, words string) {
	t.Helper()
	for _, finding := range got {
		if finding.Kind == kind && strings.Contains(finding.Text, words) {
			return
		}
	}
	t.Errorf("no %s that says %q in %v", kind, words, got)
}

func TestSoundFolderHasNoFindings(t *testing.T) {
	_, folder := asyncFolder(t)
	if got := findings(t, folder, nil); got != nil {
		t.Errorf("got %v", got)
	}
}

// TestRunAtWorkRemovesWhatItPassed: objects that go between the reading of manifests and that of objects are
// judged by the steps that let go of them.
func TestRunAtWorkRemovesWhatItPassed(t *testing.T) {
	_, folder := asyncFolder(t)
	r := &recorded{id: "demo", folder: folder}
	if err := r.readConfig(t.Context()); err != nil {
		t.Fatal(err)
	}
	read := &auditor{folder: folder, id: "demo", config: r.config, staleness: map[int]int{}}
	if err := read.steps(t.Context()); err != nil {
		t.Fatal(err)
	}
	passed := *read.manifests[len(read.manifests)-1].Weights
	if err := os.Remove(filepath.Join(folder.Path, passed.Key)); err != nil {
		t.Fatal(err)
	}
	missing := func() (out []string) {
		read.facts.Objects = nil
		if err := read.objects(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, object := range read.facts.Objects {
			if object.Got == "" && !object.MayExpire {
				out = append(out, object.Key)
			}
		}
		return out
	}
	if got := missing(); len(got) != 1 || got[0] != passed.Key {
		t.Errorf("the newest weights are gone and %v are called missing", got)
	}
	for step := 5; step <= 5+runfolder.SamplersLag; step++ {
		m := runfolder.Manifest{Step: step, Kind: runstate.Reinforce, Fence: 8 << 16, Committed: fixtureStart.Add(time.Minute)}
		if err := folder.Commit(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	if got := missing(); got != nil {
		t.Errorf("%v are called missing, and the run has passed them", got)
	}
}

// TestDamagedFolders spoils a real folder in every way and looks for the disagreement.
func TestDamagedFolders(t *testing.T) {
	next := func(f *runfolder.Folder, change func(*runfolder.Manifest)) error {
		m := runfolder.Manifest{Step: 5, Kind: runstate.Reinforce, Fence: 8 << 16, Committed: fixtureStart.Add(50 * time.Second)}
		change(&m)
		return f.Commit(context.Background(), m)
	}
	remove := func(key string) func(*runfolder.Folder) error {
		return func(f *runfolder.Folder) error { return os.Remove(filepath.Join(f.Path, key)) }
	}
	overwrite := func(key, text string) func(*runfolder.Folder) error {
		return func(f *runfolder.Folder) error {
			return os.WriteFile(filepath.Join(f.Path, key), []byte(text), 0o600)
		}
	}
	trained := func(f *runfolder.Folder, group int) runstate.GroupRef {
		ref, _ := f.Stat(context.Background(), runfolder.SegmentKey(group))
		return runstate.GroupRef{Number: group, Object: runstate.Ref(ref)}
	}
	tests := []struct {
		name  string
		spoil func(*runfolder.Folder) error
		kind  ledger.Kind
		says  string
	}{
		{"manifest removed", remove("steps/000002.json"), ledger.StepGap, "step 2 has no manifest"},
		{"manifest spoiled", overwrite("steps/000002.json", "{}"), ledger.Unread, "steps/000002.json cannot be read"},
		{"group removed", remove("segments/000005"), ledger.SegmentMissing, "group g5, trained at step 4, is not in the store"},
		{"group spoiled", overwrite("segments/000005", "x"), ledger.SegmentChanged, "group g5 was trained at step 4 as sha256:"},
		{"group trained twice", func(f *runfolder.Folder) error {
			return next(f, func(m *runfolder.Manifest) { m.Batch = []runstate.GroupRef{trained(f, 5)} })
		}, ledger.TrainedTwice, "group g5 is trained at step 4 and at step 5"},
		{"group trained and dropped", func(f *runfolder.Folder) error {
			return next(f, func(m *runfolder.Manifest) { m.Dropped = []runfolder.Dropped{{Group: 6, Reason: "stale"}} })
		}, ledger.DroppedTrained, "group g6 is trained at step 4 and dropped at step 5"},
		{"no rows", func(f *runfolder.Folder) error {
			return next(f, func(m *runfolder.Manifest) { m.Batch = []runstate.GroupRef{trained(f, 8)} })
		}, ledger.RowMissing, "trajectory g8/2 was in the batch of step 5"},
		{"row of another group", func(f *runfolder.Folder) error {
			return next(f, func(m *runfolder.Manifest) {
				m.Ledger = []runfolder.LedgerRow{{Trajectory: "g8/0", State: stateTrained, Versions: [2]rollout.Version{4, 4}}}
			})
		}, ledger.RowUnfounded, "a row of trajectory g8/0"},
		{"stale by a changed config", func(f *runfolder.Folder) error {
			text, err := f.Read(context.Background(), runfolder.ConfigKey)
			if err != nil {
				return err
			}
			changed := strings.Replace(string(text), "staleness: 1", "staleness: 0", 1)
			if err := f.PutConfig(context.Background(), 1, []byte(changed)); err != nil {
				return err
			}
			return next(f, func(m *runfolder.Manifest) {
				m.Config = 1
				m.Ledger = []runfolder.LedgerRow{{Trajectory: "g4/0", State: stateTrained, Versions: [2]rollout.Version{3, 3}}}
			})
		}, ledger.Stale, "1 version"},
		{"config revision missing", func(f *runfolder.Folder) error {
			return next(f, func(m *runfolder.Manifest) { m.Config = 2 })
		}, ledger.Unread, "configs/000002.yaml cannot be read"},
		{"weights removed", func(f *runfolder.Folder) error {
			keys, err := f.List(context.Background(), "weights/000004")
			if err != nil {
				return err
			}
			return os.Remove(filepath.Join(f.Path, keys[0]))
		}, ledger.ObjectMissing, "weights of step 4"},
		{"weights spoiled", func(f *runfolder.Folder) error {
			keys, err := f.List(context.Background(), "weights/000000")
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(f.Path, keys[0]), []byte("x"), 0o600)
		}, ledger.ObjectCorrupt, "weights of step 0"},
		{"metrics spoiled", overwrite("metrics.jsonl", "x\n{}\n"), ledger.Unread, "metrics.jsonl cannot be read"},
		{"metrics removed", remove("metrics.jsonl"), ledger.LineMissing, "step 1 is committed and has no line"},
		{"events spoiled", overwrite("events.jsonl", "x\n{}\n"), ledger.Unread, "events.jsonl cannot be read"},
		{"an end too early", func(f *runfolder.Folder) error {
			return f.AppendEvent(context.Background(), runfolder.Event{Text: "failed at step 3 of 6: the disk is full"})
		}, ledger.EndingWrong, "failed at step 3, the last manifest is of step 4"},
		{"a completed run that leaves a group", func(f *runfolder.Folder) error {
			return f.AppendEvent(context.Background(), runfolder.Event{Text: "completed at step 4 of 6"})
		}, ledger.Unsettled, "group g8 is in the store"},
		{"evaluation spoiled", overwrite("evaluations/000001.json", "{}"), ledger.Unread, "evaluations/000001.json cannot be read"},
		{"turns spoiled", func(f *runfolder.Folder) error {
			path := filepath.Join(f.TurnsPath(), "000001.log")
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			data[20] ^= 0xff
			return os.WriteFile(path, data, 0o600)
		}, ledger.Unread, "turns cannot be read"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, folder := asyncFolder(t)
			if err := test.spoil(folder); err != nil {
				t.Fatal(err)
			}
			wants(t, findings(t, folder, nil), test.kind, test.says)
		})
	}
}

// chronicle is a Temporal client whose workflow runs have scripted histories.
type chronicle struct {
	runs   map[string][]*historypb.HistoryEvent
	newest string
	listed []string
	err    error
}

func (c *chronicle) DescribeWorkflowExecution(context.Context, string, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	if c.newest == "" {
		return nil, serviceerror.NewNotFound("no workflow")
	}
	return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Execution: &common.WorkflowExecution{RunId: c.newest}}}, nil
}

func (c *chronicle) ListWorkflow(context.Context, *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	response := &workflowservice.ListWorkflowExecutionsResponse{}
	for _, run := range c.listed {
		response.Executions = append(response.Executions, &workflowpb.WorkflowExecutionInfo{Execution: &common.WorkflowExecution{RunId: run}})
	}
	return response, nil
}

func (c *chronicle) GetWorkflowHistory(_ context.Context, _, run string, _ bool, _ enums.HistoryEventFilterType) client.HistoryEventIterator {
	err := c.err
	if _, known := c.runs[run]; !known && err == nil {
		err = serviceerror.NewNotFound("forgotten")
	}
	return &iterator{events: c.runs[run], err: err}
}

type iterator struct {
	events []*historypb.HistoryEvent
	err    error
}

func (i *iterator) HasNext() bool { return len(i.events) > 0 || i.err != nil }
func (i *iterator) Next() (*historypb.HistoryEvent, error) {
	if i.err != nil {
		return nil, i.err
	}
	event := i.events[0]
	i.events = i.events[1:]
	return event, nil
}

func payloads(value any) *common.Payloads {
	out, err := converter.GetDefaultDataConverter().ToPayloads(value)
	if err != nil {
		panic(err)
	}
	return out
}

// started begins the history of a workflow run at a minute.
func started(minute int, continues string) *historypb.HistoryEvent {
	event := &historypb.HistoryEvent{EventId: 1, EventType: enums.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED}
	fill(&event.EventTime).Seconds = int64(60 * minute)
	event.Attributes = &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{
		WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{ContinuedExecutionRunId: continues}}
	return event
}

// step is a training step as a history has it, from events first and first + 1 on.
func step(first int64, input workflows.TrainInput, result workflows.TrainResult) []*historypb.HistoryEvent {
	return []*historypb.HistoryEvent{
		{EventId: first, EventType: enums.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED, Attributes: &historypb.HistoryEvent_ActivityTaskScheduledEventAttributes{
			ActivityTaskScheduledEventAttributes: &historypb.ActivityTaskScheduledEventAttributes{ActivityType: &common.ActivityType{Name: workflows.TrainStepActivity}, Input: payloads(input)}}},
		{EventId: first + 1, EventType: enums.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, Attributes: &historypb.HistoryEvent_ActivityTaskCompletedEventAttributes{
			ActivityTaskCompletedEventAttributes: &historypb.ActivityTaskCompletedEventAttributes{ScheduledEventId: first, Result: payloads(result)}}},
	}
}

func reported(groups ...runstate.GroupRef) *historypb.HistoryEvent {
	var message workflows.GroupsReport
	for _, group := range groups {
		message.Ready = append(message.Ready, workflows.ReadyGroup{GroupRef: group})
	}
	return &historypb.HistoryEvent{EventType: enums.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED, Attributes: &historypb.HistoryEvent_WorkflowExecutionSignaledEventAttributes{
		WorkflowExecutionSignaledEventAttributes: &historypb.WorkflowExecutionSignaledEventAttributes{SignalName: workflows.GroupsSignal, Input: payloads(message)}}}
}

// chronicleOf is the history that the asynchronous fixture would have left, in two workflow runs of which
// the second continues the first, after one that was forgotten.
func chronicleOf(t *testing.T, folder *runfolder.Folder) *chronicle {
	t.Helper()
	first, second := []*historypb.HistoryEvent{started(1, "zero")}, []*historypb.HistoryEvent{started(2, "one")}
	for number := 1; number <= 4; number++ {
		m, err := folder.Manifest(t.Context(), number)
		if err != nil {
			t.Fatal(err)
		}
		events := append([]*historypb.HistoryEvent{reported(m.Batch...)},
			step(int64(10*number), workflows.TrainInput{Step: number, Batch: m.Batch}, workflows.TrainResult{Step: number, Weights: runstate.Ref(*m.Weights)})...)
		if number <= 2 {
			first = append(first, events...)
		} else {
			second = append(second, events...)
		}
	}
	return &chronicle{runs: map[string][]*historypb.HistoryEvent{"one": first, "two": second}, newest: "two", listed: []string{"two"}}
}

func TestHistoryOfASoundRunAgrees(t *testing.T) {
	_, folder := asyncFolder(t)
	history, err := readHistory(t.Context(), chronicleOf(t, folder), "demo")
	if err != nil {
		t.Fatal(err)
	}
	if len(history.Commits) != 4 || len(history.Groups) != 6 || history.Commits[0].Step != 1 || history.Commits[3].Step != 4 {
		t.Errorf("read %d commits and %d groups: %+v", len(history.Commits), len(history.Groups), history.Commits)
	}
	if got := findings(t, folder, history); got != nil {
		t.Errorf("got %v", got)
	}
}

func TestHistoryThatDisagrees(t *testing.T) {
	corrupt := runstate.GroupRef{Number: 5, Object: runstate.Ref{Digest: "sha256:other"}}
	result := func(outcome runstate.Outcome, committed int) *common.Payloads {
		return payloads(workflows.RunResult{Outcome: outcome, Committed: committed})
	}
	tests := []struct {
		name string
		add  []*historypb.HistoryEvent
		kind ledger.Kind
		says string
	}{
		{"a commit that is lost", step(90, workflows.TrainInput{Step: 5}, workflows.TrainResult{Step: 5}), ledger.CommitLost, "step 5 as committed"},
		{"other weights", step(90, workflows.TrainInput{Step: 1}, workflows.TrainResult{Step: 1, Weights: runstate.Ref{Digest: "sha256:other"}}), ledger.CommitDiffers, "weights sha256:other of step 1"},
		{"another batch", step(90, workflows.TrainInput{Step: 4, Batch: []runstate.GroupRef{corrupt}}, workflows.TrainResult{Step: 4}), ledger.CommitDiffers, "had step 4 train g5 (other)"},
		{"a group that is lost", []*historypb.HistoryEvent{reported(runstate.GroupRef{Number: 77, Object: runstate.Ref{Digest: "sha256:x"}})}, ledger.ReportLost, "group g77"},
		{"a group with another content", []*historypb.HistoryEvent{reported(corrupt)}, ledger.ReportDiffers, "group g5 as sha256:other"},
		{"a result beyond the store", []*historypb.HistoryEvent{{EventType: enums.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED, Attributes: &historypb.HistoryEvent_WorkflowExecutionCompletedEventAttributes{
			WorkflowExecutionCompletedEventAttributes: &historypb.WorkflowExecutionCompletedEventAttributes{Result: result(runstate.Completed, 6)}}}}, ledger.HistoryMistaken, "completed at step 6"},
		{"a failure beyond the store", []*historypb.HistoryEvent{{EventType: enums.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED, Attributes: &historypb.HistoryEvent_WorkflowExecutionFailedEventAttributes{
			WorkflowExecutionFailedEventAttributes: &historypb.WorkflowExecutionFailedEventAttributes{Failure: &failurepb.Failure{FailureInfo: &failurepb.Failure_ApplicationFailureInfo{
				ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Details: result(runstate.Failed, 5)}}}}}}}, ledger.HistoryMistaken, "failed at step 5"},
		{"a cancellation beyond the store", []*historypb.HistoryEvent{{EventType: enums.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED, Attributes: &historypb.HistoryEvent_WorkflowExecutionCanceledEventAttributes{
			WorkflowExecutionCanceledEventAttributes: &historypb.WorkflowExecutionCanceledEventAttributes{Details: result(runstate.Cancelled, 5)}}}}, ledger.HistoryMistaken, "was cancelled at step 5"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, folder := asyncFolder(t)
			c := chronicleOf(t, folder)
			c.runs["two"] = append(c.runs["two"], test.add...)
			history, err := readHistory(t.Context(), c, "demo")
			if err != nil {
				t.Fatal(err)
			}
			wants(t, findings(t, folder, history), test.kind, test.says)
		})
	}
}

// TestCorruptStepsAreNoCommits leaves out a step that was not made because of a corrupt group, and takes
// the last report of a group that was made again.
func TestCorruptStepsAreNoCommits(t *testing.T) {
	_, folder := asyncFolder(t)
	c := chronicleOf(t, folder)
	broken := runstate.GroupRef{Number: 5, Object: runstate.Ref{Digest: "sha256:broken"}}
	c.runs["one"] = append(append(c.runs["one"], reported(broken)), step(80, workflows.TrainInput{Step: 4, Batch: []runstate.GroupRef{broken}}, workflows.TrainResult{Step: 4, Corrupt: []int{5}})...)
	history, err := readHistory(t.Context(), c, "demo")
	if err != nil {
		t.Fatal(err)
	}
	if got := findings(t, folder, history); got != nil {
		t.Errorf("got %v", got)
	}
}

func TestHistoryThatCannotBeRead(t *testing.T) {
	if history, err := readHistory(t.Context(), &chronicle{}, "demo"); history != nil || err != nil {
		t.Errorf("a run that Temporal does not know: %v, %v", history, err)
	}
	if history, err := readHistory(t.Context(), &chronicle{newest: "one"}, "demo"); history != nil || err != nil {
		t.Errorf("a history whose time is over: %v, %v", history, err)
	}
	away := serviceerror.NewUnavailable("refused")
	_, err := readHistory(t.Context(), &chronicle{newest: "one", err: away, runs: map[string][]*historypb.HistoryEvent{"one": nil}}, "demo")
	if code := exitCode(unreachable(err)); code != exitUnreachable {
		t.Errorf("a server that went away: %v, exit code %d", err, code)
	}
}

func TestCheckIsOneObjectForPrograms(t *testing.T) {
	dataDir, folder := asyncFolder(t)
	for _, sound := range []bool{true, false} {
		out, _, code := runHere(t, dataDir, "ledger", "demo", "--check", "--offline", "-o", "json")
		var got ledgerReport
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		if got.Agree != sound || got.Run != "demo" || got.History != "left out" || got.Steps != 5 || (len(got.Findings) == 0) != sound || (code == exitOK) != sound {
			t.Errorf("exit code %d with %s", code, out)
		}
		if err := os.Remove(filepath.Join(folder.Path, "metrics.jsonl")); sound && err != nil {
			t.Fatal(err)
		}
	}
}
