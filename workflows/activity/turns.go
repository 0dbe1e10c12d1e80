package activity

import (
	"context"
	"errors"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout/journal"
)

// coveredGroups knows whose records of turns nothing may ask for again, from the run's manifests: groups that were
// dropped, and groups that a step up to the newest checkpoint trained. A later step may have to be made again, and
// then the records stand for a group that the store has lost. It reads each manifest once.
type coveredGroups struct {
	step    int   // the next manifest to read
	trained []int // by steps after the newest checkpoint
	below   int   // every smaller number is covered
	above   map[int]bool
}

// read takes in the manifests that were committed since.
func (c *coveredGroups) read(ctx context.Context, folder *runfolder.Folder) error {
	if c.above == nil {
		c.above = map[int]bool{}
	}
	for ; ; c.step++ {
		manifest, err := folder.Manifest(ctx, c.step)
		if errors.Is(err, blob.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, group := range manifest.Batch {
			c.trained = append(c.trained, group.Number)
		}
		if manifest.Checkpoint != nil {
			c.cover(c.trained...)
			c.trained = nil
		}
		for _, dropped := range manifest.Dropped {
			c.cover(dropped.Group)
		}
	}
}

func (c *coveredGroups) cover(groups ...int) {
	for _, group := range groups {
		c.above[group] = true
	}
	for ; c.above[c.below]; c.below++ {
		delete(c.above, c.below)
	}
}

func (c *coveredGroups) covers(group int) bool { return group < c.below || c.above[group] }

// prune removes the records of turns that nothing may ask for again: after the last step, all.
func (c *coveredGroups) prune(ctx context.Context, r *run) error {
	if r.config.Checkpoint.KeepTurns {
		return nil
	}
	if err := c.read(ctx, r.folder); err != nil {
		return err
	}
	ended := c.step > r.lastStep()
	_, err := journal.Prune(r.folder.TurnsPath(), func(group int) bool { return ended || c.covers(group) })
	return err
}

// pruneTurns is [coveredGroups.prune] for once.
func pruneTurns(ctx context.Context, r *run) error {
	var groups coveredGroups
	return groups.prune(ctx, r)
}
