package activity

import (
	"time"

	"github.com/turnwise-rl/turnwise/internal/blob"
)

// load brings the weights of the control object into the engine.
func (l *loop) load() {
	control := l.roster.control
	before, failed := l.version.Load(), l.loadFailed
	l.work.Go(func() {
		if failed > 0 {
			pause(l.ctx, min(100*time.Millisecond<<min(failed, 6), 2*time.Second))
		}
		// A turn that begins meanwhile is counted as sampled with the new version until it has ended.
		l.version.Store(int64(control.Version))
		started := time.Now()
		err := l.ctx.Err()
		if err == nil {
			err = l.engine.Use(l.ctx, blob.Ref(control.Weights), control.Version)
		}
		if err != nil {
			l.version.Store(before)
		}
		took := time.Since(started)
		l.mail.post(func() { l.loaded(control.Version, control.Weights.Key, took, err) })
	})
}

func (l *loop) loaded(version int, key string, took time.Duration, err error) {
	l.behind()
	if err == nil {
		l.activities.observer().WeightsTaken(l.input.Run, took)
		l.roster.loaded(version)
		l.loadFailed, l.corrupt = 0, ""
		l.log.Info("sampling with new weights", "version", version)
		return
	}
	l.roster.loaded(unknown)
	if l.ctx.Err() != nil {
		return
	}
	l.loadFailed++
	if l.loadFailed == 1 {
		l.log.Warn("weights cannot be loaded, trying again", "version", version, "error", err)
	}
	// Weights that are missing may only have been removed after a newer control object was published.
	if isCorrupt(err) && l.loadFailed > 1 && l.corrupt != key && l.roster.control.Weights.Key == key {
		l.corrupt = key
		l.reporter.say(outgoing{weights: key})
	}
}
