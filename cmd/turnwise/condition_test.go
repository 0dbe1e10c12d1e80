//go:build slim

package main

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/common/v1"
	enums "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// troubled is a run that has everything to complain about, as it stands two minutes after the fixture's
// beginning.
func troubled() (*runstate.Status, time.Time) {
	now := fixtureStart.Add(2 * time.Minute)
	return &runstate.Status{
		Phase: "rolling-out", Committed: 3, LastStep: 4, WaitingFor: "groups: 3 of 4 ready", GroupsReady: 3, GroupsPerStep: 4, GroupsPlaying: 5,
		Stalled: &runstate.Stall{What: "groups: 3 of 4 ready", Since: fixtureStart.Add(-5 * time.Second), Unblock: "pools play 5 groups"},
		Held:    "40 of the last 64 attempts failed (tool 38, engine 2)",
		Pools: []runstate.PoolStatus{
			{Pool: 0, Serving: true, Tenure: 4, Worker: "box-1", Since: fixtureStart, Groups: 1},
			{Pool: 1, Since: fixtureStart, Reason: "its worker was silent\nfor 10s"},
		},
		Failures: []runstate.Count{{What: "tool", Times: 1038}, {What: "engine", Times: 2}},
		Drops:    []runstate.Count{{What: "stale", Times: 3}},
	}, now
}

func TestConditionsInSentences(t *testing.T) {
	status, now := troubled()
	same := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", what, got, want)
		}
	}
	local := status.Stalled.Since.Local().Format(time.TimeOnly)
	same("stalled", stallText(status, now), "waiting for groups: 3 of 4 ready since "+local+" (2m05s); pool 1 has had no worker for 2m00s: start one with `turnwise worker --roles rollout`, or a worker that holds more pools with `--loops N`")
	same("held", holdText(status, "demo"), "no new groups start: 40 of the last 64 attempts failed (tool 38, engine 2); `turnwise resume demo` goes on once the cause is mended")
	same("failures", countsText(status.Failures), "tool 1,038, engine 2")
	want := []string{
		"0  served by box-1 for 2m00s (tenure 4), 1 group",
		"1  no worker for 2m00s (its worker was silent for 10s): start one with `turnwise worker --roles rollout`, or a worker that holds more pools with `--loops N`",
	}
	if got := poolTexts(status, now); !slices.Equal(got, want) {
		t.Errorf("pools:\n got %q\nwant %q", got, want)
	}
	status.Pools[1].Reason = "no worker has taken it for 2m0s: start one with `turnwise worker --roles rollout`, or a worker that holds more pools with `--loops N`"
	same("advised", poolTexts(status, now)[1], "1  no worker for 2m00s: no worker has taken it for 2m0s: start one with `turnwise worker --roles rollout`, or a worker that holds more pools with `--loops N`")
	status.Pools = status.Pools[:1]
	status.Pools[0].Quiet = true
	same("with all pools served", stallText(status, now), "waiting for groups: 3 of 4 ready since "+local+" (2m05s); pools play 5 groups")
	same("quiet", poolTexts(status, now)[0], "0  served by box-1 for 2m00s (tenure 4), 1 group, its episodes wait at their next turn")
	if stallText(nil, now)+holdText(nil, "demo")+stallText(&runstate.Status{}, now)+holdText(&runstate.Status{}, "demo") != "" || poolTexts(nil, now) != nil {
		t.Error("there is something to say of nothing")
	}
}

func TestDescribeTellsTheCondition(t *testing.T) {
	status, now := troubled()
	loop := &workflowpb.PendingActivityInfo{ActivityType: &common.ActivityType{Name: workflows.RolloutLoopActivity}, Attempt: 1, State: enums.PENDING_ACTIVITY_STATE_STARTED}
	c := &cluster{status: status, workflows: map[string]*workflowservice.DescribeWorkflowExecutionResponse{"demo": running(), "demo/pool/0": running(loop)}}
	idle := 0.03
	d := &description{Run: "demo", now: now, Occupancy: &occupancy{Steps: 10, LearnerIdle: 0.41, RolloutsIdle: &idle, Bottleneck: "learner idle 41%, rollouts idle 3%: rollouts are the bottleneck"}}
	if err := d.addLive(t.Context(), c, 1); err != nil {
		t.Fatal(err)
	}
	var out buffer
	d.write(&app{out: &out})
	for _, want := range []string{
		"stalled    waiting for groups: 3 of 4 ready since ", "held       no new groups start: ",
		"pools      0  served by box-1", "\n           1  no worker for 2m00s",
		"busy       learner idle 41%, rollouts idle 3%: rollouts are the bottleneck (last 10 steps)",
		"failures   tool 1,038, engine 2; each was tried again", "dropped    groups: stale 3",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "RolloutLoop") {
		t.Errorf("a loop that goes well is told twice:\n%s", out.String())
	}
}

// TestUnpreparedRunsHaveNoSteps describes and watches a run that was cancelled before its folder was prepared:
// the plan is not known, and no view invents a step of it.
func TestUnpreparedRunsHaveNoSteps(t *testing.T) {
	d := (&recorded{id: "demo", folder: &runfolder.Folder{}, committed: -1,
		events: []runfolder.Event{{Text: "cancelled at step 0 of 64"}}}).describe()
	var out buffer
	d.write(&app{out: &out})
	if text := out.String(); !strings.Contains(text, "phase      cancelled, before its first step\n") || strings.Contains(text, "of 0") {
		t.Errorf("described as\n%s", text)
	}
	s := newScene(t, fixture{run: "demo"})
	s.watcher.run.config, s.watcher.run.committed, s.watcher.run.metrics = nil, -1, nil
	f := s.frame(live{Known: true})
	if head, line := f.lines()[0], f.line(); !strings.Contains(head, "before its first step") || strings.Contains(head+line, "0/0") || !strings.Contains(line, "before its first step") {
		t.Errorf("watched as %q and %q", head, line)
	}
	if got := []string{endText(0, 0), endText(3, 64)}; !slices.Equal(got, []string{"before its first step", "at step 3 of 64"}) {
		t.Errorf("ends %q", got)
	}
}

// TestEvaluationsUnderWay looks at the workflow of an evaluation that is due and not recorded.
func TestEvaluationsUnderWay(t *testing.T) {
	dataDir, folder := asyncFolder(t)
	_, id, err := (&app{dataDir: dataDir}).findRun("demo")
	if err != nil {
		t.Fatal(err)
	}
	r, err := readRun(t.Context(), folder, id)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.unevaluated(); got != nil { // every second step: 3 is recorded, 5 is to come
		t.Errorf("due are %v", got)
	}
	r.evaluations = r.evaluations[:1]
	if got := r.unevaluated(); !slices.Equal(got, []int{3}) {
		t.Errorf("due are %v, want 3", got)
	}
	evaluation := &workflowpb.PendingActivityInfo{ActivityType: &common.ActivityType{Name: workflows.EvaluateActivity}, Attempt: 1, State: enums.PENDING_ACTIVITY_STATE_SCHEDULED}
	c := &cluster{workflows: map[string]*workflowservice.DescribeWorkflowExecutionResponse{workflows.EvaluationID("demo", 3): running(evaluation)}}
	got, err := askEvaluations(t.Context(), c, "demo", []int{1, 3})
	if err != nil || len(got) != 1 || !strings.Contains(got[0].String(), "Evaluate, taken by no worker") || got[0].role() != "rollout" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestWatchTellsTheCondition(t *testing.T) {
	s := newScene(t, fixture{run: "demo"})
	status, _ := troubled()
	healthy := *status
	healthy.Stalled, healthy.Held, healthy.Pools = nil, "", healthy.Pools[:1]
	s.cluster.status = &healthy
	stalled := healthy
	stalled.Stalled = status.Stalled
	s.script = []func(){
		nothingHappens,
		func() { s.cluster.status = &stalled },
		func() { s.clock = s.clock.Add(time.Second) }, // that it lasts longer is no news
		func() { s.cluster.status = status },
		func() { s.cluster.status = &healthy },
		s.become(enums.WORKFLOW_EXECUTION_STATUS_COMPLETED),
	}
	if err := s.watch(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(s.out.String()), "\n")
	if len(lines) < 4 {
		t.Fatalf("got %d lines:\n%s", len(lines), s.out.String())
	}
	for i, want := range []string{"rolling-out", "stalled: waiting for groups: 3 of 4 ready", "held: no new groups start", "rolling-out"} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %d is %q, want %q", i, lines[i], want)
		}
	}
	if strings.Contains(lines[3], "stalled") || strings.Contains(lines[3], "held: ") {
		t.Errorf("the trouble is over, and the line says %q", lines[3])
	}

	s.cluster.status = status
	f := s.frame(live{Known: true, Status: status})
	text := strings.Join(f.lines(), "\n")
	for _, want := range []string{
		"groups    ready 3/4", "playing 5   dropped stale 3   failed attempts tool 1,038, engine 2",
		"pool 1  no worker for ", "stalled: waiting for groups", "held: no new groups start",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

func TestOccupancyOfSteps(t *testing.T) {
	steps := map[int]stepTimes{}
	for step := 3; step <= 7; step++ {
		m := runfolder.Manifest{Step: step, Committed: fixtureStart.Add(time.Duration(step) * 10 * time.Second)}
		m.Seconds = runfolder.Seconds{Credit: 1, Update: 4, Commit: 0.9}
		steps[step] = stepTimes{manifest: m, played: 38.8}
	}
	got := measure(steps, 3, 7, 4, 1)
	if got.Steps != 4 || math.Abs(got.LearnerIdle-0.41) > 1e-9 || math.Abs(*got.RolloutsIdle-0.03) > 1e-9 {
		t.Errorf("got %+v", got)
	}
	if want := "learner idle 41%, rollouts idle 3%: rollouts are the bottleneck"; got.Bottleneck != want {
		t.Errorf("got %q, want %q", got.Bottleneck, want)
	}
	if got := measure(steps, 3, 7, 8, 0).Bottleneck; got != "rollouts idle 52%, learner idle 41%: the learner is the bottleneck; at staleness 0 they take turns" {
		t.Errorf("with twice the slots: %q", got)
	}
	if got := measure(steps, 3, 7, 7, 2).Bottleneck; got != "learner idle 41%, rollouts idle 45%: neither is the bottleneck" {
		t.Errorf("with as many slots as needed: %q", got)
	}
	if got := measure(steps, 3, 7, 97, 2).Bottleneck; got != "rollouts idle 96%, learner idle 41%: the learner is the bottleneck" {
		t.Errorf("with slots to spare: %q", got)
	}
	small := map[int]stepTimes{}
	for step, times := range steps {
		times.manifest.Seconds.Update, times.played = 2.1, 0.8
		small[step] = times
	}
	if got := measure(small, 3, 7, 4, 1).Bottleneck; got != "learner idle 60%, rollouts idle 98%: neither is the bottleneck, what passes between them is: the steps are small beside orchestration and latency" {
		t.Errorf("with small steps: %q", got)
	}
	steps[5] = stepTimes{manifest: steps[5].manifest, played: math.NaN()}
	if got := measure(steps, 3, 7, 4, 1); got.RolloutsIdle != nil || got.Bottleneck != "learner idle 41%" {
		t.Errorf("with a group that cannot be read: %+v", got)
	}
	if got := measure(map[int]stepTimes{1: {}, 2: {}}, 1, 2, 4, 1); got != nil {
		t.Errorf("steps of the same moment: %+v", got)
	}
}

// TestGaugeReadsAStepOnce measures the fixture's steps, and keeps what it has read.
func TestGaugeReadsAStepOnce(t *testing.T) {
	dataDir, folder := asyncFolder(t)
	a := &app{dataDir: dataDir}
	_, id, err := a.findRun("demo")
	if err != nil {
		t.Fatal(err)
	}
	r, err := readRun(t.Context(), folder, id)
	if err != nil {
		t.Fatal(err)
	}
	var g gauge
	got, err := g.occupancy(t.Context(), r)
	if err != nil || got == nil || got.Steps != 2 || got.LearnerIdle != 1 || *got.RolloutsIdle != 1 {
		t.Fatalf("got %+v, %v", got, err)
	}
	r.folder = nil // nothing is read again
	if again, err := g.occupancy(t.Context(), r); err != nil || again != got {
		t.Errorf("got %+v, %v", again, err)
	}
	r.committed = 1
	if early, err := new(gauge).occupancy(t.Context(), r); early != nil || err != nil {
		t.Errorf("before there are two steps: %+v, %v", early, err)
	}
}
