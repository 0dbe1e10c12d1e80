package lease

import (
	"fmt"
	"slices"
)

// requested takes a request, or answers one that is repeated.
func (p *Pool) requested(r Request) {
	if r.Holder == "" {
		p.note("a request without a holder is dropped")
		return
	}
	p.dropClaim(r.Holder)
	if l := p.state.held(r.Holder); l != nil {
		if sameNeed(l.Request, r) {
			p.answerAgain(l, r.Above)
			return
		}
		p.note("%s asks for something else than it has: lease %d ends", r.Holder, l.Fence)
		p.end(l.Fence)
	}
	at := p.state.waiting(r.Holder)
	if at >= 0 && sameNeed(p.state.Waiting[at].Request, r) {
		w := &p.state.Waiting[at]
		if w.Above = max(w.Above, r.Above); w.Reason != "" {
			p.tellWaiting(w)
		}
		return
	}
	if at >= 0 {
		p.state.Waiting = slices.Delete(p.state.Waiting, at, at+1)
	}
	p.state.Waiting = append(p.state.Waiting, WaitingState{Waiter: Waiter{Request: r, Since: p.now}})
	p.changed = true
}

// answerAgain tells a holder once more what it has. When it has seen a larger fence meanwhile, its lease gets
// one that is larger still.
func (p *Pool) answerAgain(l *LeaseState, above int) {
	if above >= l.Fence {
		l = p.fenceAnew(l, above)
	}
	p.tellGranted(l, "")
	if l.Yield != "" {
		p.tell(l.Holder, News{Kind: Yield, Fence: l.Fence, Reason: l.Yield})
	}
}

// sameNeed says that two requests of a holder ask for the same.
func sameNeed(a, b Request) bool {
	a.Above, b.Above = 0, 0
	return a == b
}

// wrong says why a request can never be placed as it is put; "" when it is well formed.
func (p *Pool) wrong(r Request) string {
	switch {
	case r.Count < 1:
		return fmt.Sprintf("asks for %d devices: ask for 1 at least", r.Count)
	case r.Kind == "":
		return "names no kind of device: ask for cpu or gpu"
	case r.Role != Learner && r.Role != Rollout && r.Role != Evaluate:
		return fmt.Sprintf("has the role %q: ask as learner, rollout or evaluate", r.Role)
	case r.MemoryBytes < 0:
		return fmt.Sprintf("needs %d bytes of memory: ask for 0 at least", r.MemoryBytes)
	case r.Priority < 1 || r.Priority > 5:
		return fmt.Sprintf("has priority %d: ask with 1, which comes first, to 5", r.Priority)
	case r.Queue == "":
		return "names no queue: ask with a queue"
	case r.Above != 0 && !p.believable(r.Above):
		return fmt.Sprintf("has seen the fencing token %d, which no pool has given: repair the run's folder", r.Above)
	}
	return ""
}

// renewed keeps a lease, or takes one up that an earlier history of the pool gave.
func (p *Pool) renewed(lease Lease) {
	if l := p.state.held(lease.Holder); l != nil {
		switch {
		case !l.had(lease.Fence):
			p.tell(lease.Holder, News{Kind: Revoked, Fence: lease.Fence, Reason: fmt.Sprintf("lease %d has ended; %s has lease %d", lease.Fence, lease.Holder, l.Fence)})
		default:
			l.Expires = p.now.Add(p.policy.TTL)
			if lease.Fence != l.Fence { // the news of the restart is late or lost
				p.tellGranted(l, "")
			}
		}
		return
	}
	p.adopt(lease)
}

// released takes a lease back from its holder, or a request. A holder that names a fence which its lease had
// before a restart means that lease.
func (p *Pool) released(e Released) {
	if l := p.state.held(e.Holder); l != nil && (e.Fence == 0 || l.had(e.Fence)) {
		p.note("%s gave lease %d back", e.Holder, l.Fence)
		p.end(l.Fence)
	}
	if e.Fence == 0 {
		p.withdraw(e.Holder)
	}
	p.state.Claims = slices.DeleteFunc(p.state.Claims, func(c Claim) bool {
		return c.Lease.Holder == e.Holder && (e.Fence == 0 || e.Fence == c.Lease.Fence)
	})
}

func (p *Pool) withdraw(holder string) {
	if at := p.state.waiting(holder); at >= 0 {
		p.state.Waiting = slices.Delete(p.state.Waiting, at, at+1)
		p.changed = true
	}
}

// holderGone ends whatever a holder has, and tells nobody.
func (p *Pool) holderGone(holder string) {
	if l := p.state.held(holder); l != nil {
		p.note("%s is gone: lease %d ends", holder, l.Fence)
		p.end(l.Fence)
	}
	p.withdraw(holder)
	p.dropClaim(holder)
}

func (p *Pool) dropClaim(holder string) {
	p.state.Claims = slices.DeleteFunc(p.state.Claims, func(c Claim) bool { return c.Lease.Holder == holder })
}

// adopt takes up a lease that the pool does not know: at once when its devices are known, else when they
// are reported, and until then keeps them for it.
func (p *Pool) adopt(lease Lease) {
	if reason := p.wrong(lease.Request); reason != "" || !p.believable(lease.Fence) || lease.Holder == "" {
		p.note("a lease %d of %q is renewed that cannot be: it %s", lease.Fence, lease.Holder, reason)
		return
	}
	lease.Devices = slices.Clone(lease.Devices)
	p.dropClaim(lease.Holder)
	known := lease.Fence <= p.state.Fence
	p.state.Fence = max(p.state.Fence, lease.Fence)
	if slices.Contains(p.state.Given, lease.Fence) || known && !p.young() {
		p.tell(lease.Holder, News{Kind: Revoked, Fence: lease.Fence, Reason: fmt.Sprintf("lease %d has ended", lease.Fence)})
		return
	}
	p.withdraw(lease.Holder)
	p.state.Claims = append(p.state.Claims, Claim{Lease: lease, Until: p.now.Add(p.policy.SilentAfter)})
	p.changed = true
}

// takeUpClaims makes leases of the claims whose devices are known, and refuses those that have to be.
func (p *Pool) takeUpClaims() {
	var left []Claim
	for _, claim := range p.state.Claims {
		reason, wait := p.obstacle(claim.Lease)
		switch {
		case reason == "":
			p.takeUp(claim.Lease)
		case wait && !p.due(claim.Until):
			left = append(left, claim)
		default:
			p.changed = true
			p.tell(claim.Lease.Holder, News{Kind: Revoked, Fence: claim.Lease.Fence, Reason: "the device pool's history was lost, and " + reason})
		}
	}
	p.state.Claims = left
}

// obstacle says why a renewed lease cannot be taken up; "" when it can. wait is true when its devices may yet
// be reported.
func (p *Pool) obstacle(lease Lease) (reason string, wait bool) {
	a := p.state.agent(lease.Agent)
	if a == nil || a.Silent || !a.Known {
		return fmt.Sprintf("agent %s has not reported", lease.Agent), true
	}
	if a.Host != lease.Host {
		return fmt.Sprintf("agent %s is on %s, not on %s", lease.Agent, a.Host, lease.Host), false
	}
	if used, slots := p.serving(lease.Agent, lease.Role), a.slots(lease.Role); used >= slots {
		return fmt.Sprintf("agent %s serves %s only %d at a time", lease.Agent, lease.Role, slots), false
	}
	if len(lease.Devices) != lease.Count {
		return fmt.Sprintf("it has %d devices where %d were asked for", len(lease.Devices), lease.Count), false
	}
	for i, uuid := range lease.Devices {
		d := p.state.device(uuid)
		switch {
		case d == nil || !slices.Contains(d.Agents, lease.Agent):
			return fmt.Sprintf("%s is not in the inventory of %s", uuid, lease.Agent), false
		case slices.Contains(lease.Devices[:i], uuid):
			return fmt.Sprintf("it names %s twice", uuid), false
		case d.Kind != lease.Kind:
			return fmt.Sprintf("%s is no %s", uuid, lease.Kind), false
		}
		if unfit := p.unfit(d, lease.Request); unfit != "" {
			return fmt.Sprintf("%s is %s", uuid, unfit), false
		}
		if taken := p.taken(d, lease.Request); taken != "" {
			return taken, false
		}
	}
	return "", false
}

// serving is how many leases of a role an agent has.
func (p *Pool) serving(agent string, role Role) int {
	n := 0
	for i := range p.state.Leases {
		if l := &p.state.Leases[i]; l.Agent == agent && l.Role == role {
			n++
		}
	}
	return n
}

// slots is how many leases of a role the agent serves at once.
func (a *AgentState) slots(role Role) int {
	return map[Role]int{Learner: a.Serves.Learner, Rollout: a.Serves.Rollout, Evaluate: a.Serves.Evaluate}[role]
}

// taken says why a device has no room for a request beside the leases on it; "" when it has.
func (p *Pool) taken(d *DeviceState, r Request) string {
	claimed := int64(0)
	for i := range p.state.Leases {
		l := &p.state.Leases[i]
		if !slices.Contains(l.Devices, d.UUID) {
			continue
		}
		if !mayShare(d.Kind, l.Run, r.Run) {
			return fmt.Sprintf("%s is leased to %s since", d.UUID, l.Holder)
		}
		claimed += l.MemoryBytes
	}
	if free := d.MemoryTotalBytes - d.condition().ForeignBytes; r.MemoryBytes > free-claimed {
		return fmt.Sprintf("%s has not enough memory: %d bytes are wanted, %d are free", d.UUID, r.MemoryBytes, free-claimed)
	}
	return ""
}
