//go:build slim

package main

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	sdktemporal "go.temporal.io/sdk/temporal"

	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// pausing is a run at rest but for some pools and maybe a step.
func pausing(waitingFor string, quiet ...bool) runstate.Status {
	status := runstate.Status{Phase: "pausing", Committed: 12, LastStep: 40, WaitingFor: waitingFor}
	for i, q := range quiet {
		status.Pools = append(status.Pools, runstate.PoolStatus{Pool: i, Serving: true, Quiet: q})
	}
	return status
}

func runningRun() map[string]*workflowservice.DescribeWorkflowExecutionResponse {
	return map[string]*workflowservice.DescribeWorkflowExecutionResponse{"demo": running()}
}

func TestPauseFollowsTheRunToRest(t *testing.T) {
	first := pausing("the learner to commit step 13", false, false)
	c := &cluster{status: &first, workflows: runningRun(), queue: []runstate.Status{
		pausing("the learner to commit step 13", false, true),
		pausing("the learner to commit step 13", false, true),
		pausing("the episodes of 1 of 2 pools to finish their turns", false, true),
		{Phase: "paused", Committed: 13, LastStep: 40, WaitingFor: "resume"},
	}}
	got, err := pauseRun(t.Context(), c.at("demo"), false)
	if err != nil {
		t.Fatal(err)
	}
	if want := "paused at step 13 of 40 after 1.0 s"; got.Answer != want || got.Phase != "paused" || got.Seconds != 1 {
		t.Errorf("got %+v, want %q", got, want)
	}
	want := []string{
		"pausing: step 13 is being trained, the episodes of 2 of 2 pools finish their turn",
		"pausing: step 13 is being trained, the episodes of 1 of 2 pools finish their turn",
		"pausing: the episodes of 1 of 2 pools finish their turn",
	}
	if !slices.Equal(c.notes, want) {
		t.Errorf("said %q, want %q", c.notes, want)
	}
}

func TestPauseThatDoesNotCome(t *testing.T) {
	first := pausing("the evaluation of version 12", true)
	resumed := runstate.Status{Phase: "rolling-out", Committed: 12, LastStep: 40, WaitingFor: "groups: 0 of 4 ready"}
	c := &cluster{status: &first, workflows: runningRun(), queue: []runstate.Status{resumed}}
	got, err := pauseRun(t.Context(), c.at("demo"), false)
	if err != nil || got.Answer != "rolling-out at step 12 of 40: waits for groups: 0 of 4 ready" {
		t.Errorf("resumed by another: %+v, %v", got, err)
	}
	if want := []string{"pausing: waits for the evaluation of version 12"}; !slices.Equal(c.notes, want) {
		t.Errorf("said %q, want %q", c.notes, want)
	}

	c = &cluster{status: &first, workflows: map[string]*workflowservice.DescribeWorkflowExecutionResponse{"demo": execution(enums.WORKFLOW_EXECUTION_STATUS_FAILED)}}
	if _, err = pauseRun(t.Context(), c.at("demo"), false); err == nil || !strings.Contains(err.Error(), "run demo has ended (failed)") {
		t.Errorf("a run that fails meanwhile: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	c = &cluster{status: &first, workflows: runningRun()}
	h := c.at("demo")
	h.tick = nil // only the person can end it
	h.note = func(string, ...any) { cancel() }
	if got, err = pauseRun(ctx, h, false); err != nil || got.Phase != "pausing" {
		t.Errorf("a person who leaves: %+v, %v", got, err)
	}

	c = &cluster{status: &first, workflows: runningRun()}
	h = c.at("demo")
	h.note = func(string, ...any) { c.err = serviceerror.NewUnavailable("refused") }
	if _, err = pauseRun(t.Context(), h, false); exitCode(err) != exitUnreachable {
		t.Errorf("a server that goes away: %v", err)
	}
}

func TestPauseSaysThatItStalls(t *testing.T) {
	status := pausing("the learner to commit step 13", true)
	status.Stalled = &runstate.Stall{What: status.WaitingFor, Unblock: "needs a learner: `turnwise worker --roles learner`"}
	if got, want := pauseProgress(status), "pausing: step 13 is being trained, stalled: needs a learner: `turnwise worker --roles learner`"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestResumeSaysWhatItTakesBack(t *testing.T) {
	after := runstate.Status{Phase: "rolling-out", Committed: 33, LastStep: 130}
	held := "40 of the last 64 attempts failed (tool 38, engine 2)"
	tests := []struct {
		name   string
		before runstate.Status
		want   string
	}{
		{"a pause", runstate.Status{Phase: "paused"}, "goes on from step 33 of 130 (rolling-out)"},
		{"a pause that has not come", runstate.Status{Phase: "pausing"}, "goes on from step 33 of 130 (rolling-out)"},
		{"a hold", runstate.Status{Phase: "held", Held: held}, "goes on from step 33 of 130 (rolling-out); new groups start again, which had stopped: " + held},
		{"a pause and a hold", runstate.Status{Phase: "paused", Held: held}, "goes on from step 33 of 130 (rolling-out); new groups start again, which had stopped: " + held},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := &cluster{status: &after, queue: []runstate.Status{test.before}}
			got, err := resumeRun(t.Context(), c.at("demo"))
			if err != nil || got.Answer != test.want {
				t.Errorf("got %q, %v; want %q", got.Answer, err, test.want)
			}
		})
	}
}

func TestSetSendsOverridesAndSaysFromWhenOn(t *testing.T) {
	c := &cluster{set: workflows.SetReply{Revision: 2, Summary: "training.staleness 0 → 2", FromStep: 14}}
	overrides := []string{"training.staleness=2"}
	got, err := setRun(t.Context(), c.at("demo"), overrides)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.updated, []string{"set"}) || !reflect.DeepEqual(c.args, []any{workflows.SetInput{Overrides: overrides}}) {
		t.Errorf("sent %v with %v", c.updated, c.args)
	}
	var out buffer
	got.write(&app{out: &out})
	if want := "demo: training.staleness 0 → 2\ndemo: from step 14 on (revision 2 of the config)\n"; out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	text, err := json.Marshal(got)
	if want := `{"run":"demo","revision":2,"summary":"training.staleness 0 → 2","changes":null,"from_step":14}`; err != nil || string(text) != want {
		t.Errorf("got %s, %v; want %s", text, err, want)
	}
}

func TestSetErrors(t *testing.T) {
	c := &cluster{updateErr: sdktemporal.NewApplicationError("set: seed: this cannot change while the run goes on", "")}
	if _, err := setRun(t.Context(), c.at("demo"), []string{"seed=2"}); err == nil || !strings.Contains(err.Error(), "run demo: set: seed: this cannot change") {
		t.Errorf("got %v", err)
	}
	if got := whoAnswers(workflows.SetUpdate); !strings.Contains(got, "--roles control,learner") {
		t.Errorf("a change that nobody answers: %s", got)
	}
}

// TestSetIsCheckedAgainstTheNewestRevision changes what was changed before.
func TestSetIsCheckedAgainstTheNewestRevision(t *testing.T) {
	dataDir, folder := asyncFolder(t)
	a := &app{dataDir: dataDir}
	check := func(overrides ...string) ([]settingChange, error) {
		changes, known, err := a.checkSet(t.Context(), "demo", overrides)
		if err == nil && !known {
			t.Error("the folder is not known")
		}
		return changes, err
	}
	if got, err := check("training.staleness=3"); err != nil || len(got) != 1 || got[0] != (settingChange{"training.staleness", "1", "3"}) {
		t.Errorf("got %v, %v", got, err)
	}
	text, err := folder.Read(t.Context(), "run.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := folder.PutConfig(t.Context(), 1, []byte(strings.Replace(string(text), "staleness: 1", "staleness: 2", 1))); err != nil {
		t.Fatal(err)
	}
	if got, err := check("training.staleness=3"); err != nil || len(got) != 1 || got[0].From != "2" {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := check("training.staleness=2"); err != nil || got != nil {
		t.Errorf("what is so already: %v, %v", got, err)
	}
	if _, err := check("seed=9"); exitCode(err) != exitUsage || !strings.Contains(err.Error(), "cannot change while the run goes on") {
		t.Errorf("what is fixed: %v", err)
	}
	if _, known, err := a.checkSet(t.Context(), "elsewhere", nil); known || err != nil {
		t.Errorf("a run of a cluster: %v, %v", known, err)
	}
}
