package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/chaos"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows/activity"
)

const (
	// chaosTick is how often a trial looks at the run: the resolution of every time it reports.
	chaosTick = 25 * time.Millisecond
	// chaosPatience is how long a run may make no progress before the trial gives up on it. A fault is
	// recovered from in seconds.
	chaosPatience = 3 * time.Minute
	// chaosChoosy is how long a fault of a rollout process waits for episodes in flight.
	chaosChoosy = 3 * time.Second
	// askInterval is how often a run without progress is asked how it stands.
	askInterval = 15 * time.Second
	// askTimeout bounds the answer.
	askTimeout = 2 * time.Second
)

// played is one run of a trial while it goes on and after it has ended.
type played struct {
	id       string
	resolved *configs.Resolved
	started  time.Time
	folder   *runfolder.Folder
	watch    *chaos.Watch
	// outcome is how it ended; "stalled" when it was given up on.
	outcome string
	strikes []chaos.Strike
}

// trial disturbs runs on a site until its plan is carried out. One goroutine carries it.
type trial struct {
	site *site
	// plan are the faults to come; empty for an undisturbed run.
	plan    []chaos.Fault
	total   int
	pending []*struck
	// quietSince is when the last fault was recovered from, struckAt when the last one struck; the start of
	// the run before that.
	quietSince, struckAt time.Time
	run                  *played
	lastProgress, asked  time.Time
	seen                 int
}

// play starts one run and follows it to its end, disturbing it as planned.
func (t *trial) play(ctx context.Context, id string, resolved *configs.Resolved) (*played, error) {
	folder, err := runfolder.Open(t.site.app.dataDir, id)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	t.run = &played{id: id, resolved: resolved, started: now, folder: folder, watch: chaos.NewWatch(folder)}
	t.quietSince, t.struckAt, t.lastProgress, t.asked, t.seen = now, now, now, now, 0
	if err := t.submit(ctx); err != nil {
		return nil, err
	}
	tick := time.NewTicker(chaosTick)
	defer tick.Stop()
	for t.run.outcome == "" {
		select {
		case <-ctx.Done():
			t.release()
			return nil, ctx.Err()
		case <-tick.C:
		}
		if err := t.look(ctx); err != nil {
			t.release()
			return nil, err
		}
	}
	t.conclude(time.Now())
	return t.run, nil
}

// submit starts the run. The server may be on its way back from the last fault.
func (t *trial) submit(ctx context.Context) error {
	for deadline := time.Now().Add(time.Minute); ; {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := startRun(attempt, t.site.client, t.run.id, t.run.resolved)
		cancel()
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
	}
}

// look sees how the run stands and decides what to do.
func (t *trial) look(ctx context.Context) error {
	now := time.Now()
	// What cannot be read, because a fault is at it, is read the next time.
	_ = t.run.watch.Poll(ctx, now)
	if n := len(t.run.watch.Progress()); n > t.seen {
		t.seen, t.lastProgress = n, now
	}
	if t.run.outcome = t.run.watch.Outcome(); t.run.outcome != "" {
		return nil
	}
	if err := t.tend(ctx, now); err != nil {
		return err
	}
	if err := t.strikeNext(ctx, now); err != nil {
		return err
	}
	return t.patience(ctx, now)
}

// tend ends faults whose time is over and notes which were recovered from.
func (t *trial) tend(ctx context.Context, now time.Time) error {
	if server := t.site.server; server != nil {
		if _, err := server.since(); err != nil {
			return err
		}
	}
	for _, hit := range t.pending {
		if hit.lift != nil && now.Sub(hit.At) >= hit.Lasts {
			if err := hit.end(now); err != nil {
				return fmt.Errorf("end fault %d: %w", hit.Number, err)
			}
		}
		hit.look(t.site)
		if err := hit.follow(ctx, t.site, t.run.id, now); err != nil {
			return err
		}
		if at, ok := chaos.Recovery(hit.Strike, t.run.watch.Progress()); ok && hit.lift == nil {
			t.recovered(hit, at)
		}
	}
	before := len(t.pending)
	t.pending = slices.DeleteFunc(t.pending, func(hit *struck) bool { return !hit.Recovered.IsZero() })
	if before > 0 && len(t.pending) == 0 {
		t.quietSince = now
	}
	return t.site.mend()
}

func (t *trial) recovered(hit *struck, at time.Time) {
	hit.Recovered = at
	if hit.Kind == chaos.Device {
		hit.station.boot = true
		hit.Target += remade(hit.Strike, t.run.watch.Progress())
	}
	t.run.strikes = append(t.run.strikes, hit.Strike)
	verdict := "recovered in"
	if t.run.outcome != "" {
		verdict = "the run ended " + t.run.outcome + " after"
	}
	t.site.app.note("fault %d of %d  %s %s at step %d%s: %s %.1f s", hit.Number, t.total, hit.Kind, hit.Target,
		max(0, hit.Committed), describeLength(hit.Strike), verdict, hit.Seconds())
}

func describeLength(s chaos.Strike) string {
	switch {
	case s.Kind == chaos.Delay:
		return fmt.Sprintf(", %v for %.1f s", s.Wait.Round(time.Millisecond), s.Lasts.Seconds())
	case s.Lasts > 0:
		return fmt.Sprintf(", for %.1f s", s.Lasts.Seconds())
	}
	return ""
}

// strikeNext carries out the next fault that is due and has something to strike. One that has not lets
// the ones after it go first.
func (t *trial) strikeNext(ctx context.Context, now time.Time) error {
	for i, fault := range t.plan {
		from := t.quietSince
		if fault.Hurried {
			from = t.struckAt
		}
		if now.Sub(from) < fault.Gap || len(t.pending) > 0 && !fault.Hurried {
			return nil
		}
		choosy := now.Sub(from) < fault.Gap+chaosChoosy
		hit, err := t.site.strike(ctx, fault, t.run, choosy)
		if errors.Is(err, errNothing) {
			continue
		}
		if err != nil {
			return fmt.Errorf("fault %d (%s): %w", fault.Number, fault.Kind, err)
		}
		t.pending = append(t.pending, hit)
		t.plan = slices.Delete(slices.Clone(t.plan), i, i+1)
		t.struckAt = now
		return nil
	}
	return nil
}

// patience gives a run up that makes no progress, after saying what it waits for. A run whose workflow has
// ended without a word in its folder has failed before there was a folder.
func (t *trial) patience(ctx context.Context, now time.Time) error {
	if now.Sub(t.lastProgress) < askInterval || now.Sub(t.asked) < askInterval {
		return nil
	}
	t.asked = now
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	waiting := "its server does not say what it waits for"
	if state, err := ask(asking, t.site.client, t.run.id); err == nil {
		if state.Ended != "" {
			_ = t.run.watch.Poll(ctx, now)
			t.run.outcome = string(state.Ended)
			return nil
		}
		if state.Status != nil {
			waiting = "it waits for " + state.Status.WaitingFor
		}
	}
	t.site.app.note("run %s: no progress for %.0f s; %s", t.run.id, now.Sub(t.lastProgress).Seconds(), waiting)
	if now.Sub(t.lastProgress) > chaosPatience {
		t.run.outcome = "stalled"
	}
	return nil
}

// conclude ends the faults that are under way when the run ends. There is nothing left to recover then.
func (t *trial) conclude(now time.Time) {
	t.release()
	for _, hit := range t.pending {
		t.recovered(hit, now)
	}
	t.pending = nil
}

// release ends every fault that is under way.
func (t *trial) release() {
	for _, hit := range t.pending {
		if err := hit.end(time.Now()); err != nil {
			t.site.app.note("end fault %d: %v", hit.Number, err)
		}
	}
}

// evidence reads what the run left behind, once no process is at work in its folder.
func (p *played) evidence(ctx context.Context) (*chaos.Evidence, error) {
	e, err := chaos.Collect(ctx, p.folder, p.watch)
	if err != nil {
		return nil, fmt.Errorf("read what run %s left: %w", p.id, err)
	}
	e.Run, e.Seed, e.Started, e.Strikes = p.id, p.resolved.Run.Seed, p.started, p.strikes
	e.LastStep = activity.Spec(p.resolved.Run).LastStep()
	e.Outcome = p.outcome
	return e, nil
}
