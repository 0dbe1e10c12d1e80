package lease

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

const (
	// reportsPerSecond is what all agents together may take of the pool: a workflow carries a few dozen
	// updates a second, and requests have to come through as well.
	reportsPerSecond = 10
	// mostPast is how many earlier sessions of an agent are remembered, mostEarly how many events of an agent
	// whose devices are not known.
	mostPast, mostEarly = 4, 16
	// mostFence bounds fencing tokens that others tell, so that a mistake cannot use up what there is of them.
	mostFence = 1 << 40
)

// reported takes an agent's report.
func (p *Pool) reported(r Report) {
	if r.Machine == "" { // it does not know which one it is, so that its name has to do
		r.Machine = r.Host
	}
	if reason := p.refuses(r); reason != "" {
		p.refused = refusal{r.Agent, reason}
		return
	}
	a := p.state.agent(r.Agent)
	if a != nil && a.Session == r.Session && a.Machine == r.Machine && r.Number <= a.Number {
		return // it comes late or twice
	}
	if a == nil || a.Session != r.Session || a.Machine != r.Machine {
		a = p.register(r)
	}
	p.heard(a, r)
	if r.Leaving {
		p.leave(r.Agent)
		return
	}
	if r.Inventory != nil {
		p.inventory(r.Agent, *r.Inventory)
	}
	p.look(r)
}

// refuses says why a report is not taken and what to do about it; "" when it is.
func (p *Pool) refuses(r Report) string {
	a := p.state.agent(r.Agent)
	switch {
	case r.Agent == "" || r.Session == "":
		return "the report names no agent or no session: give the process a name with --name"
	case a == nil:
		return ""
	case a.Machine != r.Machine && !p.unheard(a):
		other := a.Host
		if other == r.Host {
			other = "which is called " + other + " too"
		}
		return fmt.Sprintf("an agent named %s already reports from another machine, %s: start this one with --name and a name of its own", r.Agent, other)
	case a.Machine == r.Machine && slices.Contains(a.Past, r.Session) && !p.unheard(a):
		return fmt.Sprintf("another process of this machine has taken over the name %s: if both are to run, start this one with --name and a name of its own", r.Agent)
	}
	return ""
}

// unheard says that an agent has been silent for as long as it may.
func (p *Pool) unheard(a *AgentState) bool { return a.Silent || p.due(a.Until) }

// register begins a session of an agent. On the machine where it was it takes over what it had, since a
// process that restarts is the same agent; on another machine it begins with nothing.
func (p *Pool) register(r Report) *AgentState {
	s := &p.state
	if a := s.agent(r.Agent); a != nil && a.Machine != r.Machine {
		p.note("agent %s moved from %s to %s", r.Agent, a.Host, r.Host)
		p.remove(r.Agent, fmt.Sprintf("agent %s is on another machine now, %s", r.Agent, r.Host))
	}
	known := s.agent(r.Agent) != nil
	a := s.addAgent(r.Agent)
	if known {
		past := slices.DeleteFunc(a.Past, func(session string) bool { return session == r.Session })
		a.Past = append([]string{a.Session}, past[:min(len(past), mostPast-1)]...)
		p.note("agent %s on %s began anew", r.Agent, r.Host)
	} else {
		p.note("agent %s on %s reports", r.Agent, r.Host)
	}
	a.Session, a.Number = r.Session, 0
	// What the session before told of its devices may no longer be so.
	a.Known, a.Unclaimed = false, nil
	p.changed = true
	return a
}

// heard writes what every report says.
func (p *Pool) heard(a *AgentState, r Report) {
	if a.Silent {
		p.note("agent %s on %s reports again after %s", a.Agent, r.Host, p.now.Sub(a.Heard).Round(time.Second))
		p.changed = true
	}
	if a.Serves != r.Serves || !slices.Equal(a.Computes, r.Computes) || !slices.Equal(a.Lacks, r.Lacks) || a.Host != r.Host {
		p.changed = true
	}
	if a.Host != r.Host && a.Host != "" {
		p.renameHost(a, r.Host)
	}
	a.Host, a.Machine, a.Boot, a.Number = r.Host, r.Machine, r.Boot, r.Number
	a.Serves, a.Computes, a.Lacks, a.Silent = r.Serves, slices.Clone(r.Computes), slices.Clone(r.Lacks), false
	var skew time.Duration
	if !r.Clock.IsZero() {
		skew = r.Clock.Sub(p.now)
	}
	if off, was := p.disagrees(skew), p.disagrees(a.Skew); off && !was {
		p.note("the clock of %s is %s: leases do not depend on it, times in its logs do", r.Host, aheadInWords(skew))
	}
	a.Skew, a.Heard = skew, p.now
	a.Silence = p.mayBeSilent()
	// An agent whose reply got lost counts by the reply before, so a deadline never comes nearer.
	if until := p.now.Add(a.Silence); until.After(a.Until) {
		a.Until = until
	}
	p.heldFences(a, r.Held)
}

// renameHost follows a machine that goes by another name now.
func (p *Pool) renameHost(a *AgentState, host string) {
	p.note("%s goes by the name %s now", a.Host, host)
	for i := range p.state.Devices {
		if d := &p.state.Devices[i]; d.Machine == a.Machine {
			d.Host = host
		}
	}
	for i := range p.state.Leases {
		if l := &p.state.Leases[i]; l.Agent == a.Agent {
			l.Host = host
		}
	}
}

func (p *Pool) disagrees(skew time.Duration) bool { return skew.Abs() > p.policy.MostSkew }

// heldFences takes in the fences that a process works under. In a young pool one that it does not know
// belongs to a lease that an earlier history gave, and whose holder is about to renew it.
func (p *Pool) heldFences(a *AgentState, held []int) {
	var unclaimed []int
	for _, fence := range held {
		if !p.believable(fence) {
			continue
		}
		if fence > p.state.Fence {
			p.state.Fence = fence
		}
		if p.young() && !slices.Contains(p.state.Given, fence) && !slices.ContainsFunc(p.state.Leases, func(l LeaseState) bool { return l.had(fence) }) {
			unclaimed = append(unclaimed, fence)
		}
	}
	if !slices.Equal(unclaimed, a.Unclaimed) {
		p.changed = true
	}
	a.Unclaimed = unclaimed
}

// believable says whether a pool may have given a fence that somebody else tells. What this one has given is,
// however large: else a mistaken report of a fence at the bound would make all that follow unbelievable.
func (p *Pool) believable(fence int) bool { return fence > 0 && fence <= max(mostFence, p.state.Fence) }

// mayBeSilent is how long an agent may be silent: three reports, of which all agents together make at most
// reportsPerSecond, and the policy's time at least.
func (p *Pool) mayBeSilent() time.Duration {
	agents := 0
	for i := range p.state.Agents {
		if !p.state.Agents[i].Silent {
			agents++
		}
	}
	every := max(p.policy.ReportEvery, time.Duration(agents)*time.Second/reportsPerSecond)
	return max(p.policy.SilentAfter, 3*every)
}

// leave takes an agent that says goodbye off the list.
func (p *Pool) leave(name string) {
	p.note("agent %s left", name)
	p.remove(name, fmt.Sprintf("agent %s was stopped", name))
}

// remove ends what depends on an agent, and forgets it.
func (p *Pool) remove(name, reason string) {
	p.revokeOf(name, reason)
	p.unsee(name)
	s := &p.state
	s.Agents = slices.DeleteFunc(s.Agents, func(a AgentState) bool { return a.Agent == name })
	p.changed = true
}

// revokeOf takes the leases of an agent back.
func (p *Pool) revokeOf(agent, reason string) {
	for i := len(p.state.Leases) - 1; i >= 0; i-- {
		if l := &p.state.Leases[i]; l.Agent == agent {
			p.revoke(l.Fence, "%s", reason)
		}
	}
}

// unsee takes an agent off every device.
func (p *Pool) unsee(agent string) {
	for i := range p.state.Devices {
		if d := &p.state.Devices[i]; slices.Contains(d.Agents, agent) {
			p.lose(d, agent)
		}
	}
}

// lose takes an agent off a device that it no longer reports.
func (p *Pool) lose(d *DeviceState, agent string) {
	d.Agents = slices.DeleteFunc(d.Agents, func(name string) bool { return name == agent })
	p.changed = true
	if len(d.Agents) > 0 {
		return
	}
	d.Lost = p.now
	for i := range p.state.Agents {
		if a := &p.state.Agents[i]; slices.Contains(a.Disputed, d.UUID) {
			a.Known = false // it is asked again, and this time the device is its own
		}
	}
}

// silence notices agents that were not heard for as long as they may be silent.
func (p *Pool) silence() {
	for i := range p.state.Agents {
		a := &p.state.Agents[i]
		if a.Silent || !p.due(a.Until) {
			continue
		}
		a.Silent, a.Unclaimed = true, nil
		p.changed = true
		reason := fmt.Sprintf("agent %s has not reported for %s", a.Agent, a.Silence)
		p.note("%s", reason)
		p.revokeOf(a.Agent, reason)
		p.unsee(a.Agent)
		a.Known = false // its devices count again when it tells them again
	}
}

// inventory writes what devices an agent has.
func (p *Pool) inventory(name string, inventory gpu.Inventory) {
	a := p.state.agent(name)
	a.Driver, a.Reason, a.Known = inventory.Driver, inventory.Reason, true
	disputed := a.Disputed
	a.Disputed = nil
	listed := map[string]bool{}
	for _, device := range inventory.Devices {
		if device.UUID == "" || listed[device.UUID] {
			continue
		}
		listed[device.UUID] = true
		if other := p.owner(device.UUID, a.Machine); other != "" {
			a.Disputed = append(a.Disputed, device.UUID)
			if !slices.Contains(disputed, device.UUID) {
				p.note("%s is reported by agent %s on %s and by %s: it stays with %s", device.UUID, name, a.Host, other, other)
			}
			continue
		}
		p.see(a, device)
	}
	for i := range p.state.Devices {
		d := &p.state.Devices[i]
		if slices.Contains(d.Agents, name) && !listed[d.UUID] {
			p.lose(d, name)
		}
	}
	p.dropUnseen(name)
	p.changed = true
}

// dropUnseen takes back leases of an agent on devices that it does not report.
func (p *Pool) dropUnseen(name string) {
	for i := len(p.state.Leases) - 1; i >= 0; i-- {
		l := &p.state.Leases[i]
		if l.Agent != name {
			continue
		}
		for _, uuid := range l.Devices {
			if d := p.state.device(uuid); d == nil || !slices.Contains(d.Agents, name) {
				p.revoke(l.Fence, "%s is no longer in the inventory of %s", uuid, name)
				break
			}
		}
	}
}

// owner is the agent of another machine that reports the device now; "" when there is none.
func (p *Pool) owner(uuid, machine string) string {
	if d := p.state.device(uuid); d != nil && len(d.Agents) > 0 && d.Machine != machine {
		return fmt.Sprintf("agent %s on %s", d.Agents[0], d.Host)
	}
	return ""
}

// see writes that an agent has a device.
func (p *Pool) see(a *AgentState, device gpu.Device) {
	d := p.state.device(device.UUID)
	if d == nil {
		d = p.state.addDevice(device.UUID)
		d.Since = p.now
	}
	if d.Machine != a.Machine && d.Machine != "" {
		p.note("%s is on another machine now: it was on %s and is on %s, with agent %s", device.UUID, d.Host, a.Host, a.Agent)
	}
	d.Device, d.Host, d.Machine, d.Lost = device, a.Host, a.Machine, time.Time{}
	if !slices.Contains(d.Agents, a.Agent) {
		d.Agents = append(d.Agents, a.Agent)
		slices.SortFunc(d.Agents, strings.Compare)
	}
}

// look takes in how the devices are and what happened to them. Events come first: they say more about the
// same fault than the condition that follows from it.
func (p *Pool) look(r Report) {
	a := p.state.agent(r.Agent)
	p.booted(r)
	events := append(slices.Clone(a.Early), r.Events...)
	a.Early = nil
	for _, event := range events {
		switch {
		case p.happened(r, event):
		case a.Known:
			p.note("%s tells of %s on %s, which is not in its inventory", r.Agent, eventInWords(event), event.UUID)
		case len(a.Early) < mostEarly: // until it has told what it has
			a.Early = append(a.Early, event)
		}
	}
	for _, uuid := range sortedKeys(r.Conditions) {
		if d := p.state.device(uuid); d != nil && slices.Contains(d.Agents, r.Agent) {
			p.condition(d, r.Conditions[uuid])
		}
	}
}

// Reply answers the last report of an agent.
func (p *Pool) Reply(agent string) Reply {
	if p.refused.reason != "" && p.refused.agent == agent {
		return Reply{Refused: p.refused.reason, Leases: []Lease{}, Every: p.policy.ReportEvery, SilentAfter: p.policy.SilentAfter}
	}
	a := p.state.agent(agent)
	if a == nil { // it said goodbye
		return Reply{Leases: []Lease{}, Every: p.policy.ReportEvery, SilentAfter: p.policy.SilentAfter}
	}
	reply := Reply{Forgot: !a.Known, Leases: []Lease{}, Every: a.Silence / 3, SilentAfter: a.Silence, Skew: a.Skew, Unclaimed: cloned(a.Unclaimed)}
	for i := range p.state.Devices {
		d := &p.state.Devices[i]
		if h := p.health(d); h != Healthy && slices.Contains(d.Agents, agent) {
			if reply.Health == nil {
				reply.Health = map[string]Health{}
			}
			reply.Health[d.UUID] = h
		}
	}
	for i := range p.state.Leases {
		if l := p.state.Leases[i]; l.Agent == agent {
			l.Devices = slices.Clone(l.Devices)
			reply.Leases = append(reply.Leases, l.Lease)
		}
	}
	return reply
}
