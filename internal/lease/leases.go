package lease

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// mayShare says whether leases of two runs may be on one device: a processor is anybody's, a GPU one run's.
func mayShare(kind gpu.Kind, run, other string) bool {
	return kind == gpu.CPU || run == other && run != ""
}

// next returns a fence that nobody has seen.
func (p *Pool) next(above int) int {
	p.state.Fence = max(p.state.Fence, above) + 1
	p.given(p.state.Fence)
	return p.state.Fence
}

// given remembers, while it matters, that a fence is of this history.
func (p *Pool) given(fence int) {
	if p.young() {
		p.state.Given = append(p.state.Given, fence)
	}
}

// grant gives a request that waits its place.
func (p *Pool) grant(w Waiter, at Placement) {
	fence := p.next(w.Above)
	p.add(LeaseState{Lease: Lease{Request: w.Request, Fence: fence, Agent: at.Agent, Host: at.Host, Devices: slices.Clone(at.Devices),
		Granted: p.now, Expires: p.now.Add(p.policy.TTL)}})
	p.withdraw(w.Holder)
	p.note("lease %d: %s is the %s of %s on %s", fence, w.Holder, w.Role, strings.Join(at.Devices, ", "), at.Agent)
	p.tellGranted(p.state.lease(fence), "")
}

// takeUp makes a lease of one that an earlier history gave.
func (p *Pool) takeUp(lease Lease) {
	lease.Expires = p.now.Add(p.policy.TTL)
	p.add(LeaseState{Lease: lease})
	p.given(lease.Fence)
	for i := range p.state.Agents {
		a := &p.state.Agents[i]
		a.Unclaimed = slices.DeleteFunc(a.Unclaimed, func(fence int) bool { return fence == lease.Fence })
	}
	p.note("lease %d of %s is taken up again", lease.Fence, lease.Holder)
	if lease.Yield != "" {
		p.tell(lease.Holder, News{Kind: Yield, Fence: lease.Fence, Reason: lease.Yield})
	}
}

// add puts a lease into the list, which is by fence.
func (p *Pool) add(l LeaseState) {
	at, _ := slices.BinarySearchFunc(p.state.Leases, l.Fence, func(l LeaseState, fence int) int { return cmp.Compare(l.Fence, fence) })
	p.state.Leases = slices.Insert(p.state.Leases, at, l)
	p.changed = true
}

// tellGranted tells a holder what it has.
func (p *Pool) tellGranted(l *LeaseState, reason string) {
	lease := l.Lease
	lease.Devices = slices.Clone(lease.Devices)
	p.tell(l.Holder, News{Kind: Granted, Lease: &lease, Fence: lease.Fence, Reason: reason})
}

// end takes a lease off the list, and tells nobody.
func (p *Pool) end(fence int) {
	p.state.Leases = slices.DeleteFunc(p.state.Leases, func(l LeaseState) bool { return l.Fence == fence })
	p.changed = true
}

// revoke takes a lease back and tells its holder why. Pointers into Leases are void after it.
func (p *Pool) revoke(fence int, format string, args ...any) {
	l := p.state.lease(fence)
	reason := fmt.Sprintf(format, args...)
	p.note("lease %d of %s is revoked: %s", fence, l.Holder, reason)
	p.tell(l.Holder, News{Kind: Revoked, Fence: fence, Reason: reason})
	p.end(fence)
}

// yield asks a holder for its lease. It may finish what it does until the deadline.
func (p *Pool) yield(l *LeaseState, format string, args ...any) {
	if l.Yield != "" {
		return
	}
	l.Yield, l.Deadline = fmt.Sprintf(format, args...), p.now.Add(p.policy.YieldWithin)
	p.changed = true
	p.note("lease %d of %s is asked back by %s: %s", l.Fence, l.Holder, clock(l.Deadline), l.Yield)
	p.tell(l.Holder, News{Kind: Yield, Fence: l.Fence, Reason: l.Yield})
}

// restart gives a lease a larger fence, which makes its holder begin the work again on the same devices.
// One that is asked for is taken instead: what it wanted to finish has failed. A crash of work on several
// devices is told of each of them, and begins it again once.
func (p *Pool) restart(fence int, reason string) {
	l := p.state.lease(fence)
	if !l.Restarted.IsZero() && p.now.Sub(l.Restarted) < crash {
		return
	}
	if l.Yield != "" {
		p.revoke(fence, "%s", reason)
		return
	}
	was := l.Fence
	l = p.fenceAnew(l, 0)
	l.Expires, l.Restarted = p.now.Add(p.policy.TTL), p.now
	p.note("lease %d of %s begins again as %d: %s", was, l.Holder, l.Fence, reason)
	p.tellGranted(l, reason)
}

// fenceAnew gives a lease a larger fence and the place in the list that goes with it, and returns it there.
func (p *Pool) fenceAnew(l *LeaseState, above int) *LeaseState {
	holder, was := l.Holder, l.Fence
	if l.First == 0 {
		l.First = was
	}
	l.Fence = p.next(above)
	for i := range p.state.Waiting {
		for j, victim := range p.state.Waiting[i].Victims {
			if victim == was {
				p.state.Waiting[i].Victims[j] = l.Fence
			}
		}
	}
	slices.SortStableFunc(p.state.Leases, func(a, b LeaseState) int { return cmp.Compare(a.Fence, b.Fence) })
	p.changed = true
	return p.state.held(holder)
}

// on are the fences of the leases on a device.
func (p *Pool) on(uuid string) []int {
	var fences []int
	for i := range p.state.Leases {
		if slices.Contains(p.state.Leases[i].Devices, uuid) {
			fences = append(fences, p.state.Leases[i].Fence)
		}
	}
	return fences
}

func clock(at time.Time) string { return at.UTC().Format("15:04:05 UTC") }
