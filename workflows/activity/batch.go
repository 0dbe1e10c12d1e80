package activity

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// brokenGroups says that groups of a batch are not in the store as the batch names them.
type brokenGroups struct {
	refs []runstate.GroupRef
	errs []error
}

func (e *brokenGroups) Error() string   { return errors.Join(e.errs...).Error() }
func (e *brokenGroups) Unwrap() []error { return e.errs }

func (e *brokenGroups) numbers() []int {
	numbers := make([]int, len(e.refs))
	for i, ref := range e.refs {
		numbers[i] = ref.Number
	}
	return numbers
}

// keys are those of the broken groups, for people.
func (e *brokenGroups) keys() string {
	keys := make([]string, len(e.refs))
	for i, ref := range e.refs {
		keys[i] = ref.Object.Key
	}
	return strings.Join(keys, ", ")
}

// remedy is what a person can do about groups that a committed step trained.
func (e *brokenGroups) remedy(step int) string {
	return fmt.Sprintf("restore %s from a copy, or go on from the step before: turnwise fork RUN --step %d", e.keys(), step-1)
}

// setAside frees the keys of the broken groups, so that they can be made again.
func (e *brokenGroups) setAside(ctx context.Context, folder *runfolder.Folder) error {
	for _, ref := range e.refs {
		if _, err := folder.SetAside(ctx, blob.Ref(ref.Object)); err != nil {
			return err
		}
	}
	return nil
}

// readGroups reads the batch of a step in order and checks what it says it is. Objects that are gone or hold other
// bytes are a [*brokenGroups] that names them all, except those that were rebuilt.
func (s *session) readGroups(ctx context.Context, o order) ([]rollout.Group, error) {
	groups := make([]rollout.Group, len(o.batch))
	var broken brokenGroups
	for i, ref := range o.batch {
		if group, rebuilt := o.rebuilt[ref.Number]; rebuilt {
			groups[i] = group
			continue
		}
		data, err := s.run.folder.Get(ctx, blob.Ref(ref.Object))
		var corrupt *blob.CorruptError
		if errors.As(err, &corrupt) || errors.Is(err, blob.ErrNotFound) {
			broken.refs, broken.errs = append(broken.refs, ref), append(broken.errs, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		group, err := record.DecodeSegment(data)
		if err != nil {
			return nil, lasting(fmt.Errorf("%s: %w", ref.Object.Key, err))
		}
		if group.ID != groupID(ref.Number) {
			return nil, lasting(fmt.Errorf("%s holds group %s, expected %s", ref.Object.Key, group.ID, groupID(ref.Number)))
		}
		groups[i] = group
	}
	if broken.refs != nil {
		return nil, &broken
	}
	return groups, nil
}

// checkVersions refuses tokens that a step which begins with version base must not train: those more than staleness
// versions older, and those of versions that are not committed yet. Filling the batch leaves such groups out, so this
// is the last defense.
func checkVersions(groups []rollout.Group, base rollout.Version, staleness int) error {
	for _, group := range groups {
		for _, t := range group.Trajectories {
			for i, version := range t.Versions {
				switch {
				case !t.Sampled[i]:
				case version > base:
					return fmt.Errorf("token %d of trajectory %s was sampled by version %d, and the step begins with version %d", i, t.ID, version, base)
				case int(base-version) > staleness:
					return fmt.Errorf("token %d of trajectory %s was sampled by version %d, %d versions before the one that the step begins with: training.staleness allows %d",
						i, t.ID, version, base-version, staleness)
				}
			}
		}
	}
	return nil
}
