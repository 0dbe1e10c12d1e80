package overhead

import (
	"context"
	"encoding/json"
	"math"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/testsuite"

	"github.com/turnwise-rl/turnwise/internal/orchestrate"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout/journal"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// listener is a server that hears the loop's signals and answers as a run would.
type listener struct {
	client.Client
	heard func(signal string, message any)
}

func (l listener) SignalWorkflow(_ context.Context, _, _, signal string, message any) error {
	l.heard(signal, message)
	return nil
}

// TestLoopKeepsTheContract lets a loop play two shares and looks at what it reported and left on disk.
func TestLoopKeepsTheContract(t *testing.T) {
	const groups, size = 6, 3
	folder, err := runfolder.Open(t.TempDir(), runID)
	if err != nil {
		t.Fatal(err)
	}
	publish := func(revision, version, from, to int, stopped bool) {
		control := runstate.Control{Revision: revision, Version: version, Weights: weightsOf(version), Staleness: 1, Stopped: stopped}
		share := runstate.Share{Pool: 0, Tenure: 1}
		for number := from; number < to; number++ {
			share.Groups = append(share.Groups, runstate.Assignment{Group: number})
		}
		control.Shares = []runstate.Share{share}
		if err := folder.PublishControl(t.Context(), control); err != nil {
			t.Error(err)
		}
	}
	var mu sync.Mutex
	reported := map[int]workflows.ReadyGroup{}
	hear := func(signal string, message any) {
		mu.Lock()
		defer mu.Unlock()
		switch m := message.(type) {
		case workflows.PoolNews:
			if signal != workflows.PoolSignal || m.State != workflows.PoolServing || m.Tenure != 1 {
				t.Errorf("signal %s: %+v", signal, m)
			}
			publish(1, 0, 0, groups/2, false)
		case workflows.GroupsReport:
			for _, ready := range m.Ready {
				if _, twice := reported[ready.Number]; twice {
					t.Errorf("group %d was reported twice", ready.Number)
				}
				reported[ready.Number] = ready
			}
			switch len(reported) {
			case groups / 2: // groups that were reported may stay in the share
				publish(2, 1, 1, groups, false)
			case groups:
				publish(3, 1, 0, 0, true)
			}
		}
	}
	p := &parts{folder: folder, marks: newMarks(), bench: Bench{Slots: 4, Batch: groups * size, GroupSize: size,
		Latency: orchestrate.Latency{P50: 1e-3, P99: 2e-3, Cap: 3e-3}, Client: listener{heard: hear}}}
	var suite testsuite.WorkflowTestSuite
	environment := suite.NewTestActivityEnvironment()
	environment.RegisterActivity(p.rolloutLoop)
	value, err := environment.ExecuteActivity(p.rolloutLoop, workflows.LoopInput{Run: runID})
	if err != nil {
		t.Fatal(err)
	}
	var result workflows.LoopResult
	if err := value.Get(&result); err != nil || !result.Stopped || result.Tenure != 1 {
		t.Fatalf("the loop ended with %+v, %v", result, err)
	}
	history, err := journal.Read(folder.TurnsPath())
	if err != nil {
		t.Fatal(err)
	}
	for number := range groups {
		ready, ok := reported[number]
		if !ok {
			t.Fatalf("group %d was not reported", number)
		}
		want := number / (groups / 2) // the version of the control object that brought the group
		if ready.Oldest != want || ready.Newest != want {
			t.Errorf("group %d: sampled by versions %d to %d, want %d", number, ready.Oldest, ready.Newest, want)
		}
		checkGroup(t, folder, ready, history, size)
	}
	if got := p.marks.sofar(); got.episodes != groups*size || got.signals == 0 {
		t.Errorf("counted %d episodes of %d, %d signals", got.episodes, groups*size, got.signals)
	}
}

// checkGroup compares a stored group with what was recorded of its turns.
func checkGroup(t *testing.T, folder *runfolder.Folder, ready workflows.ReadyGroup, history *journal.History, size int) {
	t.Helper()
	data, err := folder.Read(t.Context(), ready.Object.Key)
	if err != nil {
		t.Fatal(err)
	}
	group, err := record.DecodeSegment(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(group.Trajectories) != size {
		t.Fatalf("group %d has %d members, want %d", ready.Number, len(group.Trajectories), size)
	}
	for member := range size {
		past := history.Past(journal.Episode{Group: ready.Number, Member: member})
		if len(past.Turns) != 1 || !past.Ended() {
			t.Errorf("group %d, member %d: %d turns are recorded, want the one that ended it", ready.Number, member, len(past.Turns))
		}
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
	m := newMarks()
	for number, ms := range []int{10, 30, 20} {
		m.groupStored(number, at(ms))
	}
	for s := 1; s <= 3; s++ {
		input := workflows.TrainInput{Step: s, Batch: []runstate.GroupRef{{Number: s - 1}}}
		m.stepBegins(input, at(100*s))
		m.stepEnds(s, at(100*s+10))
	}
	m.versionSeen(1, at(120))
	m.versionSeen(3, at(320)) // version 2 was overtaken
	before := m.sofar()
	m.finished(time.Second, 2*time.Second)
	latencies, steps := m.between(before, at(0), at(1000))
	if len(latencies) != 1 || latencies[0] != 1 {
		t.Errorf("latencies %v, want the one second", latencies)
	}
	// Step 3 was seen with step 2, so that only step 2 has a duration of its own.
	if len(steps) != 1 || steps[0][1].begins != at(200) || steps[0][1].ready != at(30) || steps[0][0].seen != at(120) {
		t.Errorf("steps %+v, want step 2 after step 1", steps)
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
	input := Bench{Slots: 64, Batch: 128, GroupSize: 8, Staleness: 4}.input()
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
