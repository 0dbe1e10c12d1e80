package activity

import (
	"time"

	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// What a loop tells its roster: the outcome of every order, and the versions that its episodes began with.

// opened says that a group is not in the store. first is the oldest version among its recorded turns.
func (r *roster) opened(number, first int) {
	g := r.held[number]
	g.busy--
	if !g.leaving {
		g.stage = atPlay
		g.began(first)
	}
}

// delayed says that looking a group up takes longer than it should.
func (r *roster) delayed(number int) { r.held[number].delayed = true }

// found says that a group is in the store.
func (r *roster) found(number int, ready workflows.ReadyGroup) {
	g := r.held[number]
	g.busy--
	if !g.leaving {
		g.stage, g.told, g.saidAt = reported, report{ready: &ready}, time.Time{}
	}
}

// spoiled says that what was played cannot be stored, ever.
func (r *roster) spoiled(number int, reason string) {
	g := r.held[number]
	g.busy--
	g.stage, g.saidAt = reported, time.Time{}
	g.told = report{dropped: &workflows.DroppedGroup{Number: number, Reason: reason}}
}

// gaveUp says that looking a group up or storing it was broken off, because the group is not wanted any
// more or the loop leaves.
func (r *roster) gaveUp(number int) {
	g := r.held[number]
	g.busy--
	g.leaving = true
}

// began says which version samples a turn of a group, or has sampled it.
func (r *roster) began(number, version int) {
	if g := r.held[number]; g != nil {
		g.began(version)
	}
}

func (g *heldGroup) began(version int) {
	if version != unknown && (g.first == unknown || version < g.first) {
		g.first = version
	}
}

// finished says that a member has its trajectory.
func (r *roster) finished(at place) { r.landed(at, seatFinished) }

// withdrawn says that an episode was stopped where it was; it may go on from there.
func (r *roster) withdrawn(at place) { r.landed(at, seatWaiting) }

// failed says that an attempt at a member failed.
func (r *roster) failed(at place, failure runstate.MemberFailure) {
	r.landed(at, seatFailed)
	r.held[at.group].failed[at.member] = failure
}

func (r *roster) landed(at place, to seat) {
	r.inFlight--
	g := r.held[at.group]
	g.busy--
	g.seats[at.member] = to
}

// loaded says that episodes are sampled with a version from now on; unknown when loading failed.
func (r *roster) loaded(version int) {
	r.loading = false
	if version != unknown {
		r.version = version
	}
}

// idle says that nothing is under way.
func (r *roster) idle() bool {
	for _, g := range r.held {
		if g.busy > 0 {
			return false
		}
	}
	return !r.loading
}
