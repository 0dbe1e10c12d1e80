package ledger_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/internal/ledger"
)

// sound is a completed run of one warm step and three steps of two groups of two, one step off: group 2
// was dropped as too old when the batch of step 4 was filled, group 7 never came together, and a member of group 6
// was replaced.
func sound() ledger.Facts {
	facts := ledger.Facts{Ended: "completed", EndedAt: 4, LastStep: 4, Metrics: []int{1, 2, 3, 4}}
	batches := map[int][]int{2: {0, 1}, 3: {3, 4}, 4: {5, 6}}
	for number := range 5 {
		step := ledger.Step{Number: number, Staleness: 1, Weights: weights(number)}
		for _, group := range batches[number] {
			segment := segmentOf(group, number-2, number-1)
			facts.Segments = append(facts.Segments, segment)
			step.Batch = append(step.Batch, ledger.Batched{Group: group, Digest: segment.Digest})
			for i, t := range segment.Trajectories {
				row := ledger.Row{Trajectory: t.ID, State: ledger.Trained, Versions: t.Versions}
				if i == 0 {
					row.State = ledger.Left
				}
				step.Rows = append(step.Rows, row)
			}
		}
		facts.Steps = append(facts.Steps, step)
		facts.Objects = append(facts.Objects, ledger.Object{Step: number, What: "weights", Key: fmt.Sprintf("weights/%06d", number),
			Want: weights(number), Got: weights(number), MayExpire: number < 3})
	}
	facts.Steps[4].Rows = append(facts.Steps[4].Rows, ledger.Row{Trajectory: "g6/2", State: ledger.Failed})
	facts.Steps[4].Dropped = []ledger.Dropped{{Group: 2, Reason: "stale"}, {Group: 7, Reason: "environment"}}
	facts.Segments = slices.Insert(facts.Segments, 2, segmentOf(2, 1, 1))
	history := &ledger.History{Outcome: "completed", Committed: 4}
	for _, step := range facts.Steps[1:] {
		history.Commits = append(history.Commits, ledger.Commit{Step: step.Number, Weights: step.Weights, Batch: step.Batch})
	}
	for _, segment := range facts.Segments {
		history.Groups = append(history.Groups, ledger.Batched{Group: segment.Group, Digest: segment.Digest})
	}
	facts.History = history
	return facts
}

func weights(step int) string { return fmt.Sprintf("sha256:w%011d", step) }

func segmentOf(group, oldest, newest int) ledger.Segment {
	s := ledger.Segment{Group: group, Digest: fmt.Sprintf("sha256:s%011d", group)}
	for member := range 2 {
		s.Trajectories = append(s.Trajectories, ledger.Trajectory{ID: fmt.Sprintf("g%d/%d", group, member), Sampled: true, Versions: [2]int{oldest, newest}})
	}
	return s
}

func TestSoundRunHasNoFindings(t *testing.T) {
	if findings := ledger.Check(sound()); findings != nil {
		t.Errorf("got %v", findings)
	}
	if findings := ledger.Check(ledger.Facts{}); findings != nil {
		t.Errorf("before anything: %v", findings)
	}
}

// violation is one thing that goes wrong in a sound run.
type violation struct {
	name  string
	plant func(*ledger.Facts)
	kind  ledger.Kind
	// says are the words of the finding that name both sides.
	says string
	// also are findings of other kinds that cannot but follow.
	also []ledger.Kind
}

var violations = []violation{
	{"gap", func(f *ledger.Facts) { f.Steps = slices.Delete(f.Steps, 1, 2) }, ledger.StepGap, "step 1 has no manifest", []ledger.Kind{ledger.LineUnfounded, ledger.CommitLost}},
	{"unreadable manifest", func(f *ledger.Facts) {
		f.Unreadable = []ledger.Unreadable{{Key: "steps/000002.json", Problem: "not a sealed object"}}
	}, ledger.Unread, "steps/000002.json cannot be read: not a sealed object", nil},
	{"trained twice", func(f *ledger.Facts) {
		f.Steps[4].Batch[0] = f.Steps[2].Batch[0]
		f.History.Commits[3].Batch = f.Steps[4].Batch
		f.Steps[4].Dropped = append(f.Steps[4].Dropped, ledger.Dropped{Group: 5})
		copy(f.Steps[4].Rows, f.Steps[2].Rows[:2])
	}, ledger.TrainedTwice, "group g0 is trained at step 2 and at step 4", []ledger.Kind{ledger.Stale}},
	{"trained twice in one step", func(f *ledger.Facts) {
		f.Steps[4].Batch[1] = f.Steps[4].Batch[0]
		f.History.Commits[3].Batch = f.Steps[4].Batch
		f.Steps[4].Dropped = append(f.Steps[4].Dropped, ledger.Dropped{Group: 6})
	}, ledger.TrainedTwice, "group g5 is trained at step 4 and at step 4", []ledger.Kind{ledger.RowMissing, ledger.RowUnfounded}},
	{"batch group missing", func(f *ledger.Facts) { f.Segments = slices.Delete(f.Segments, 0, 1) }, ledger.SegmentMissing, "group g0, trained at step 2, is not in the store", []ledger.Kind{ledger.ReportLost}},
	{"batch group changed", func(f *ledger.Facts) { f.Segments[0].Digest = "sha256:other" }, ledger.SegmentChanged, "trained at step 2 as sha256:s00000000000, the store holds sha256:other", []ledger.Kind{ledger.ReportDiffers}},
	{"batch group unreadable", func(f *ledger.Facts) { f.Segments[0].Problem = "decode segment: cut" }, ledger.Unread, "group g0, trained at step 2, cannot be read: decode segment: cut", nil},
	{"row missing", func(f *ledger.Facts) { f.Steps[2].Rows = f.Steps[2].Rows[1:] }, ledger.RowMissing, "trajectory g0/0 was in the batch of step 2", nil},
	{"row unfounded", func(f *ledger.Facts) {
		f.Steps[2].Rows = append(f.Steps[2].Rows, ledger.Row{Trajectory: "g9/0", State: ledger.Left, Versions: [2]int{1, 1}})
	}, ledger.RowUnfounded, "a row of trajectory g9/0", nil},
	{"row twice", func(f *ledger.Facts) { f.Steps[2].Rows = append(f.Steps[2].Rows, f.Steps[2].Rows[3]) }, ledger.RowTwice, "trajectory g1/1 has two rows in the ledger of step 2", nil},
	{"row with other versions", func(f *ledger.Facts) { f.Steps[3].Rows[0].Versions = [2]int{2, 2} }, ledger.RowVersions, "versions 2 to 2 in the ledger of step 3, its tokens have 1 to 2", nil},
	{"row of a failure that is in the batch", func(f *ledger.Facts) { f.Steps[2].Rows[0].State = ledger.Failed }, ledger.RowMistaken, "the ledger of step 2 calls trajectory g0/0 failed, and it is in the batch", nil},
	{"row of no state", func(f *ledger.Facts) { f.Steps[2].Rows[0].State = "lost" }, ledger.RowMistaken, "trajectory g0/0 has state \"lost\" in the ledger of step 2", nil},
	{"stale", func(f *ledger.Facts) {
		f.Segments[3].Trajectories[1].Versions = [2]int{0, 2}
		f.Steps[3].Rows[1].Versions = [2]int{0, 2}
	}, ledger.Stale, "g3/1, trained at step 3, has tokens of version 0: 2 versions old, and staleness 1 was in force", nil},
	{"stale after a change of staleness", func(f *ledger.Facts) { f.Steps[4].Staleness = 0 }, ledger.Stale, "1 versions old, and staleness 0 was in force", nil},
	{"from the future", func(f *ledger.Facts) {
		f.Segments[3].Trajectories[1].Versions = [2]int{1, 3}
		f.Steps[3].Rows[1].Versions = [2]int{1, 3}
	}, ledger.FromTheFuture, "g3/1, trained at step 3, has tokens of version 3", nil},
	{"trained and dropped", func(f *ledger.Facts) {
		f.Steps[3].Dropped = []ledger.Dropped{{Group: 5, Reason: "stale"}}
	}, ledger.DroppedTrained, "group g5 is trained at step 4 and dropped at step 3 (stale)", nil},
	{"dropped twice", func(f *ledger.Facts) { f.Steps[3].Dropped = f.Steps[4].Dropped[:1] }, ledger.DroppedTwice, "group g2 is dropped at step 3 and at step 4", nil},
	{"unsettled", func(f *ledger.Facts) { f.Steps[4].Dropped = nil }, ledger.Unsettled, "group g2 is in the store", nil},
	{"weights missing", func(f *ledger.Facts) { f.Objects[4].Got = "" }, ledger.ObjectMissing, "weights of step 4, weights/000004, are missing", nil},
	{"weights corrupt", func(f *ledger.Facts) { f.Objects[0].Got = "sha256:other" }, ledger.ObjectCorrupt, "have digest sha256:other, the manifest says sha256:w", nil},
	{"weights unreadable", func(f *ledger.Facts) { f.Objects[0].Problem = "permission denied" }, ledger.ObjectCorrupt, "cannot be read: permission denied", nil},
	{"metrics missing", func(f *ledger.Facts) { f.Metrics = []int{1, 2, 4} }, ledger.LineMissing, "step 3 is committed and has no line", nil},
	{"metrics twice", func(f *ledger.Facts) { f.Metrics = []int{1, 2, 2, 3, 4} }, ledger.LineUnfounded, "two lines of step 2", nil},
	{"metrics of no step", func(f *ledger.Facts) { f.Metrics = append(f.Metrics, 5) }, ledger.LineUnfounded, "a line of step 5", nil},
	{"ending before the last step", func(f *ledger.Facts) { f.EndedAt = 3 }, ledger.EndingWrong, "completed at step 3, the last manifest is of step 4", nil},
	{"completed with too few steps", func(f *ledger.Facts) { f.LastStep = 5 }, ledger.EndingWrong, "completed, and 4 of 5 steps", []ledger.Kind{ledger.HistoryMistaken}},
	{"commit lost", func(f *ledger.Facts) { f.History.Commits = append(f.History.Commits, ledger.Commit{Step: 5}) }, ledger.CommitLost, "the history has step 5 as committed", nil},
	{"commit with other weights", func(f *ledger.Facts) { f.History.Commits[1].Weights = "sha256:other" }, ledger.CommitDiffers, "weights sha256:other of step 2, the manifest sha256:w00000000002", nil},
	{"commit of weights that no manifest has", func(f *ledger.Facts) { f.Steps[2].Weights = "" }, ledger.CommitDiffers, "of step 2, the manifest none", nil},
	{"commit of another batch", func(f *ledger.Facts) { f.History.Commits[1].Batch = f.Steps[2].Batch[:1] }, ledger.CommitDiffers, "had step 2 train g0 (s00000000000), the manifest says g0 (s00000000000), g1 (s00000000001)", nil},
	{"report lost", func(f *ledger.Facts) {
		f.History.Groups = append(f.History.Groups, ledger.Batched{Group: 8, Digest: "sha256:s8"})
	}, ledger.ReportLost, "group g8 as finished (sha256:s8), and it is not in the store", nil},
	{"report of another content", func(f *ledger.Facts) { f.History.Groups[2].Digest = "sha256:other" }, ledger.ReportDiffers, "group g2 as sha256:other, the store holds sha256:s00000000002", nil},
	{"result beyond the store", func(f *ledger.Facts) { f.History.Committed = 6 }, ledger.HistoryMistaken, "the workflow completed at step 6, the last manifest is of step 4", nil},
}

func TestPlantedViolationsAreFound(t *testing.T) {
	planted := map[ledger.Kind]bool{}
	for _, v := range violations {
		planted[v.kind] = true
		t.Run(v.name, func(t *testing.T) {
			facts := sound()
			v.plant(&facts)
			findings := ledger.Check(facts)
			found := false
			for _, finding := range findings {
				found = found || finding.Kind == v.kind && strings.Contains(finding.Text, v.says)
				if finding.Kind != v.kind && !slices.Contains(v.also, finding.Kind) {
					t.Errorf("besides: %s: %s", finding.Kind, finding.Text)
				}
			}
			if !found {
				t.Errorf("no %s that says %q in %v", v.kind, v.says, findings)
			}
		})
	}
	for _, kind := range ledger.Kinds {
		if !planted[kind] {
			t.Errorf("no test plants %s", kind)
		}
	}
}

// TestARunAtWorkIsSound looks at the moments between two writes: what is not written yet is missing, and
// that is no disagreement.
func TestARunAtWorkIsSound(t *testing.T) {
	moments := map[string]func(*ledger.Facts){
		"nothing written after the commit": func(f *ledger.Facts) { f.Metrics = f.Metrics[:3] },
		"groups wait for training":         func(f *ledger.Facts) { f.Segments = append(f.Segments, segmentOf(9, 4, 4)) },
		"a commit that was not reported": func(f *ledger.Facts) {
			f.History.Commits = f.History.Commits[:3]
		},
		"a step committed while it was read": func(f *ledger.Facts) { f.Metrics = append(f.Metrics, 5) },
		"weights expired":                    func(f *ledger.Facts) { f.Objects[1].Got = "" },
		"a group made again": func(f *ledger.Facts) {
			f.History.Groups = slices.Insert(f.History.Groups, 0, ledger.Batched{Group: 3, Digest: "sha256:before"})
		},
		"without a history": func(f *ledger.Facts) { f.History = nil },
	}
	for name, change := range moments {
		facts := sound()
		facts.Ended, facts.History.Outcome, facts.LastStep = "", "", 9
		change(&facts)
		if findings := ledger.Check(facts); findings != nil {
			t.Errorf("%s: %v", name, findings)
		}
	}
	for _, outcome := range []string{"failed", "cancelled"} {
		facts := sound()
		facts.Ended, facts.LastStep, facts.History.Outcome = outcome, 9, outcome
		facts.Segments = append(facts.Segments, segmentOf(9, 4, 4))
		if findings := ledger.Check(facts); findings != nil {
			t.Errorf("%s: %v", outcome, findings)
		}
	}
}

// TestRemovingAnythingIsFound takes one thing after another out of a sound store.
func TestRemovingAnythingIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		facts := sound()
		switch rapid.IntRange(0, 4).Draw(t, "what") {
		case 0:
			remove(t, &facts.Steps)
		case 1:
			facts.Segments = slices.DeleteFunc(facts.Segments, func(s ledger.Segment) bool { return s.Group == 2 }) // only its report misses it
			remove(t, &facts.Segments)
		case 2:
			remove(t, &facts.Metrics)
		case 3:
			step := rapid.IntRange(2, 4).Draw(t, "step")
			facts.Steps[step].Rows = facts.Steps[step].Rows[:4] // a failure has nothing but its row
			remove(t, &facts.Steps[step].Rows)
		case 4:
			batch := rapid.IntRange(2, 4).Draw(t, "step")
			remove(t, &facts.Steps[batch].Batch)
		}
		if ledger.Check(facts) == nil {
			t.Fatal("nothing was found")
		}
	})
}

func remove[T any](t *rapid.T, list *[]T) {
	at := rapid.IntRange(0, len(*list)-1).Draw(t, "at")
	*list = slices.Delete(slices.Clone(*list), at, at+1)
}
