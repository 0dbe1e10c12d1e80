package activity

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.temporal.io/api/serviceerror"

	"github.com/turnwise-rl/turnwise/workflows"
)

// reporter tells the run what a loop has to say, in order. One signal is under way at a time and what
// accumulates meanwhile goes with the next. While the server is away everything waits and is sent
// again; the run takes each thing once.
type reporter struct {
	signals      Signaler
	log          *slog.Logger
	run          string
	pool, tenure int
	// gone is told, once, when the run takes no signals any more.
	gone func()
	// said is told whenever everything has been delivered.
	said func()

	wake  chan struct{} // of capacity 1
	mu    sync.Mutex
	queue []outgoing // guarded by mu; what the run has not acknowledged
	empty time.Time  // guarded by mu; when the queue was last emptied
}

// outgoing is one thing to say: news of the pool, a report about a group, or a corrupt object.
type outgoing struct {
	news    *workflows.PoolNews
	report  report
	weights string
}

const (
	// signalTimeout bounds one attempt at a signal.
	signalTimeout = 10 * time.Second
	// signalGap is the least time between two signals: each costs the server and the run some milliseconds
	// of a processor, and what a busy loop has to say meanwhile goes with the next.
	signalGap = 20 * time.Millisecond
	// mostReports keeps a signal far below what a server takes.
	mostReports = 256
	// mostReason is the most bytes of an error that a report carries.
	mostReason = 400
)

func (r *reporter) say(all ...outgoing) {
	if len(all) == 0 {
		return
	}
	r.mu.Lock()
	r.queue = append(r.queue, all...)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default: // it is awake
	}
}

// heard says since when the run has heard everything; zero when it has not.
func (r *reporter) heard() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) > 0 {
		return time.Time{}
	}
	return r.empty
}

// silent says whether the run has heard everything.
func (r *reporter) silent() bool { return !r.heard().IsZero() }

// deliver sends what there is to say until the context ends or the run is gone.
func (r *reporter) deliver(ctx context.Context) {
	for {
		name, message, count := r.next()
		if count == 0 {
			select {
			case <-r.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		switch err := r.signal(ctx, name, message); {
		case runIsGone(err):
			r.gone()
			return
		case err != nil:
			return // the context ended
		}
		r.mu.Lock()
		r.queue = r.queue[count:]
		empty := len(r.queue) == 0
		r.empty = time.Now()
		r.mu.Unlock()
		if empty {
			r.said()
		}
		pause(ctx, signalGap)
	}
}

// next puts the front of the queue into one message and says how much of the queue it is.
func (r *reporter) next() (name string, message any, count int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		return "", nil, 0
	}
	if news := r.queue[0].news; news != nil {
		return workflows.PoolSignal, *news, 1
	}
	groups := workflows.GroupsReport{Pool: r.pool, Tenure: r.tenure}
	for _, item := range r.queue[:min(len(r.queue), mostReports)] {
		if item.news != nil || item.weights != "" && groups.CorruptWeights != "" {
			break
		}
		count++
		switch {
		case item.weights != "":
			groups.CorruptWeights = item.weights
		case item.report.ready != nil:
			groups.Ready = append(groups.Ready, *item.report.ready)
		case item.report.short != nil:
			groups.Short = append(groups.Short, *item.report.short)
		case item.report.dropped != nil:
			groups.Dropped = append(groups.Dropped, *item.report.dropped)
		}
	}
	return workflows.GroupsSignal, groups, count
}

// signal keeps trying while the server is away. It returns an error only when the run takes no signals
// any more or the context ends.
func (r *reporter) signal(ctx context.Context, name string, message any) error {
	return persist(ctx, r.log, "the run cannot be told", func(err error) bool { return !runIsGone(err) }, func() error {
		ctx, cancel := context.WithTimeout(ctx, signalTimeout)
		defer cancel()
		return r.signals.SignalWorkflow(ctx, r.run, "", name, message)
	})
}

// persist does something until it succeeds, fails for good or the context ends, with growing pauses. It
// says once that something is in the way, and once that it no longer is.
func persist(ctx context.Context, log *slog.Logger, what string, passing func(error) bool, do func() error) error {
	failed := 0
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := do()
		switch {
		case err == nil:
			if failed > 0 {
				log.Info("no longer: "+what, "attempts", failed+1)
			}
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !passing(err):
			return err
		}
		if failed++; failed == 1 {
			log.Warn(what+", trying again", "error", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// runIsGone says that no signal can reach the run any more: it has ended or never was.
func runIsGone(err error) bool {
	var gone *serviceerror.NotFound
	return errors.As(err, &gone)
}

// cut shortens the words of an error.
func cut(reason string) string {
	if len(reason) <= mostReason {
		return reason
	}
	return strings.ToValidUTF8(reason[:mostReason], "") + "…"
}
