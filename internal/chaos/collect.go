package chaos

import (
	"context"
	"errors"
	"fmt"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout/journal"
	"github.com/turnwise-rl/turnwise/rollout/record"
)

// readStep reads what an audit needs of a manifest; blob.ErrNotFound when the step is not committed.
func readStep(ctx context.Context, folder *runfolder.Folder, number int) (Step, error) {
	ref, err := folder.Stat(ctx, fmt.Sprintf("steps/%06d.json", number))
	if err != nil {
		return Step{}, err
	}
	manifest, err := folder.Manifest(ctx, number)
	if err != nil {
		return Step{}, err
	}
	step := Step{Number: number, Fence: manifest.Fence, Digest: ref.Digest, Weights: manifest.WeightsDigest, Committed: manifest.Committed}
	for _, group := range manifest.Batch {
		step.Trained = append(step.Trained, group.Number)
	}
	for _, dropped := range manifest.Dropped {
		step.Dropped = append(step.Dropped, dropped.Group)
	}
	for _, row := range manifest.Ledger {
		step.Rows = append(step.Rows, Row{Trajectory: row.Trajectory, Trained: row.State == "trained"})
	}
	return step, nil
}

// Collect reads everything that a run left behind, from disk alone, and adds what the watch saw. No
// process may be at work in the folder any more.
func Collect(ctx context.Context, folder *runfolder.Folder, watch *Watch) (*Evidence, error) {
	e := &Evidence{Stored: map[int][]string{}, Seen: watch.Seen(), Outcome: watch.Outcome()}
	last := len(e.Seen)
	if committed, err := folder.Committed(ctx); err == nil {
		last = max(last, committed+1)
	}
	for number := range last {
		step, err := readStep(ctx, folder, number)
		if errors.Is(err, blob.ErrNotFound) || unreadable(err) {
			continue // the audit misses it
		}
		if err != nil {
			return nil, err
		}
		e.Steps = append(e.Steps, step)
	}
	if err := e.collectStore(ctx, folder); err != nil {
		return nil, err
	}
	return e, e.collectMarks(folder, watch)
}

// unreadable reports an object whose bytes are not what was written.
func unreadable(err error) bool {
	var corrupt *blob.CorruptError
	var malformed *runfolder.FormatError
	return errors.As(err, &corrupt) || errors.As(err, &malformed)
}

// collectStore lists the trajectories in the store. A group that cannot be read stands as one
// trajectory, unless a step has settled it: what was trained is in that step's ledger.
func (e *Evidence) collectStore(ctx context.Context, folder *runfolder.Folder) error {
	settled := map[int]bool{}
	for _, step := range e.Steps {
		for _, group := range step.Trained {
			settled[group] = true
		}
	}
	groups, err := folder.Groups(ctx)
	if err != nil {
		return err
	}
	for _, number := range groups {
		data, err := folder.Read(ctx, runfolder.SegmentKey(number))
		if err != nil {
			return err
		}
		group, err := record.DecodeSegment(data)
		if err != nil {
			if !settled[number] {
				e.Stored[number] = []string{fmt.Sprintf("g%d, which cannot be read,", number)}
			}
			continue
		}
		for _, trajectory := range group.Trajectories {
			e.Stored[number] = append(e.Stored[number], trajectory.ID)
		}
	}
	return nil
}

// collectMarks reads the journals again and takes from the watch when each entry was first seen.
func (e *Evidence) collectMarks(folder *runfolder.Folder, watch *Watch) error {
	files, err := journal.Files(folder.TurnsPath())
	if err != nil {
		return err
	}
	for _, file := range files {
		marks, err := readMarks(file)
		var damaged *journal.DamagedError
		if err != nil && !errors.As(err, &damaged) {
			return err
		}
		if one := watch.files[file.Path]; one != nil {
			for i := range min(len(marks), len(one.marks)) {
				marks[i].Seen = one.marks[i].Seen
			}
		}
		e.Marks = append(e.Marks, marks...)
	}
	return nil
}
