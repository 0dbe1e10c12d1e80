package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows/activity"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// recorded is what a run's folder tells without a server.
type recorded struct {
	id     string
	folder *runfolder.Folder
	// config is nil while the folder is not prepared.
	config  *configs.Resolved
	created time.Time
	// committed is the last committed step, −1 before step 0.
	committed   int
	evaluations []runfolder.Evaluation // ascending versions
	metrics     []runfolder.MetricsLine
	events      []runfolder.Event
}

// findRun opens the folder of a run given by a unique prefix of its id.
func (a *app) findRun(prefix string) (*runfolder.Folder, string, error) {
	id, err := a.runID(prefix)
	if err != nil {
		var unreadable *fs.PathError
		if errors.As(err, &unreadable) {
			return nil, "", err
		}
		return nil, "", usageError{err}
	}
	folder, err := runfolder.Open(a.dataDir, id)
	return folder, id, err
}

// readRun reads everything small in a run's folder.
func readRun(ctx context.Context, folder *runfolder.Folder, id string) (*recorded, error) {
	r := &recorded{id: id, folder: folder, committed: -1}
	if err := r.readConfig(ctx); err != nil {
		return r, err
	}
	var err error
	if r.committed, err = folder.Committed(ctx); err != nil {
		return r, err
	}
	versions, err := folder.Evaluations(ctx)
	if err != nil {
		return r, err
	}
	for _, version := range versions {
		evaluation, err := folder.Evaluation(ctx, version)
		if err != nil {
			return r, err
		}
		r.evaluations = append(r.evaluations, evaluation)
	}
	return r, r.readLines(ctx)
}

// readLines reads what grows while a run goes on.
func (r *recorded) readLines(ctx context.Context) error {
	var err error
	if r.metrics, err = r.folder.Metrics(ctx); err != nil {
		return err
	}
	r.events, err = r.folder.Events(ctx)
	return err
}

func (r *recorded) readConfig(ctx context.Context) error {
	text, err := r.folder.Read(ctx, runfolder.ConfigKey)
	if errors.Is(err, blob.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	path := filepath.Join(r.folder.Path, runfolder.ConfigKey)
	if info, err := os.Stat(path); err == nil {
		r.created = info.ModTime()
	}
	if r.config, err = configs.Reload(path, text); err != nil {
		return fmt.Errorf("config of run %s: %w", r.id, err)
	}
	return nil
}

// method is the name of the run's method, "-" while it is not known.
func (r *recorded) method() string {
	if r.config == nil {
		return nothing
	}
	return r.config.Run.Method.Name
}

// plan is the run's plan; all zero while it is not known.
func (r *recorded) plan() runstate.Spec {
	if r.config == nil {
		return runstate.Spec{}
	}
	return activity.Spec(r.config.Run)
}

// unevaluated are the newest versions whose evaluation is due and not recorded, at most two: they may be
// under way.
func (r *recorded) unevaluated() []int {
	recorded := map[int]bool{}
	for _, e := range r.evaluations {
		recorded[e.Version] = true
	}
	var out []int
	for version := r.committed; version >= 0 && len(out) < 2; version-- {
		if recorded[version] {
			break
		}
		if r.plan().EvaluationDue(version) {
			out = append(out, version)
		}
	}
	return out
}

// latest is the newest evaluation, nil before the first.
func (r *recorded) latest() *runfolder.Evaluation {
	if len(r.evaluations) == 0 {
		return nil
	}
	return &r.evaluations[len(r.evaluations)-1]
}

// ending is how the run ended according to its folder: the outcome and the run's last words. Both are
// "" while the folder does not say.
func (r *recorded) ending() (runstate.Outcome, string) { return ending(r.events) }

func ending(events []runfolder.Event) (runstate.Outcome, string) {
	if len(events) == 0 {
		return "", ""
	}
	last := events[len(events)-1].Text
	for _, outcome := range []runstate.Outcome{runstate.Completed, runstate.Failed, runstate.Cancelled} {
		if strings.HasPrefix(last, string(outcome)+" at step ") {
			return outcome, last
		}
	}
	return "", ""
}

// outcomeCode is the exit code that mirrors how a run ended.
func outcomeCode(outcome runstate.Outcome) int {
	switch outcome {
	case runstate.Completed:
		return exitOK
	case runstate.Cancelled:
		return exitCancelled
	}
	return exitFailed
}
