package activity

import (
	"sync"
	"testing"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/record"
)

// noted is an observer that remembers steps, groups and turns.
type noted struct {
	unobserved
	mu     sync.Mutex
	steps  []StepSeen // guarded by mu, as the others
	groups int
	turns  int
}

func (n *noted) StepCommitted(s StepSeen) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.steps = append(n.steps, s)
}

func (n *noted) GroupStored(string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.groups++
}

func (n *noted) TurnRecorded(TurnSeen) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.turns++
}

// TestStepsAreToldOnce throws the learner away before a step: the steps that it makes again to come back are not told,
// and the time since a step that another process made is not known.
func TestStepsAreToldOnce(t *testing.T) {
	learnerAlone(t)
	d, seen := newDriver(t, prepared(t)), &noted{}
	d.a.Observer = seen
	d.beforeStep = func(step int) {
		if step == 5 { // step 4 is after the last checkpoint, and has to be made again
			d.restart()
			d.a.Observer = seen
		}
	}
	if err := d.play(5); err != nil {
		t.Fatal(err)
	}
	if len(seen.steps) != 5 {
		t.Fatalf("%d steps are told, want 5", len(seen.steps))
	}
	for i, s := range seen.steps {
		manifest, err := d.folder().Manifest(t.Context(), i+1)
		if err != nil {
			t.Fatal(err)
		}
		if s.Step != i+1 || s.Run != runID || s.Kind != manifest.Kind || s.Groups != len(manifest.Batch) || s.Last != (i == 4) || s.Report != manifest.Report {
			t.Errorf("step %d is told as %+v", i+1, s)
		}
		if fresh := i == 0 || i == 4; fresh != (s.Wait < 0) {
			t.Errorf("step %d waited %v", s.Step, s.Wait)
		}
		trained := 0
		for _, row := range manifest.Ledger {
			if row.State == "trained" {
				trained++
			}
		}
		if len(s.Staleness) != trained {
			t.Errorf("step %d: the staleness of %d trajectories, want %d", s.Step, len(s.Staleness), trained)
		}
	}
	if seen.groups != 9 || seen.turns == 0 {
		t.Errorf("%d groups and %d turns, want 9 and some", seen.groups, seen.turns)
	}
	data, err := d.folder().Read(t.Context(), runfolder.SegmentKey(0))
	if err != nil {
		t.Fatal(err)
	}
	group, err := record.DecodeSegment(data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := storeGroup(t.Context(), d.folder(), d.a.Log, 0, group, func() { t.Error("a group that another tenure has stored is told again") }); err != nil {
		t.Error(err)
	}
}

// TestWhatIsToldOfTurns names tools and averages advantages by hand.
func TestWhatIsToldOfTurns(t *testing.T) {
	for want, calls := range map[string][]rollout.Call{
		NoTool:      nil,
		UnknownTool: {{Name: "sing", Status: rollout.CallUnknownTool}, {Name: "python", Status: rollout.CallOK}},
		"python":    {{Name: "python", Status: rollout.CallBadArgs}},
	} {
		if got := firstTool(rollout.Turn{Calls: calls}); got != want {
			t.Errorf("%v is told as %q, want %q", calls, got, want)
		}
	}
	if got := firstTool(rollout.Turn{Calls: []rollout.Call{{Status: rollout.CallUnparsable}}}); got != UnknownTool {
		t.Errorf("what is no call is told as %q", got)
	}
	groups := []rollout.Group{{Trajectories: []rollout.Trajectory{{Sampled: []bool{false, true, true}}, {Sampled: []bool{true}}}}}
	streams := []rollout.Streams{{Kept: true, Advantage: []float64{9, -1, 2}}, {Advantage: []float64{7}}}
	if got := meanAbsolute(groups, streams); got != 1.5 {
		t.Errorf("mean |advantage| %g, want 1.5", got)
	}
	if got := meanAbsolute(nil, nil); got != 0 {
		t.Errorf("mean |advantage| of nothing %g, want 0", got)
	}
}
