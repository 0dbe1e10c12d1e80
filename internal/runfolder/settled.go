package runfolder

import (
	"context"
	"path/filepath"
)

// TurnsPath is the folder of the records of finished turns, one file for each tenure of a rollout loop.
func (f *Folder) TurnsPath() string { return filepath.Join(f.Path, "turns") }

// Tenures returns the numbers of the tenures that have a record of turns, ascending.
func (f *Folder) Tenures(ctx context.Context) ([]int, error) { return f.numbers(ctx, "turns/") }

// Settlement says what became of a run's groups.
type Settlement struct {
	// Trained and Dropped have the step of every settled group: the one that trained it, and the one that recorded
	// that it is not going to be trained.
	Trained, Dropped map[int]int
	// Next is the smallest number that no group has: one more than the largest that is settled, stored or begun.
	Next int
	// Open are the groups with a smaller number that are not settled, ascending. Some are in the store, others are
	// to be played.
	Open []int
}

// Settled reports whether a group is trained or dropped.
func (s Settlement) Settled(group int) bool {
	_, trained := s.Trained[group]
	_, dropped := s.Dropped[group]
	return trained || dropped
}

// Settled reads from all manifests which groups are settled. begun are groups that records of turns tell of.
func (f *Folder) Settled(ctx context.Context, begun ...int) (Settlement, error) {
	s := Settlement{Trained: map[int]int{}, Dropped: map[int]int{}}
	committed, err := f.Committed(ctx)
	if err != nil {
		return s, err
	}
	note := func(group int) { s.Next = max(s.Next, group+1) }
	for step := range committed + 1 {
		manifest, err := f.Manifest(ctx, step)
		if err != nil {
			return s, err
		}
		for _, group := range manifest.Batch {
			s.Trained[group.Number] = step
			note(group.Number)
		}
		for _, drop := range manifest.Dropped {
			s.Dropped[drop.Group] = step
			note(drop.Group)
		}
	}
	stored, err := f.Groups(ctx)
	if err != nil {
		return s, err
	}
	for _, groups := range [][]int{stored, begun} {
		for _, group := range groups {
			note(group)
		}
	}
	for group := range s.Next {
		if !s.Settled(group) {
			s.Open = append(s.Open, group)
		}
	}
	return s, nil
}
