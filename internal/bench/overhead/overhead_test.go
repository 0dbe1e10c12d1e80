package overhead

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/turnwise-rl/turnwise/internal/orchestrate"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/kernels/graph"
	"github.com/turnwise-rl/turnwise/rollout/journal"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/activity"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// listener hears the loop's signals.
type listener func(signal string, message any)

func (l listener) SignalWorkflow(_ context.Context, _, _, signal string, message any) error {
	l(signal, message)
	return nil
}

// open are leases that hold for ever.
type open struct{ device.Device }

func (o open) Use(ctx context.Context, _ int, _ []string) (context.Context, func(bool) (device.Device, error), func(), error) {
	ctx, release := context.WithCancel(ctx)
	return ctx, func(bool) (device.Device, error) { return o.Device, nil }, release, nil
}

func (o open) Failed(string, *device.Failure) {}

// TestTheLoopIsReal prepares the measured run, lets the rollout loop play two shares with the engine that
// sleeps, trains a step of what it reported, and looks at what is on disk and in the marks.
func TestTheLoopIsReal(t *testing.T) {
	const groups, size = 6, 3
	b := Bench{Slots: 4, Batch: groups * size, GroupSize: size, Staleness: 1, Latency: orchestrate.Latency{P50: 1e-3, P99: 2e-3, Cap: 3e-3},
		Activities: &activity.Activities{DataDir: t.TempDir(), Log: slog.New(slog.DiscardHandler), Leases: open{cpu.New()}, Processor: cpu.New(),
			NewEvaluator: func() trainer.Evaluator { return graph.New[float32]() }, Arithmetic: graph.NewArithmetic()}}
	input, err := b.input()
	if err != nil {
		t.Fatal(err)
	}
	folder, err := runfolder.Open(b.Activities.DataDir, runID)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{t: t, size: size, groups: groups, reported: map[int]workflows.ReadyGroup{}}
	b.Activities.Signals = listener(s.hear)
	s.parts = b.parts(folder)
	var suite testsuite.WorkflowTestSuite
	s.environment = suite.NewTestActivityEnvironment()
	registry := observed{s.environment, s.parts.instead()}
	s.parts.activities.RegisterLearner(registry)
	s.parts.activities.RegisterTraining(registry)
	s.parts.activities.RegisterLoop(registry)
	var prepared workflows.PrepareResult
	s.run(workflows.PrepareActivity, workflows.PrepareInput{Run: runID, Config: input.Config}, &prepared)
	s.weights = prepared.Weights
	s.publish(1, 0, 0, 0, false) // nothing to play before the loop says that it serves
	var result workflows.LoopResult
	s.run(workflows.RolloutLoopActivity, workflows.LoopInput{Run: runID, HandOverAfter: time.Hour}, &result)
	if !result.Stopped || result.Tenure != 1 {
		t.Fatalf("the loop ended with %+v", result)
	}
	s.check(folder)
	step := workflows.TrainInput{Run: runID, Step: 1, Kind: runstate.Reinforce, Fence: 1}
	for _, ready := range s.reported {
		step.Batch = append(step.Batch, ready.GroupRef)
	}
	for range 2 { // committed once
		var trained workflows.TrainResult
		s.run(workflows.TrainStepActivity, step, &trained)
		if trained.Step != 1 || trained.Weights != prepared.Weights {
			t.Errorf("the step ended with %+v", trained)
		}
	}
	manifest, err := folder.Manifest(t.Context(), 1)
	if err != nil || len(manifest.Batch) != groups {
		t.Errorf("%d groups in the manifest, %v", len(manifest.Batch), err)
	}
}

// scene is a run whose control object the test writes.
type scene struct {
	t            *testing.T
	parts        *parts
	environment  *testsuite.TestActivityEnvironment
	weights      runstate.Ref
	size, groups int

	mu       sync.Mutex
	reported map[int]workflows.ReadyGroup // guarded by mu
}

func (s *scene) run(name string, input, result any) {
	s.t.Helper()
	value, err := s.environment.ExecuteActivity(name, input)
	if err == nil {
		err = value.Get(result)
	}
	if err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
}

// publish gives the first tenure groups to play with a version.
func (s *scene) publish(revision, version, from, to int, stopped bool) {
	control := runstate.Control{Revision: revision, Version: version, Weights: s.weights, Staleness: 1, Stopped: stopped}
	share := runstate.Share{Pool: 0, Tenure: 1}
	for number := from; number < to; number++ {
		share.Groups = append(share.Groups, runstate.Assignment{Group: number})
	}
	control.Shares = []runstate.Share{share}
	if err := s.parts.publishControl(context.Background(), workflows.ControlInput{Run: runID, Control: control}); err != nil {
		s.t.Error(err)
	}
}

func (s *scene) hear(_ string, message any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch m := message.(type) {
	case workflows.PoolNews:
		s.publish(2, 0, 0, s.groups/2, false)
	case workflows.GroupsReport:
		for _, ready := range m.Ready {
			s.reported[ready.Number] = ready
		}
		switch len(s.reported) {
		case s.groups / 2: // groups that were reported may stay in the share
			s.publish(3, 1, 0, s.groups, false)
		case s.groups:
			s.publish(4, 1, 0, 0, true)
		}
	}
}

// check compares what was reported with what is stored and recorded, and with what was counted.
func (s *scene) check(folder *runfolder.Folder) {
	history, err := journal.ReadGroups(folder.TurnsPath(), func(int) bool { return true })
	if err != nil {
		s.t.Fatal(err)
	}
	for number := range s.groups {
		ready, ok := s.reported[number]
		if !ok {
			s.t.Fatalf("group %d was not reported", number)
		}
		want := number / (s.groups / 2) // the version of the control object that brought the group
		if ready.Oldest != want || ready.Newest != want {
			s.t.Errorf("group %d: sampled by versions %d to %d, want %d", number, ready.Oldest, ready.Newest, want)
		}
		data, err := folder.Read(s.t.Context(), ready.Object.Key)
		if err != nil {
			s.t.Fatal(err)
		}
		group, err := record.DecodeSegment(data)
		if err != nil || len(group.Trajectories) != s.size {
			s.t.Fatalf("group %d has %d members, %v", number, len(group.Trajectories), err)
		}
		for member := range s.size {
			past := history.Past(journal.Episode{Group: number, Member: member})
			if len(past.Turns) != 1 || !past.Ended() {
				s.t.Errorf("group %d, member %d: %d turns are recorded, want the one that ended it", number, member, len(past.Turns))
			}
		}
	}
	if got := s.parts.marks.sofar(time.Now()); got.episodes != s.groups*s.size || got.signals == 0 || got.controls != 4 || got.sampling <= 0 {
		s.t.Errorf("counted %+v", got)
	}
}

// TestStepsByHand sums up two pairs of steps.
func TestStepsByHand(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	var r Result
	r.steps([][2]step{
		// Ready 5 ms after the learner was free, begun 4 ms later, seen 10 ms after its end: 100 ms a step.
		{{ends: at(95), seen: at(100)}, {ready: at(100), begins: at(104), ends: at(190), seen: at(200)}},
		// Ready long before the learner was free.
		{{ends: at(190), seen: at(200)}, {ready: at(120), begins: at(194), ends: at(290), seen: at(300)}},
	})
	for _, check := range []struct {
		name      string
		got, want float64
	}{{"step", r.StepSeconds, 0.1}, {"decide", r.DecideSeconds, 0.004}, {"publish", r.PublishSeconds, 0.01}, {"share", r.OrchestrationShare, 0.14}} {
		if math.Abs(check.got-check.want) > 1e-12 {
			t.Errorf("%s: %g, by hand %g", check.name, check.got, check.want)
		}
	}
}

// TestMarks follows one step from its groups to its version.
func TestMarks(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	m := newMarks(2)
	for number, ms := range []int{10, 30, 20} {
		m.begins(number, at(5))
		m.ends(number, time.Second, at(ms))
	}
	for s := 1; s <= 3; s++ {
		input := workflows.TrainInput{Step: s, Batch: []runstate.GroupRef{{Number: s - 1}}}
		m.stepBegins(input, at(100*s))
		m.stepEnds(s, at(100*s+10))
	}
	m.versionSeen(1, at(120))
	m.versionSeen(3, at(320)) // version 2 was overtaken
	if !m.stepped() {
		t.Error("the first step was seen and is not")
	}
	before := m.sofar(at(400))
	m.begins(4, at(410))
	m.breaksOff(at(420))
	m.begins(5, at(430))
	m.ends(5, time.Second, at(440))
	latencies, steps := m.between(before, at(0), at(1000))
	if len(latencies) != 1 || latencies[0] != 1 {
		t.Errorf("latencies %v, want the one second", latencies)
	}
	// Step 3 was seen with step 2, so that only step 2 has a duration of its own.
	if len(steps) != 1 || steps[0][1].begins != at(200) || steps[0][1].ready != at(30) || steps[0][0].seen != at(120) {
		t.Errorf("steps %+v, want step 2 after step 1", steps)
	}
}

// TestSlotsByHand follows two slots through 100 ms.
func TestSlotsByHand(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	m := newMarks(2)
	share := runstate.Share{Groups: []runstate.Assignment{{Group: 7}, {Group: 8}}}
	m.published(runstate.Control{Shares: []runstate.Share{share}}, 1, at(0))
	m.begins(7, at(10))
	m.begins(8, at(20))
	m.ends(7, 30*time.Millisecond, at(40))
	m.ends(8, 50*time.Millisecond, at(70))
	m.published(runstate.Control{Shares: []runstate.Share{{Groups: share.Groups[1:]}}}, 2, at(80))
	got := m.sofar(at(100))
	// The slots sample for 30 and 50 ms. Nobody waits from 20 to 80 ms: one slot is idle for 30 of them, both for 10.
	want := counts{episodes: 2, controls: 2, sampling: 80 * time.Millisecond, idle: 50 * time.Millisecond}
	if got != want {
		t.Errorf("%+v, by hand %+v", got, want)
	}
}

func TestParseStat(t *testing.T) {
	const rest = ") S 1 1 1 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 8 0 1 2 3"
	for _, test := range []struct {
		line string
		want time.Duration
		ok   bool
	}{
		{"42 (turnwise" + rest, 3 * time.Second, true},
		{"42 (a) (b" + rest, 3 * time.Second, true},
		{"42 turnwise S 1", 0, false},
		{"42 (turnwise) S 1 1", 0, false},
		{"42 (x) S 1 1 1 0 -1 4194560 100 0 0 0 many 50 0", 0, false},
		{"", 0, false},
	} {
		got, err := parseStat(test.line)
		if (err == nil) != test.ok || got != test.want {
			t.Errorf("%q: %s, %v; want %s", test.line, got, err, test.want)
		}
	}
}

// TestSpecIsLegal holds the plan that is submitted to the machine's own rules.
func TestSpecIsLegal(t *testing.T) {
	input, err := Bench{Slots: 64, Batch: 128, GroupSize: 8, Staleness: 4}.input()
	if err != nil {
		t.Fatal(err)
	}
	if err := input.Spec.Validate(); err != nil {
		t.Error(err)
	}
	if err := input.Limits.Validate(); err != nil {
		t.Error(err)
	}
	if data, err := json.Marshal(input); err != nil || len(data) > 10_000 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}
