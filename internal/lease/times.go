package lease

import (
	"time"
)

const (
	// hour is what faults that restart a role are counted over, day what quarantines are.
	hour, day = time.Hour, 24 * time.Hour
	// forgetAfter is how long an agent, or a device with nothing held against it, is remembered when nobody
	// hears of it.
	forgetAfter = 24 * time.Hour
)

// Wake is when the pool needs a [Tick] at the latest; the zero time is never.
func (p *Pool) Wake(now time.Time) time.Time {
	if wake := p.state.Wake; wake.IsZero() || wake.After(now) {
		return wake
	}
	return now
}

// deadlines calls each with every deadline there is; each may move it.
func (p *Pool) deadlines(each func(*time.Time)) {
	s := &p.state
	for i := range s.Agents {
		if a := &s.Agents[i]; !a.Silent {
			each(&a.Until)
		}
	}
	for i := range s.Leases {
		each(&s.Leases[i].Expires)
		each(&s.Leases[i].Deadline)
	}
	for i := range s.Devices {
		for j := range s.Devices[i].Verdicts {
			each(&s.Devices[i].Verdicts[j].Until)
		}
	}
	for i := range s.Claims {
		each(&s.Claims[i].Until)
	}
}

// postpone moves every deadline.
func (p *Pool) postpone(by time.Duration) {
	p.deadlines(func(at *time.Time) {
		if !at.IsZero() {
			*at = at.Add(by)
		}
	})
	p.state.Born = p.state.Born.Add(by)
}

// wake is the first deadline after now, or when something is forgotten.
func (p *Pool) wake() time.Time {
	var first time.Time
	sooner := func(at time.Time) {
		if at.After(p.now) && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	p.deadlines(func(at *time.Time) { sooner(*at) })
	s := &p.state
	for i := range s.Agents {
		if a := &s.Agents[i]; a.Silent {
			sooner(a.Heard.Add(forgetAfter))
		} else if len(a.Unclaimed) > 0 {
			sooner(p.grown())
		}
	}
	for i := range s.Devices {
		if d := &s.Devices[i]; len(d.Agents) == 0 && len(d.Verdicts) == 0 {
			sooner(d.Lost.Add(forgetAfter))
		}
	}
	return first
}

// grown is when the pool is no longer young: by then every holder of a lease that an earlier history gave has
// renewed it.
func (p *Pool) grown() time.Time { return p.state.Born.Add(p.policy.TTL/2 + p.policy.SilentAfter) }

func (p *Pool) young() bool { return p.now.Before(p.grown()) }

// due says that a deadline is there and has come.
func (p *Pool) due(at time.Time) bool { return !at.IsZero() && !p.now.Before(at) }

// pass does what time brings.
func (p *Pool) pass() {
	p.silence()
	for i := len(p.state.Leases) - 1; i >= 0; i-- {
		l := &p.state.Leases[i]
		switch {
		case p.due(l.Expires):
			p.revoke(l.Fence, "nobody has renewed it for %s", p.policy.TTL)
		case p.due(l.Deadline):
			p.revoke(l.Fence, "it was not given back within %s: %s", p.policy.YieldWithin, l.Yield)
		}
	}
	p.endVerdicts()
	p.forget()
}
