package journal

import (
	"context"
	"slices"
	"sync"

	"github.com/turnwise-rl/turnwise/rollout"
)

// Log is a writer's view of one episode. It knows what was recorded of the episode before and keeps what
// is recorded through it, so that a second attempt in the same loop goes on from the first. Several
// goroutines may read it; one records.
type Log struct {
	writer  *Writer
	episode Episode
	mu      sync.Mutex
	past    Past // guarded by mu
	// open is the number of the attempt that is being made; 0 when none is. Guarded by mu.
	open int
}

// Log returns the log of an episode with a past: that of [History.Past], or the zero value for an episode
// that no loop has begun.
func (w *Writer) Log(episode Episode, past Past) *Log {
	return &Log{writer: w, episode: episode, past: Past{slices.Clone(past.Turns), slices.Clone(past.Attempts)}}
}

// Past is what is recorded of the episode.
func (l *Log) Past() Past {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Past{slices.Clone(l.past.Turns), slices.Clone(l.past.Attempts)}
}

// Begin records that a turn of the episode begins; see [Writer.Begin].
func (l *Log) Begin(ctx context.Context, begin Begin) error {
	begin.Episode = l.episode
	if err := l.writer.Begin(ctx, begin); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attempt(begin.Attempt, begin.From, begin.Discarded)
	return nil
}

// Finish records a finished turn of the episode; see [Writer.Finish].
func (l *Log) Finish(ctx context.Context, turn Turn) error {
	turn.Episode = l.episode
	if err := l.writer.Finish(ctx, turn); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attempt(turn.Attempt, turn.From, turn.Discarded)
	l.past.Turns = append(l.past.Turns, turn)
	return nil
}

// Fail records that an attempt at the episode failed; see [Writer.Fail]. The attempt has failed even when
// that cannot be recorded.
func (l *Log) Fail(ctx context.Context, failed Failed) error {
	failed.Episode = l.episode
	l.mu.Lock()
	attempt := l.attempt(failed.Attempt, failed.From, failed.Discarded)
	attempt.Failure, attempt.Reason = failed.Kind, failed.Reason
	l.open = 0
	l.mu.Unlock()
	return l.writer.Fail(ctx, failed)
}

// attempt returns the entry of the attempt with a number, after making it if it is new: earlier ones that
// neither ended nor failed are lost then, and turns that it discards are void.
func (l *Log) attempt(number, from, discarded int) *rollout.Attempt {
	if number != l.open {
		l.open = number
		lose(l.past.Attempts, takenOver)
		l.past.Attempts = append(l.past.Attempts, rollout.Attempt{
			Trajectory: l.episode.String(), Number: len(l.past.Attempts) + 1, Tenure: l.writer.tenure, From: from, Discarded: discarded,
		})
		if discarded > 0 {
			l.past.Turns = nil
		}
	}
	return &l.past.Attempts[len(l.past.Attempts)-1]
}

const (
	takenOver = "another attempt took over"
	loopGone  = "the rollout loop that made it is gone"
)

// lose makes attempts without a failure lost.
func lose(attempts []rollout.Attempt, reason string) {
	for i := range attempts {
		if attempts[i].Failure == "" {
			attempts[i].Failure, attempts[i].Reason = rollout.FailedLost, reason
		}
	}
}
