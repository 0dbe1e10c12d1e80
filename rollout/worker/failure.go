package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/turnwise-rl/turnwise/rollout"
)

// PanicError is a panic of an environment or a tool. It fails the attempt it happened in, and no other.
type PanicError struct {
	Value any
	// Stack is the goroutine's stack at the panic, for whoever mends the environment.
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// guard runs what belongs to an environment; a panic becomes an error.
func guard[T any](do func() (T, error)) (result T, err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{value, debug.Stack()}
		}
	}()
	return do()
}

// failed gives an error a kind, unless it is a failure already.
func failed(kind rollout.FailureKind, err error) error {
	var failure *rollout.Failure
	if err == nil || errors.As(err, &failure) {
		return err
	}
	return &rollout.Failure{Kind: kind, Err: err}
}

// within says in what an error happened; the kind of a failure stays.
func within(err error, format string, values ...any) error {
	if err == nil {
		return nil
	}
	place := fmt.Sprintf(format, values...)
	var failure *rollout.Failure
	if errors.As(err, &failure) {
		return &rollout.Failure{Kind: failure.Kind, Err: fmt.Errorf("%s: %w", place, failure.Err)}
	}
	return fmt.Errorf("%s: %w", place, err)
}

// also adds what went wrong after a failure.
func also(failure *rollout.Failure, err error) *rollout.Failure {
	if err == nil {
		return failure
	}
	return &rollout.Failure{Kind: failure.Kind, Err: fmt.Errorf("%w; then %w", failure.Err, err)}
}

// asFailure is the failure of an attempt that ended with an error: cancelled when its context has ended, a
// timeout when its time was up, and otherwise what it says itself.
func (e *episode) asFailure(ctx context.Context, err error) *rollout.Failure {
	var failure *rollout.Failure
	if !errors.As(err, &failure) {
		failure = &rollout.Failure{Kind: rollout.FailedEnvironment, Err: err}
	}
	switch {
	case ctx.Err() != nil:
		failure = &rollout.Failure{Kind: rollout.FailedCancelled, Err: failure.Err}
	case e.clock.late():
		failure = &rollout.Failure{Kind: rollout.FailedTimeout, Err: fmt.Errorf("the attempt took longer than %v: %w", e.clock.limit, failure.Err)}
	}
	return failure
}

// errLate is the cause of contexts that end because an attempt has no time left.
var errLate = errors.New("no time is left")

// clock measures an attempt against its limit. It stands still while the attempt is held.
type clock struct {
	limit time.Duration // 0 for none
	spent time.Duration
	began time.Time // of the span that is measured
}

// start begins a span and bounds it by the time that is left. stop ends it.
func (c *clock) start(ctx context.Context) (bounded context.Context, stop func()) {
	c.began = time.Now()
	cancel := func() {}
	if c.limit > 0 {
		ctx, cancel = context.WithTimeoutCause(ctx, c.limit-c.spent, errLate)
	}
	return ctx, func() {
		cancel()
		c.spent += time.Since(c.began)
		c.began = time.Time{}
	}
}

// late says that no time is left.
func (c *clock) late() bool { return c.limit > 0 && c.spent >= c.limit }
