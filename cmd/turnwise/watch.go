package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

func watchVerb(a *app) *cobra.Command {
	var patience time.Duration
	cmd := &cobra.Command{
		Use:   "watch ID",
		Short: "Follow a run until it ends",
		Long: "Follow a run until it ends: a live view on a terminal, a line for each piece of news when piped. The exit\n" +
			"code is the run's: 0 done, 1 failed, 3 cancelled. Ctrl-C leaves, and the run goes on. A server that goes\n" +
			"away meanwhile is waited for.",
		Example:           "  turnwise watch quickstart-0c41\n  turnwise watch quick | tee run.log",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.completeRuns,
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix, err := oneRun("watch", args)
			if err != nil {
				return err
			}
			folder, id, err := a.findRun(prefix)
			if err != nil {
				return err
			}
			r, err := readRun(cmd.Context(), folder, id)
			if err != nil {
				return err
			}
			w := &watcher{app: a, run: r, patience: patience, show: a.newView(), now: time.Now}
			w.dial = func(ctx context.Context) (temporalClient, func(), error) {
				c, _, err := a.dial(ctx)
				if err != nil {
					return nil, nil, err
				}
				return c, c.Close, nil
			}
			ticker := time.NewTicker(watchInterval)
			defer ticker.Stop()
			w.tick = ticker.C
			return w.watch(cmd.Context())
		},
	}
	cmd.Flags().DurationVar(&patience, "patience", 10*time.Minute, "how long to wait for a server that has gone away")
	return cmd
}

// watcher follows one run.
type watcher struct {
	app      *app
	run      *recorded
	patience time.Duration
	show     view
	dial     func(context.Context) (temporalClient, func(), error)
	tick     <-chan time.Time
	now      func() time.Time
	// leave is what to say when the person stops watching; "" when the run goes on elsewhere.
	leave string

	gauge     gauge
	occupancy *occupancy // nil before there are two steps

	client  temporalClient
	hangUp  func()
	gone    time.Time // since when the server has been away; zero while it is there
	lostErr error
}

// view shows frames: a terminal redraws, a pipe gets lines.
type view interface {
	draw(frame) error
	// end shows how it ended.
	end(text string)
}

// watch draws frames until the run ends, and returns its exit code as an error.
func (w *watcher) watch(ctx context.Context) error {
	defer func() {
		if w.hangUp != nil {
			w.hangUp()
		}
	}()
	if outcome, words := w.run.ending(); outcome != "" && !w.stillRunning(ctx) {
		return w.end(outcome, words)
	}
	if err := w.reach(ctx); err != nil {
		return err // the first attempt must succeed: exit 4
	}
	for {
		now, err := w.look(ctx)
		if ctx.Err() != nil {
			w.show.end("")
			w.app.note("%s", w.farewell())
			return nil
		}
		if err != nil {
			return err
		}
		if err := w.show.draw(w.frame(now)); err != nil {
			return err
		}
		if now.Ended != "" {
			return w.finish(ctx, now)
		}
		select {
		case <-w.tick:
		case <-ctx.Done():
		}
	}
}

// farewell says what becomes of the run when the person stops watching.
func (w *watcher) farewell() string {
	if w.leave != "" {
		return w.leave
	}
	return fmt.Sprintf("left; %s goes on. Come back with `turnwise watch %s`", w.run.id, w.run.id)
}

// stillRunning says whether a run whose folder says that it ended has been started again.
func (w *watcher) stillRunning(ctx context.Context) bool {
	if w.reach(ctx) != nil {
		return false
	}
	now, err := ask(ctx, w.client, w.run.id)
	return err == nil && now.Known && now.Ended == ""
}

// reach dials unless there is a connection.
func (w *watcher) reach(ctx context.Context) error {
	if w.client != nil {
		return nil
	}
	var err error
	w.client, w.hangUp, err = w.dial(ctx)
	return err
}

// look reads the folder and asks the workflow. A server that is away is waited for, with patience.
func (w *watcher) look(ctx context.Context) (live, error) {
	if err := w.refresh(ctx); err != nil {
		return live{}, err
	}
	err := w.reach(ctx)
	var now live
	if err == nil {
		now, err = ask(ctx, w.client, w.run.id)
	}
	if err == nil && now.Known && now.Ended == "" {
		var inPools []pendingActivity
		inPools, err = askPools(ctx, w.client, w.run.id, w.run.plan().Pools)
		now.Pending = append(now.Pending, worthSaying(inPools, now.Status)...)
	}
	if err == nil && now.Known && now.Ended == "" {
		var evaluating []pendingActivity
		evaluating, err = askEvaluations(ctx, w.client, w.run.id, w.run.unevaluated())
		now.Pending = append(now.Pending, evaluating...)
	}
	switch {
	case err == nil && now.Known:
		w.gone, w.lostErr = time.Time{}, nil
		return now, nil
	case err == nil:
		return w.forgotten()
	case ctx.Err() != nil, !connectionLost(err) && !connect.IsUnreachable(err):
		return live{}, err
	}
	w.lose(err)
	if away := w.now().Sub(w.gone); away > w.patience {
		w.show.end("")
		return live{}, codedError{exitUnreachable, fmt.Errorf("Temporal has been away for %s (%w); `turnwise watch %s` comes back", short(away), err, w.run.id)}
	}
	return live{}, nil
}

// refresh reads what has changed in the folder.
func (w *watcher) refresh(ctx context.Context) error {
	var err error
	if w.run.config, _, err = w.run.currentConfig(ctx); err != nil {
		return err
	}
	versions, err := w.run.folder.Evaluations(ctx)
	if err != nil {
		return err
	}
	for _, version := range versions[min(len(w.run.evaluations), len(versions)):] {
		evaluation, err := w.run.folder.Evaluation(ctx, version)
		if err != nil {
			return err
		}
		w.run.evaluations = append(w.run.evaluations, evaluation)
	}
	if w.run.committed, err = w.run.folder.Committed(ctx); err != nil {
		return err
	}
	if w.occupancy, err = w.gauge.occupancy(ctx, w.run); err != nil {
		return err
	}
	return w.run.readLines(ctx)
}

// lose takes note of a server that is away. The next look dials anew: it may come back elsewhere.
func (w *watcher) lose(err error) {
	if w.gone.IsZero() {
		w.gone = w.now()
	}
	w.lostErr = err
	if w.hangUp != nil {
		w.hangUp()
	}
	w.client, w.hangUp = nil, nil
}

// forgotten is a run that Temporal does not know: the folder has the last word.
func (w *watcher) forgotten() (live, error) {
	if outcome, _ := w.run.ending(); outcome != "" {
		return live{Known: true, Ended: outcome}, nil
	}
	w.show.end("")
	return live{}, fmt.Errorf("Temporal has no workflow of run %s, and its folder does not say that it has ended: submit it again to go on from step %d", w.run.id, w.run.committed)
}

// finish ends the view with the run's own last words.
func (w *watcher) finish(ctx context.Context, now live) error {
	if err := w.run.readLines(ctx); err != nil {
		return err
	}
	outcome, words := w.run.ending()
	if outcome != now.Ended || words == "" {
		words = now.word() + " " + endText(max(0, w.run.committed), w.run.plan().LastStep())
	}
	return w.end(now.Ended, words)
}

func (w *watcher) end(outcome runstate.Outcome, words string) error {
	w.show.end(words)
	switch code := outcomeCode(outcome); code {
	case exitOK:
		return nil
	case exitCancelled:
		return codedError{code, fmt.Errorf("run %s was cancelled; `turnwise describe run %s` shows what it reached", w.run.id, w.run.id)}
	default:
		return codedError{code, fmt.Errorf("run %s failed; `turnwise describe run %s` shows why", w.run.id, w.run.id)}
	}
}
