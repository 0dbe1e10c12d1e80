package activity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// findGroup looks a group up in the store; false when it is not there. An object that is no group is set
// aside, so that the group is made again.
func findGroup(ctx context.Context, folder *runfolder.Folder, log *slog.Logger, number int) (workflows.ReadyGroup, bool, error) {
	key := runfolder.SegmentKey(number)
	ref, err := folder.Stat(ctx, key)
	if errors.Is(err, blob.ErrNotFound) {
		return workflows.ReadyGroup{}, false, nil
	}
	if err != nil {
		return workflows.ReadyGroup{}, false, err
	}
	data, err := folder.Get(ctx, ref)
	if err != nil {
		return workflows.ReadyGroup{}, false, err
	}
	group, err := record.DecodeSegment(data)
	if err == nil && group.ID != groupID(number) {
		err = fmt.Errorf("it holds group %s", group.ID)
	}
	if err != nil {
		place, aside := folder.SetAside(ctx, blob.Ref{Key: key})
		if aside != nil {
			return workflows.ReadyGroup{}, false, aside
		}
		log.Warn("a stored group is corrupt and is made again", "group", number, "place", place, "error", err)
		return workflows.ReadyGroup{}, false, nil
	}
	return readyGroup(number, ref, group), true, nil
}

// storeGroup puts a finished group into the store and tells that it is there. When another tenure was first, its
// object stands and nothing is told.
func storeGroup(ctx context.Context, folder *runfolder.Folder, log *slog.Logger, number int, group rollout.Group, stored func()) (workflows.ReadyGroup, error) {
	data, err := record.EncodeSegment(group)
	if err != nil {
		return workflows.ReadyGroup{}, lasting(err)
	}
	for {
		ref, err := folder.Put(ctx, runfolder.SegmentKey(number), data)
		if err == nil {
			stored()
			return readyGroup(number, ref, group), nil
		}
		if !errors.Is(err, blob.ErrExists) {
			return workflows.ReadyGroup{}, err
		}
		if ready, found, err := findGroup(ctx, folder, log, number); found || err != nil {
			return ready, err
		}
	}
}

// readyGroup says what a run has to know of a group in the store.
func readyGroup(number int, ref blob.Ref, group rollout.Group) workflows.ReadyGroup {
	ready := workflows.ReadyGroup{GroupRef: runstate.GroupRef{Number: number, Object: runstate.Ref(ref)}}
	found := false
	for _, trajectory := range group.Trajectories {
		for t, version := range trajectory.Versions {
			if !trajectory.Sampled[t] {
				continue
			}
			if v := int(version); !found {
				ready.Oldest, ready.Newest, found = v, v, true
			} else {
				ready.Oldest, ready.Newest = min(ready.Oldest, v), max(ready.Newest, v)
			}
		}
	}
	return ready
}
