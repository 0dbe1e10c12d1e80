package blob

import (
	"context"
	"errors"
)

// Faulty wraps a store so that operations fail as a plan says. The plan is asked before each
// operation with its name ("put", "get", "stat" or "list") and its key (for list, the prefix); nil
// lets it pass, any other error is returned in its place. An error made by [Lost] is returned after
// the operation has been carried out. Many goroutines may ask the plan at once.
func Faulty(store Store, plan func(op, key string) error) Store {
	return &faulty{store, plan}
}

// Lost marks an error of a plan: the operation takes effect and only its answer is lost, as when a
// connection breaks or a process dies right after a commit.
func Lost(err error) error { return &lostError{err} }

type lostError struct{ err error }

func (e *lostError) Error() string { return "answer lost: " + e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

type faulty struct {
	store Store
	plan  func(op, key string) error
}

func (f *faulty) Put(ctx context.Context, key string, data []byte) (Ref, error) {
	return inject(f.plan("put", key), func() (Ref, error) { return f.store.Put(ctx, key, data) })
}

func (f *faulty) Get(ctx context.Context, ref Ref) ([]byte, error) {
	return inject(f.plan("get", ref.Key), func() ([]byte, error) { return f.store.Get(ctx, ref) })
}

func (f *faulty) Stat(ctx context.Context, key string) (Ref, error) {
	return inject(f.plan("stat", key), func() (Ref, error) { return f.store.Stat(ctx, key) })
}

func (f *faulty) List(ctx context.Context, prefix string) ([]string, error) {
	return inject(f.plan("list", prefix), func() ([]string, error) { return f.store.List(ctx, prefix) })
}

// inject runs an operation under a fault. When the answer is lost, the operation's own error, if it
// has one, is reported instead: then there was no effect to lose.
func inject[T any](fault error, operation func() (T, error)) (T, error) {
	var none T
	if fault == nil {
		return operation()
	}
	var lost *lostError
	if !errors.As(fault, &lost) {
		return none, fault
	}
	if _, err := operation(); err != nil {
		return none, err
	}
	return none, fault
}
