package worker

import (
	"context"
	"strings"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/journal"
)

// Log makes the turns of one episode durable; [journal.Log] is one. The episode it is of is its own
// affair: what it is given names none.
type Log interface {
	// Past is what is recorded of the episode. The player goes on from there.
	Past() journal.Past
	// Begin records that a turn begins, before anything is sampled.
	Begin(ctx context.Context, begin journal.Begin) error
	// Finish returns when the turn is durable; the next one begins after that.
	Finish(ctx context.Context, turn journal.Turn) error
	// Fail records why an attempt has no trajectory.
	Fail(ctx context.Context, failed journal.Failed) error
}

// nothing is the log of episodes that are not worth going on with.
type nothing struct{}

func (nothing) Past() journal.Past                         { return journal.Past{} }
func (nothing) Begin(context.Context, journal.Begin) error { return nil }
func (nothing) Finish(context.Context, journal.Turn) error { return nil }
func (nothing) Fail(context.Context, journal.Failed) error { return nil }

// fail records the end of an attempt. What cannot be recorded is part of the failure.
func (e *episode) fail(ctx context.Context, failure *rollout.Failure) *rollout.Failure {
	err := e.log.Fail(context.WithoutCancel(ctx), journal.Failed{
		Attempt: e.attempt, From: e.from, Discarded: e.discarded, Kind: failure.Kind, Reason: reason(failure.Err),
	})
	return also(failure, err)
}

// mostReason bounds the reason in the attempt ledger, in bytes: a tool may put a whole page into an error.
const mostReason = 400

// reason is an error as the attempt ledger tells it.
func reason(err error) string {
	text := strings.ToValidUTF8(err.Error(), "?")
	if len(text) > mostReason {
		text = strings.ToValidUTF8(text[:mostReason], "") + " …"
	}
	return text
}
