//go:build slim

package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// scene is a watcher on the fixture run with a scripted cluster and a clock that the script moves. After
// each picture the next line of the script runs; there are no goroutines.
type scene struct {
	*watcher
	cluster *cluster
	clock   time.Time
	out     buffer
	errs    buffer
	dials   int
	dialErr error
	script  []func()
}

func newScene(t *testing.T, f fixture) *scene {
	t.Helper()
	s := &scene{clock: fixtureStart.Add(time.Minute)}
	a := &app{dataDir: t.TempDir(), out: &s.out, err: &s.errs}
	if err := f.write(a.dataDir); err != nil {
		t.Fatal(err)
	}
	folder, id, err := a.findRun(f.run)
	if err != nil {
		t.Fatal(err)
	}
	r, err := readRun(t.Context(), folder, id)
	if err != nil {
		t.Fatal(err)
	}
	s.cluster = &cluster{status: &runstate.Status{Phase: "training", Committed: 3, LastStep: 4, WaitingFor: "the learner to commit step 4"},
		workflows: map[string]*workflowservice.DescribeWorkflowExecutionResponse{id: running()}}
	ticks := make(chan time.Time)
	close(ticks) // a tick is always there
	s.watcher = &watcher{app: a, run: r, patience: time.Minute, show: &scriptView{lineView{out: &s.out}, s}, tick: ticks, now: func() time.Time { return s.clock },
		dial: func(context.Context) (temporalClient, func(), error) {
			s.dials++
			return s.cluster, func() {}, s.dialErr
		}}
	return s
}

// scriptView runs the script of a scene.
type scriptView struct {
	lineView
	scene *scene
}

func (v *scriptView) draw(f frame) error {
	if err := v.lineView.draw(f); err != nil {
		return err
	}
	if len(v.scene.script) == 0 {
		if f.Phase == "completed" || f.Phase == "failed" || f.Phase == "cancelled" || f.Phase == "terminated" {
			return nil
		}
		return errors.New("the watch goes on after the script's end")
	}
	next := v.scene.script[0]
	v.scene.script = v.scene.script[1:]
	next()
	return nil
}

// become sets the status of the run's workflow.
func (s *scene) become(status enums.WorkflowExecutionStatus) func() {
	return func() { s.cluster.workflows["demo"] = execution(status) }
}

// lose takes the server away; find brings it back.
func (s *scene) loseServer() {
	s.cluster.err, s.dialErr = serviceerror.NewUnavailable("refused"), connect.ErrNoServer
}
func (s *scene) findServer() { s.cluster.err, s.dialErr = nil, nil }

func nothingHappens() {}

func TestWatchEndsWithTheRun(t *testing.T) {
	for status, want := range map[enums.WorkflowExecutionStatus]int{
		enums.WORKFLOW_EXECUTION_STATUS_COMPLETED:  exitOK,
		enums.WORKFLOW_EXECUTION_STATUS_FAILED:     exitFailed,
		enums.WORKFLOW_EXECUTION_STATUS_TERMINATED: exitFailed,
		enums.WORKFLOW_EXECUTION_STATUS_CANCELED:   exitCancelled,
	} {
		t.Run(status.String(), func(t *testing.T) {
			s := newScene(t, fixture{run: "demo"})
			s.script = []func(){nothingHappens, s.become(status)}
			err := s.watch(t.Context())
			code := exitOK
			if err != nil {
				code = exitCode(err)
			}
			if code != want {
				t.Errorf("exit code %d (%v), want %d", code, err, want)
			}
			if out := s.out.String(); !strings.Contains(out, "step 3/4  training  success 33.3%") || !strings.Contains(out, " at step 3 of 4\n") {
				t.Errorf("printed\n%s", out)
			}
		})
	}
}

func TestWatchWaitsOutAServerThatIsGone(t *testing.T) {
	s := newScene(t, fixture{run: "demo"})
	s.script = []func(){s.loseServer, nothingHappens, s.findServer, s.become(enums.WORKFLOW_EXECUTION_STATUS_COMPLETED)}
	if err := s.watch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := s.out.String(); !strings.Contains(out, "unknown  success 33.3%") || !strings.Contains(out, "waits for Temporal, away for") || !strings.Contains(out, "completed") ||
		strings.Contains(out[strings.Index(out, "unknown"):strings.Index(out, "away for")], "left") {
		t.Errorf("printed\n%s", out)
	}
	if s.dials < 2 {
		t.Errorf("dialled %d times: a server may come back at another address", s.dials)
	}
}

func TestWatchLosesPatience(t *testing.T) {
	s := newScene(t, fixture{run: "demo"})
	s.script = []func(){s.loseServer, func() { s.clock = s.clock.Add(2 * time.Minute) }}
	if err := s.watch(t.Context()); exitCode(err) != exitUnreachable || !strings.Contains(err.Error(), "away for 2m00s") {
		t.Errorf("got %v", err)
	}
}

func TestWatchNeedsTheServerToBegin(t *testing.T) {
	s := newScene(t, fixture{run: "demo"})
	s.dialErr = connect.ErrNoServer
	if err := s.watch(t.Context()); exitCode(err) != exitUnreachable {
		t.Errorf("got %v", err)
	}
	s = newScene(t, fixture{run: "demo", ending: "completed at step 4 of 4"})
	s.dialErr = connect.ErrNoServer
	if err := s.watch(t.Context()); err != nil || s.out.String() != "completed at step 4 of 4\n" {
		t.Errorf("a run that has ended: %v\n%s", err, s.out.String())
	}
}

func TestWatchFollowsARunThatWasStartedAgain(t *testing.T) {
	s := newScene(t, fixture{run: "demo", ending: "cancelled at step 3 of 4"})
	s.script = []func(){nothingHappens, s.become(enums.WORKFLOW_EXECUTION_STATUS_CANCELED)}
	if err := s.watch(t.Context()); exitCode(err) != exitCancelled || !strings.Contains(s.out.String(), "training") {
		t.Errorf("got %v\n%s", err, s.out.String())
	}
}

func TestLeavingSaysHowToComeBack(t *testing.T) {
	s := newScene(t, fixture{run: "demo"})
	ctx, leave := context.WithCancel(t.Context())
	s.script = []func(){leave}
	if err := s.watch(ctx); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(s.errs.String(), "demo goes on. Come back with `turnwise watch demo`") {
		t.Errorf("said %q", s.errs.String())
	}
}

func TestWatchOfAForgottenRun(t *testing.T) {
	s := newScene(t, fixture{run: "demo"})
	s.cluster.workflows = nil
	if err := s.watch(t.Context()); err == nil || !strings.Contains(err.Error(), "submit it again to go on from step 3") {
		t.Errorf("got %v", err)
	}
}

func TestFrame(t *testing.T) {
	var f frame
	f.Run, f.Phase, f.Step, f.LastStep, f.GroupsReady, f.GroupsPerStep = "demo", "rolling-out", 14, 24, 2, 8
	var lines []runfolder.MetricsLine
	for step := 1; step <= 14; step++ {
		kind := runstate.Reinforce
		if step <= 2 {
			kind = runstate.Warm
		}
		lines = append(lines, runfolder.MetricsLine{Step: step, Kind: string(kind), Time: fixtureStart.Add(time.Duration(step) * 2 * time.Second),
			Success: 0.5, Reward: 1.25, Turns: 2.5, TokensSampled: 1000, Tokens: 1000})
	}
	f.HeldOut = []heldOut{{2, 0.25}, {10, 0.5}}
	f.addMetrics(lines)
	text := strings.Join(f.lines(), "\n")
	for _, want := range []string{"demo   rolling-out   step 14/24", "~20s left", "success   50.0% ▅▅▅▅", "reward 1.250   turns 2.5   500 tok/s", "ready 2/8 ████░░░░", "held-out  25.0% (version 2) → 50.0% (version 10)"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	empty := frame{Run: "demo", Phase: "preparing"}
	empty.addMetrics(nil)
	if got := empty.lines(); len(got) != 2 {
		t.Errorf("before anything is known: %q", got)
	}
}

func TestScreenRedrawsInPlace(t *testing.T) {
	var out buffer
	v := &screenView{out: &out}
	f := frame{Run: "demo", Phase: "training", Step: 1, LastStep: 4}
	for range 2 {
		if err := v.draw(f); err != nil {
			t.Fatal(err)
		}
	}
	v.end("done")
	if got, want := strings.Count(out.String(), "\x1b[3A"), 1; got != want {
		t.Errorf("moved up %d times over 3 lines, want %d: %q", got, want, out.String())
	}
	if !strings.HasSuffix(out.String(), "\x1b[1A\r\x1b[2Kdone\n") {
		t.Errorf("ends with %q", out.String())
	}
}

func TestPipeGetsALineForEachStep(t *testing.T) {
	var out buffer
	v := &lineView{out: &out}
	for _, f := range []frame{
		{Phase: "rolling-out", Step: 1, LastStep: 3}, {Phase: "training", Step: 1, LastStep: 3}, {Phase: "rolling-out", Step: 2, LastStep: 3},
		{Phase: "paused", Step: 2, LastStep: 3, WaitingFor: "resume"}, {Phase: "rolling-out", Step: 2, LastStep: 3},
	} {
		if err := v.draw(f); err != nil {
			t.Fatal(err)
		}
	}
	want := "step 1/3  rolling-out\nstep 2/3  rolling-out\nstep 2/3  paused  waits for resume\nstep 2/3  rolling-out\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestViewErrorEndsTheWatch(t *testing.T) {
	s := newScene(t, fixture{run: "demo"})
	broken := errors.New("broken pipe")
	s.show = brokenView{broken}
	if err := s.watch(t.Context()); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type brokenView struct{ err error }

func (v brokenView) draw(frame) error { return v.err }
func (v brokenView) end(string)       {}
