package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/turnwise-rl/turnwise/rollout"
)

// Slots bounds how many episodes are in flight at once over all groups.
type Slots chan struct{}

// NewSlots returns n free slots; n must be positive.
func NewSlots(n int) Slots { return make(Slots, n) }

// InFlight is how many slots are taken.
func (s Slots) InFlight() int { return len(s) }

// acquire waits for a slot.
func (s Slots) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s Slots) release() { <-s }

// Members says which episodes of a group are to be played.
type Members struct {
	// Task is the problem all of them attempt.
	Task rollout.Task
	// Group is the group's id; a member's is that, "/" and its index.
	Group string
	// Play are the indices of the members, increasing. Indices beyond the group's size are replacements.
	Play []int
	// Replaced are members that were given up: they are not played, but their attempts belong to the
	// group's ledger.
	Replaced []int
	// Sampling is the same for all but the seed, which derives from Sampling.Seed and the index.
	Sampling Sampling
	// Log returns a member's log; nil when nothing is recorded, and then there is no attempt ledger.
	Log func(member int) Log
}

// FirstMembers are the members of a group of some size without replacements: 0 to size-1.
func FirstMembers(size int) []int {
	members := make([]int, size)
	for i := range members {
		members[i] = i
	}
	return members
}

// Played is what became of the members of a group.
type Played struct {
	// Group holds the trajectories of the members that came to their end, in the order of their indices, and
	// the attempts at all of them.
	Group rollout.Group
	// Failures are the others, in order.
	Failures []MemberFailure
}

// MemberFailure is a member without a trajectory.
type MemberFailure struct {
	Member int
	// Attempt is the number of the attempt that failed; 0 when none was made, because the member was
	// withdrawn while it waited for a slot, and when nothing is recorded.
	Attempt int
	Failure *rollout.Failure
}

// Err joins the failures; nil when every member has a trajectory.
func (p Played) Err() error {
	var all []error
	for _, member := range p.Failures {
		all = append(all, member.Failure)
	}
	return errors.Join(all...)
}

// PlayGroup makes an attempt at each of some members of a group, as slots become free. A member that fails
// leaves the others alone. Trajectories do not depend on which members are played together, in which
// order they end, or on how often each was taken up.
func (p *Player) PlayGroup(ctx context.Context, members Members, slots Slots) Played {
	played := Played{Group: rollout.Group{ID: members.Group, Task: members.Task}}
	trajectories := make([]rollout.Trajectory, len(members.Play))
	failures := make([]*rollout.Failure, len(members.Play))
	logs, before := make([]Log, len(members.Play)), make([]int, len(members.Play))
	var playing sync.WaitGroup
	for i, member := range members.Play {
		if members.Log != nil {
			logs[i] = members.Log(member)
			before[i] = len(logs[i].Past().Attempts)
		}
		playing.Go(func() {
			trajectories[i], failures[i] = p.member(ctx, members, member, logs[i], slots)
		})
	}
	playing.Wait()
	for i, member := range members.Play {
		attempts := attemptsOf(logs[i], members.id(member))
		if failures[i] == nil {
			settle(attempts)
			played.Group.Trajectories = append(played.Group.Trajectories, trajectories[i])
		} else {
			failure := MemberFailure{Member: member, Failure: failures[i]}
			if len(attempts) > before[i] {
				failure.Attempt = len(attempts)
			}
			played.Failures = append(played.Failures, failure)
		}
		played.Group.Attempts = append(played.Group.Attempts, attempts...)
	}
	for _, member := range members.Replaced {
		if members.Log != nil {
			played.Group.Attempts = append(played.Group.Attempts, attemptsOf(members.Log(member), members.id(member))...)
		}
	}
	return played
}

func (m Members) id(member int) string { return fmt.Sprintf("%s/%d", m.Group, member) }

// member plays one member when it has a slot.
func (p *Player) member(ctx context.Context, members Members, member int, log Log, slots Slots) (rollout.Trajectory, *rollout.Failure) {
	if err := slots.acquire(ctx); err != nil {
		return rollout.Trajectory{}, &rollout.Failure{Kind: rollout.FailedCancelled, Err: fmt.Errorf("episode %s waits for a slot: %w", members.id(member), err)}
	}
	defer slots.release()
	own := members.Sampling
	own.Seed = rollout.Seed(members.Sampling.Seed, uint64(member))
	trajectory, err := p.Play(ctx, members.Task, members.id(member), own, log)
	var failure *rollout.Failure
	errors.As(err, &failure) // what Play returns is one, or nil
	return trajectory, failure
}

// attemptsOf is the attempt ledger of a member.
func attemptsOf(log Log, id string) []rollout.Attempt {
	if log == nil {
		return nil
	}
	attempts := slices.Clone(log.Past().Attempts)
	for i := range attempts {
		attempts[i].Trajectory = id
	}
	return attempts
}

// settle gives a trajectory the attempt that ended it: the last one, where none of them did by its turns.
func settle(attempts []rollout.Attempt) {
	ended := func(a rollout.Attempt) bool { return a.Failure == "" }
	if last := len(attempts) - 1; last >= 0 && !slices.ContainsFunc(attempts, ended) {
		attempts[last].Failure, attempts[last].Reason = "", ""
	}
}
