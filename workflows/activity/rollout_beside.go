package activity

import (
	"context"
	"errors"
	"time"
)

// What goes on beside a loop for as long as it lives.

// watchRun leaves when the run's workflow is not open any more, so that no loop outlives its run.
func (l *loop) watchRun(ctx context.Context) {
	if l.activities.Runs == nil {
		return
	}
	ticker := time.NewTicker(runInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		open, err := isOpen(ctx, l.activities.Runs, l.input.Run)
		switch {
		case err != nil:
			if ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
				l.log.Debug("the run cannot be looked up", "error", err)
			}
		case !open:
			l.mail.post(func() { l.leave("the run is closed", true, 0) })
			return
		}
	}
}

// prune removes the records of turns that nothing may ask for again.
func (l *loop) prune(ctx context.Context) {
	var groups coveredGroups
	ticker := time.NewTicker(pruneInterval)
	defer ticker.Stop()
	for {
		if err := groups.prune(ctx, l.run); err != nil && ctx.Err() == nil {
			l.log.Warn("records of turns that nothing asks for are not removed", "error", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
