package chaos

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout/journal"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// Watch sees a run as a bystander who reads its folder every now and then. One goroutine uses it at a
// time.
type Watch struct {
	folder *runfolder.Folder
	// steps are those that were seen committed, in order.
	steps    []Step
	progress []Progress
	// revision and events are how far the control process was seen to come.
	revision, events int
	outcome          string
	files            map[string]*watched // by path
	since            map[int]time.Time   // when each tenure was first seen
}

// watched is one file of turns as far as it was seen.
type watched struct {
	tenure int
	size   int64
	marks  []Mark
}

// NewWatch watches a run's folder.
func NewWatch(folder *runfolder.Folder) *Watch {
	return &Watch{folder: folder, files: map[string]*watched{}, since: map[int]time.Time{}}
}

// Poll notes what has come since the last time, as seen now. An error about one thing does not keep it
// from the others; what could not be read is looked at again.
func (w *Watch) Poll(ctx context.Context, now time.Time) error {
	return errors.Join(w.pollSteps(ctx, now), w.pollControl(ctx, now), w.pollTurns(now))
}

// Progress is everything seen so far, in the order it was seen.
func (w *Watch) Progress() []Progress { return w.progress }

// Committed is the last step that was seen committed; −1 before step 0.
func (w *Watch) Committed() int { return len(w.steps) - 1 }

// Outcome is how the run says that it ended; "" while it goes on.
func (w *Watch) Outcome() string { return w.outcome }

func (w *Watch) gain(p Progress) { w.progress = append(w.progress, p) }

func (w *Watch) pollSteps(ctx context.Context, now time.Time) error {
	for {
		step, err := readStep(ctx, w.folder, len(w.steps))
		if errors.Is(err, blob.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		w.steps = append(w.steps, step)
		w.gain(Progress{Seen: now, Of: Learner, Step: step.Number, Fence: step.Fence})
	}
}

func (w *Watch) pollControl(ctx context.Context, now time.Time) error {
	control, err := w.folder.Control(ctx)
	if err == nil && control.Revision > w.revision {
		w.revision = control.Revision
		w.gain(Progress{Seen: now, Of: Control})
	}
	events, eventsErr := w.folder.Events(ctx)
	if n := len(events); eventsErr == nil && n > w.events {
		w.events, w.outcome = n, outcomeOf(events[n-1].Text)
		w.gain(Progress{Seen: now, Of: Control})
	}
	return errors.Join(err, eventsErr)
}

// outcomeOf is the outcome that a run's last words tell; "" for any other words.
func outcomeOf(text string) string {
	for _, outcome := range []runstate.Outcome{runstate.Completed, runstate.Failed, runstate.Cancelled} {
		if strings.HasPrefix(text, string(outcome)+" at step ") {
			return string(outcome)
		}
	}
	return ""
}

func (w *Watch) pollTurns(now time.Time) error {
	files, err := journal.Files(w.folder.TurnsPath())
	if err != nil {
		return err
	}
	var broken []error
	for _, file := range files {
		if _, ok := w.since[file.Tenure]; !ok {
			w.since[file.Tenure] = now
		}
		one := w.files[file.Path]
		if one == nil {
			one = &watched{tenure: file.Tenure}
			w.files[file.Path] = one
		}
		info, err := os.Stat(file.Path)
		if err != nil || info.Size() == one.size {
			continue // gone, or nothing new
		}
		one.size = info.Size()
		marks, err := readMarks(file)
		broken = append(broken, err)
		for _, mark := range marks[min(len(one.marks), len(marks)):] {
			mark.Seen = now
			one.marks = append(one.marks, mark)
			if mark.Kind == Finished {
				w.gain(Progress{Seen: now, Of: Rollout, Tenure: mark.Tenure, Group: mark.Group, Since: w.since[mark.Tenure]})
			}
		}
	}
	return errors.Join(broken...)
}

// readMarks reads one file of turns.
func readMarks(file journal.File) ([]Mark, error) {
	var marks []Mark
	err := file.Entries(func(entry journal.Entry) {
		mark := Mark{Tenure: file.Tenure}
		switch {
		case entry.Begin != nil:
			mark.Kind, mark.Episode, mark.Turn = Began, Episode(entry.Begin.Episode), entry.Begin.Turn
		case entry.Turn != nil:
			mark.Kind, mark.Episode, mark.Turn, mark.Last = Finished, Episode(entry.Turn.Episode), entry.Turn.Turn, entry.Turn.Stop != ""
		default:
			mark.Kind, mark.Episode = Failed, Episode(entry.Failed.Episode)
		}
		marks = append(marks, mark)
	})
	return marks, err
}

// Begun are the groups that the given tenures have begun and that no step seen has settled, ascending.
func (w *Watch) Begun(tenures []int) []int {
	settled := map[int]bool{}
	for _, step := range w.steps {
		for _, group := range append(slices.Clone(step.Trained), step.Dropped...) {
			settled[group] = true
		}
	}
	var groups []int
	for _, one := range w.files {
		if !slices.Contains(tenures, one.tenure) {
			continue
		}
		for _, mark := range one.marks {
			if !settled[mark.Group] {
				groups = append(groups, mark.Group)
			}
		}
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}

// Seen are the manifests that were seen, by step.
func (w *Watch) Seen() map[int]string {
	seen := map[int]string{}
	for _, step := range w.steps {
		seen[step.Number] = step.Digest
	}
	return seen
}

// InFlight counts the episodes that the given tenures have begun and not ended, as far as was seen.
func (w *Watch) InFlight(tenures []int) int {
	open := map[Episode]bool{}
	for _, one := range w.files {
		if !slices.Contains(tenures, one.tenure) {
			continue
		}
		for _, mark := range one.marks {
			if mark.Kind == Began || mark.Kind == Finished && !mark.Last {
				open[mark.Episode] = true
			} else {
				delete(open, mark.Episode)
			}
		}
	}
	return len(open)
}

// Settled says whether a step that was seen has trained or dropped a group.
func (w *Watch) Settled(group int) bool {
	for _, step := range w.steps {
		if slices.Contains(step.Trained, group) || slices.Contains(step.Dropped, group) {
			return true
		}
	}
	return false
}
