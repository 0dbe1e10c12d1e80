package worker

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/turnwise-rl/turnwise/rollout"
)

// Slots bounds how many episodes are in flight at once over all groups.
type Slots chan struct{}

// NewSlots returns n free slots; n must be positive.
func NewSlots(n int) Slots { return make(Slots, n) }

// acquire waits for a slot.
func (s Slots) acquire(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s Slots) release() { <-s }

// PlayGroup plays size episodes of one task, each with a seed of its own derived from
// sampling.Seed and the member index. The members keep their order whatever finishes first.
func (p *Player) PlayGroup(ctx context.Context, task rollout.Task, id string, size int, sampling Sampling, slots Slots) (rollout.Group, error) {
	group := rollout.Group{ID: id, Task: task, Trajectories: make([]rollout.Trajectory, size)}
	members, ctx := errgroup.WithContext(ctx)
	for member := range size {
		members.Go(func() error {
			if err := slots.acquire(ctx); err != nil {
				return err
			}
			defer slots.release()
			own := sampling
			own.Seed = rollout.Seed(sampling.Seed, uint64(member))
			trajectory, err := p.Play(ctx, task, fmt.Sprintf("%s/%d", id, member), own)
			group.Trajectories[member] = trajectory
			return err
		})
	}
	if err := members.Wait(); err != nil {
		return rollout.Group{}, err
	}
	return group, nil
}
