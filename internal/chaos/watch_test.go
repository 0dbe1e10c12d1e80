package chaos

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/journal"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// fixture is a run's folder that a test writes as the run would.
type fixture struct {
	t      *testing.T
	folder *runfolder.Folder
	watch  *Watch
	clock  float64
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	folder, err := runfolder.Open(t.TempDir(), "demo")
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{t: t, folder: folder, watch: NewWatch(folder)}
}

func (f *fixture) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// poll lets a second pass and looks.
func (f *fixture) poll() {
	f.t.Helper()
	f.clock++
	f.check(f.watch.Poll(f.t.Context(), at(f.clock)))
}

func (f *fixture) commit(step int, groups ...int) {
	f.t.Helper()
	m := runfolder.Manifest{Step: step, Kind: runstate.Reinforce, Fence: step, Committed: at(f.clock), WeightsDigest: "sha256:w"}
	for _, group := range groups {
		m.Batch = append(m.Batch, runstate.GroupRef{Number: group})
		for member := range 2 {
			m.Ledger = append(m.Ledger, runfolder.LedgerRow{Trajectory: Episode{group, member}.String(), State: "trained"})
		}
	}
	f.check(f.folder.Commit(f.t.Context(), m))
}

func (f *fixture) say(text string) {
	f.t.Helper()
	f.check(f.folder.AppendEvent(f.t.Context(), runfolder.Event{Time: at(f.clock), Text: text}))
}

// store puts a group of two members into the store.
func (f *fixture) store(number int) {
	f.t.Helper()
	group := rollout.Group{ID: strings.TrimSuffix(Episode{number, 0}.String(), "/0"), Task: rollout.Task{ID: "calc/train/1", Env: "calc"}}
	for member := range 2 {
		outcome := 1.0
		group.Trajectories = append(group.Trajectories, rollout.Trajectory{ID: Episode{number, member}.String(), Stop: rollout.StopAnswer, Outcome: &outcome,
			Tokens: []int32{1, 2}, Sampled: []bool{false, true}, BehaviorLogProbs: []float32{0, -1}, Versions: []rollout.Version{0, 0},
			Turns: []rollout.Turn{{Start: 1, End: 2, Calls: []rollout.Call{}, FormatOK: true}}})
	}
	data, err := record.EncodeSegment(group)
	f.check(err)
	_, err = f.folder.Put(f.t.Context(), runfolder.SegmentKey(number), data)
	f.check(err)
}

func (f *fixture) loop() *journal.Writer {
	f.t.Helper()
	w, err := journal.Open(f.folder.TurnsPath())
	f.check(err)
	f.t.Cleanup(func() { _ = w.Close() })
	return w
}

func begin(group, member, turn int) journal.Begin {
	return journal.Begin{Episode: journal.Episode{Group: group, Member: member}, Attempt: 1, Turn: turn}
}

func (f *fixture) begin(w *journal.Writer, group, member, turn int) {
	f.t.Helper()
	f.check(w.Begin(f.t.Context(), begin(group, member, turn)))
}

func (f *fixture) finish(w *journal.Writer, group, member, turn int, stop rollout.StopReason) {
	f.t.Helper()
	f.check(w.Finish(f.t.Context(), journal.Turn{Begin: begin(group, member, turn), Stop: stop}))
}

// live writes a run of two steps, of which the second group is begun by one loop and ended by another.
func (f *fixture) live() {
	first := f.loop()
	f.check(f.folder.PublishControl(f.t.Context(), runstate.Control{Revision: 1}))
	f.commit(0)
	f.poll() // 1
	for member := range 2 {
		f.begin(first, 0, member, 0)
		f.finish(first, 0, member, 0, rollout.StopAnswer)
	}
	f.store(0)
	f.begin(first, 1, 0, 0)
	f.poll() // 2
	f.finish(first, 1, 0, 0, "")
	f.commit(1, 0)
	f.check(first.Close())
	f.poll() // 3
	second := f.loop()
	f.begin(second, 1, 0, 1)
	f.poll() // 4
	f.finish(second, 1, 0, 1, rollout.StopAnswer)
	f.begin(second, 1, 1, 0)
	f.finish(second, 1, 1, 0, rollout.StopAnswer)
	f.store(1)
	f.commit(2, 1)
	f.check(second.Close())
	f.poll() // 5
	f.say("completed at step 2 of 2")
	f.poll() // 6
}

func TestWatchSeesWhatARunGains(t *testing.T) {
	f := newFixture(t)
	f.poll()
	if f.watch.Committed() != -1 || len(f.watch.Progress()) != 0 {
		t.Errorf("of an empty folder: %+v", f.watch.Progress())
	}
	f.clock = 0
	f.live()
	var told []string
	for _, p := range f.watch.Progress() {
		told = append(told, strings.Join([]string{p.Seen.Format("05"), string(p.Of)}, " "))
	}
	want := []string{"01 learner", "01 control", "02 rollout", "02 rollout", "03 learner", "03 rollout", "05 learner", "05 rollout", "05 rollout", "06 control"}
	if !slices.Equal(told, want) {
		t.Errorf("saw %q, want %q", told, want)
	}
	if last := f.watch.Progress()[8]; last.Tenure != 2 || last.Group != 1 || !last.Since.Equal(at(4)) {
		t.Errorf("the last turn is %+v, want one of group 1 by tenure 2, which came in second 4", last)
	}
	if f.watch.Outcome() != "completed" || f.watch.Committed() != 2 || !f.watch.Settled(1) || f.watch.Settled(2) {
		t.Errorf("outcome %q at step %d", f.watch.Outcome(), f.watch.Committed())
	}
}

func TestWatchKnowsWhatALoopHasInHand(t *testing.T) {
	f := newFixture(t)
	w := f.loop()
	for _, group := range []int{3, 1, 2} {
		f.begin(w, group, 0, 0)
	}
	f.commit(0)
	f.commit(1, 1)
	f.poll()
	if got := f.watch.Begun([]int{1}); !slices.Equal(got, []int{2, 3}) {
		t.Errorf("tenure 1 has %v in hand, want groups 2 and 3", got)
	}
	if got := f.watch.InFlight([]int{1}); got != 3 {
		t.Errorf("%d episodes in flight, want 3", got)
	}
	f.finish(w, 1, 0, 0, rollout.StopAnswer)
	f.finish(w, 2, 0, 0, "")
	f.check(w.Fail(t.Context(), journal.Failed{Episode: journal.Episode{Group: 3}, Attempt: 1, Kind: rollout.FailedTool}))
	f.poll()
	if got := f.watch.InFlight([]int{1}); got != 1 {
		t.Errorf("%d episodes in flight after one ended and one failed, want 1", got)
	}
	if got := f.watch.Begun([]int{2}); len(got) != 0 {
		t.Errorf("tenure 2 has %v in hand", got)
	}
}

func (f *fixture) collect() *Evidence {
	f.t.Helper()
	e, err := Collect(f.t.Context(), f.folder, f.watch)
	f.check(err)
	e.Run, e.LastStep, e.Started = "demo", 2, at(0)
	return e
}

func TestCollectedEvidenceOfAnHonestRun(t *testing.T) {
	f := newFixture(t)
	f.live()
	e := f.collect()
	if found := Audit(e); len(found.Broken) > 0 {
		t.Errorf("an honest run: %q", found.Broken)
	}
	if len(e.Steps) != 3 || len(e.Stored) != 2 || len(e.Marks) != 10 || e.Outcome != "completed" || e.SecondsPerStep() != 2 {
		t.Errorf("%d steps, %d groups, %d marks, outcome %q, %v s a step", len(e.Steps), len(e.Stored), len(e.Marks), e.Outcome, e.SecondsPerStep())
	}
	for _, mark := range e.Marks {
		if mark.Seen.IsZero() {
			t.Errorf("nobody saw %+v", mark)
		}
	}
}

// What is done to a folder behind the run's back comes out.
func TestCollectedEvidenceOfABrokenRun(t *testing.T) {
	for name, c := range map[string]struct {
		plant func(f *fixture)
		want  string
	}{
		"a manifest that was removed": {
			func(f *fixture) { f.check(os.Remove(filepath.Join(f.folder.Path, "steps/000002.json"))) },
			"step 2 was committed and is gone"},
		"a manifest that was corrupted": {
			func(f *fixture) { f.check(Damage(filepath.Join(f.folder.Path, "steps/000001.json"), 3000)) },
			"step 1 was committed and is gone"},
		"a manifest that was replaced": {
			func(f *fixture) {
				f.check(os.Remove(filepath.Join(f.folder.Path, "steps/000002.json")))
				f.commit(2, 0, 1)
			},
			"step 2 was committed as sha256:"},
		"a group trained twice": {
			func(f *fixture) { f.commit(3, 0) },
			"trajectory g0/0 was trained at step 1 and at step 3"},
		"a stored group that was forgotten": {
			func(f *fixture) { f.store(2) },
			"trajectory g2/0 has finished turns and was neither trained nor dropped"},
		"an unreadable group that was forgotten": {
			func(f *fixture) {
				f.store(2)
				f.check(os.Truncate(filepath.Join(f.folder.Path, runfolder.SegmentKey(2)), 10))
			},
			"trajectory g2, which cannot be read, has finished turns"},
		"a turn that was forgotten": {
			func(f *fixture) { f.finish(f.loop(), 7, 1, 0, "") },
			"trajectory g7/1 has finished turns"},
		"a turn that was sampled again": {
			func(f *fixture) { f.begin(f.loop(), 1, 1, 0); f.poll() },
			"turn 0 of g1/1 was finished and then sampled again, by tenure 3"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.live()
			c.plant(f)
			found := Audit(f.collect())
			if !strings.Contains(strings.Join(found.Broken, "\n"), c.want) {
				t.Errorf("the audit says %q, want %q", found.Broken, c.want)
			}
		})
	}
}

// A corrupt group that was trained before it was struck is in the ledger, and nothing is lost.
func TestTrainedGroupsNeedNotBeReadable(t *testing.T) {
	f := newFixture(t)
	f.live()
	f.check(Damage(filepath.Join(f.folder.Path, runfolder.SegmentKey(0)), 100))
	if found := Audit(f.collect()); len(found.Broken) > 0 {
		t.Errorf("got %q", found.Broken)
	}
}

func TestPollGoesOnAfterTrouble(t *testing.T) {
	f := newFixture(t)
	path := filepath.Join(f.folder.Path, "control.json")
	f.check(os.WriteFile(path, []byte("{"), 0o600))
	f.commit(0)
	if err := f.watch.Poll(t.Context(), at(1)); err == nil || !strings.Contains(err.Error(), "control.json") || f.watch.Committed() != 0 {
		t.Errorf("got %v and step %d, want trouble with the control object alone", err, f.watch.Committed())
	}
	f.check(os.Remove(path))
	f.check(f.folder.PublishControl(t.Context(), runstate.Control{Revision: 2}))
	f.poll()
	if n := len(f.watch.Progress()); n != 2 {
		t.Errorf("%d gains, want the step and the control object", n)
	}
}
