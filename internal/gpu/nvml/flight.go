package nvml

import (
	"context"
	"errors"
	"sync"
	"time"
)

// flights are questions under way. Whoever asks one that is under way gets its answer, so that a driver that
// hangs keeps one goroutine for a question.
type flights[T any] struct {
	mu      sync.Mutex
	pending map[int]*flight[T] // guarded by mu
}

// flight is one question under way.
type flight[T any] struct {
	began  time.Time
	done   chan struct{} // closed when answer is written
	answer answer[T]
}

type answer[T any] struct {
	value T
	err   error
}

// errSilent is the error of a device that lets its caller wait.
var errSilent = errors.New(silent)

// join asks, or joins who asked the same before and waits.
func (f *flights[T]) join(key int, ask func() (T, error)) *flight[T] {
	f.mu.Lock()
	defer f.mu.Unlock()
	if under, ok := f.pending[key]; ok {
		return under
	}
	if f.pending == nil {
		f.pending = map[int]*flight[T]{}
	}
	one := &flight[T]{began: time.Now(), done: make(chan struct{})}
	f.pending[key] = one
	go func() {
		value, err := ask()
		f.mu.Lock()
		delete(f.pending, key)
		f.mu.Unlock()
		one.answer = answer[T]{value, err}
		close(one.done)
	}()
	return one
}

// wait is the answer, ctx's error, or [errSilent] when the question is older than the patience; 0 is any.
func (f *flight[T]) wait(ctx context.Context, patience time.Duration) (T, error) {
	select {
	case <-f.done:
		return f.answer.value, f.answer.err
	default:
	}
	var late <-chan time.Time
	if patience > 0 {
		timer := time.NewTimer(patience - time.Since(f.began))
		defer timer.Stop()
		late = timer.C
	}
	var nothing T
	select {
	case <-f.done:
		return f.answer.value, f.answer.err
	case <-ctx.Done():
		return nothing, ctx.Err()
	case <-late:
		return nothing, errSilent
	}
}

// each asks boards 0 to n-1 at the same time and waits for all of them.
func each[T any](ctx context.Context, f *flights[T], n int, ask func(i int) func() (T, error)) []answer[T] {
	under := make([]*flight[T], n)
	for i := range under {
		under[i] = f.join(i, ask(i))
	}
	out := make([]answer[T], n)
	for i := range out {
		out[i].value, out[i].err = under[i].wait(ctx, patience)
	}
	return out
}
