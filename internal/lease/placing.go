package lease

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// tellAgain is how long the reason for which a holder waits may be another one than it was told. Reasons name
// holders, so that every change of a lease would else be told to everybody who waits.
const tellAgain = time.Minute

// place gives requests their places, asks for leases that have to make room, and says of the others why they
// wait.
func (p *Pool) place() {
	if len(p.state.Waiting) == 0 {
		return
	}
	turn := map[string]int{}
	for i, decision := range Decide(p.board()) {
		turn[decision.Waiter.Holder] = i
		at := p.state.waiting(decision.Waiter.Holder)
		if at < 0 {
			continue
		}
		w := &p.state.Waiting[at]
		if decision.Placed {
			p.grant(w.Waiter, decision.Placement)
			continue
		}
		p.ask(w, decision.Placement.Victims)
		p.explain(w, decision.Reason, decision.Never)
	}
	for i := range p.state.Waiting {
		if w := &p.state.Waiting[i]; p.wrong(w.Request) != "" {
			turn[w.Holder] = len(p.state.Waiting) // it has none
			p.explain(w, p.wrong(w.Request), true)
		}
	}
	slices.SortStableFunc(p.state.Waiting, func(a, b WaitingState) int { return cmp.Compare(turn[a.Holder], turn[b.Holder]) })
}

// board is what places are decided from: an agent that has not told yet what it has is not there, the leases
// that are claimed keep their devices, and requests that are not well formed take no part. Nobody's priority
// is high enough to take a claim's devices, since it is no lease that its holder could be asked for.
func (p *Pool) board() Snapshot {
	fleet := p.Snapshot(p.now)
	fleet.Agents = slices.DeleteFunc(fleet.Agents, func(status AgentStatus) bool {
		a := p.state.agent(status.Agent)
		return !a.Known && !a.Silent && !slices.ContainsFunc(fleet.Devices, func(d DeviceStatus) bool { return slices.Contains(d.Agents, a.Agent) })
	})
	for _, claim := range p.state.Claims {
		claim.Lease.Priority = 0
		fleet.Leases = append(fleet.Leases, claim.Lease)
	}
	fleet.Queue = slices.DeleteFunc(fleet.Queue, func(w Waiter) bool { return p.wrong(w.Request) != "" })
	return fleet
}

// ask asks the holders of leases to yield to a request. While some that were asked have not, no others are.
func (p *Pool) ask(w *WaitingState, victims []int) {
	w.Victims = slices.DeleteFunc(w.Victims, func(fence int) bool { return p.state.lease(fence) == nil })
	if len(w.Victims) > 0 {
		return
	}
	for _, fence := range victims {
		if l := p.state.lease(fence); l != nil {
			p.yield(l, "%s of priority %d needs its place", w.Holder, w.Priority)
			w.Victims = append(w.Victims, fence)
		}
	}
}

// explain keeps the reason for which a request waits, and tells its holder: at once what it waits for first, and
// when it turns out to have a chance or none, else as often as tellAgain allows. No wake-up is needed for
// that: the holder is told with the next change, or when it asks again.
func (p *Pool) explain(w *WaitingState, reason string, never bool) {
	if reason == "" {
		reason = fmt.Sprintf("waits for its turn among %d requests", len(p.state.Waiting))
	}
	turned := w.Never != never
	w.Reason, w.Never = reason, never
	if turned || w.Told != reason && p.due(w.ToldAt.Add(tellAgain)) {
		p.tellWaiting(w)
	}
}

// tellWaiting tells a holder why it waits.
func (p *Pool) tellWaiting(w *WaitingState) {
	w.Told, w.ToldAt = w.Reason, p.now
	p.tell(w.Holder, News{Kind: Waiting, Reason: w.Reason, Never: w.Never})
}
