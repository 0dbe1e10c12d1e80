package lease

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

const (
	// mostFaults is how many faults of a device are remembered, mostText how long a driver's text may be.
	mostFaults, mostText = 5, 200
	// burst is how close by the machine's clock the same fault counts once: drivers repeat themselves, and
	// several agents of a machine hear the same.
	burst = time.Second
	// together is how close a condition and an event about the same fault are.
	together = time.Minute
)

// happened takes an event of an agent's machine; it is false when it is about no device of the agent's.
func (p *Pool) happened(r Report, event gpu.Event) bool {
	uuids := p.meant(r, event)
	for _, uuid := range uuids {
		d := p.state.device(uuid)
		if event.Kind == gpu.Reloaded {
			for i := range d.Verdicts {
				d.Verdicts[i].Reset = true
			}
			continue
		}
		// What the report says of the recovery belongs to the event, which may be about nothing else.
		condition, told := r.Conditions[uuid]
		if !told {
			condition = d.condition()
		}
		if fault, is := gpu.OfEvent(event, condition); is && p.first(d, fault, event) {
			p.faultOn(d, fault, event.Text)
		}
	}
	return len(uuids) > 0
}

// meant are the devices that an event is about: a MIG instance's when it names the device that the instance
// is part of, and all GPUs of the agent when it names none, since a fault that nobody can place may be anywhere.
// Who resets an instance resets the device.
func (p *Pool) meant(r Report, event gpu.Event) []string {
	var uuids []string
	board := event.UUID
	if d := p.state.device(event.UUID); d != nil && event.Kind == gpu.Reloaded && d.Parent != "" {
		board = d.Parent
	}
	for i := range p.state.Devices {
		d := &p.state.Devices[i]
		if !slices.Contains(d.Agents, r.Agent) {
			continue
		}
		if d.UUID == event.UUID || d.Parent != "" && d.Parent == board || event.UUID == "" && d.Kind == gpu.GPU {
			uuids = append(uuids, d.UUID)
		}
	}
	return uuids
}

// first writes down a fault that an event tells of, and says whether it is told for the first time.
func (p *Pool) first(d *DeviceState, fault gpu.Fault, event gpu.Event) bool {
	for i := range d.Faults {
		seen := &d.Faults[i]
		if seen.Name == fault.Name && seen.Xid == fault.Xid && event.At.Sub(seen.Clock).Abs() < burst {
			return false
		}
		// A condition told of it before; the event says more. What was begun again is not begun again.
		if seen.Clock.IsZero() && p.now.Sub(seen.At) < together && sameFault(fault, seen.Name) {
			seen.Xid, seen.Name, seen.Text, seen.Clock = fault.Xid, fault.Name, short(event.Text), event.At
			return fault.Action != gpu.Restart
		}
	}
	p.remember(d, Seen{FaultSeen: FaultSeen{At: p.now, Xid: fault.Xid, Name: fault.Name, Text: short(event.Text)}, Clock: event.At}, fault.Action)
	return true
}

// remember writes a fault down. A quiet time is one without faults that mean something.
func (p *Pool) remember(d *DeviceState, seen Seen, action gpu.Action) {
	d.Faults = append([]Seen{seen}, d.Faults[:min(len(d.Faults), mostFaults-1)]...)
	p.changed = true
	if action == gpu.Ignore {
		return
	}
	for i := range d.Verdicts {
		if v := &d.Verdicts[i]; v.Ends == Quieted {
			v.Until = p.now.Add(p.quiet(len(d.Quarantines)))
		}
	}
}

// sameFault says that what a condition names is what an event tells of.
func sameFault(event gpu.Fault, condition string) bool {
	switch condition {
	case gpu.UncorrectedECC:
		return slices.Contains([]int{48, 63, 64, 94, 95}, event.Xid)
	case gpu.RemapPending:
		return event.Xid == 63
	case gpu.RemapFailed:
		return event.Xid == 64
	case gpu.Gone:
		return event.Xid == 79
	case gpu.RecoveryAction:
		return event.Xid == 154 || event.Name == gpu.RecoveryAction
	}
	return false
}

// condition takes in how a device is.
func (p *Pool) condition(d *DeviceState, now gpu.Condition) {
	before := d.condition()
	if d.Condition != nil && before.Equal(now) {
		return
	}
	now.Throttle = slices.Clone(now.Throttle)
	d.Condition = &now
	p.changed = true
	p.restored(d, before, now)
	for _, fault := range now.Began(before) {
		if p.excused(d, fault) {
			continue
		}
		told := slices.ContainsFunc(d.Faults, func(seen Seen) bool {
			return p.now.Sub(seen.At) < together && !seen.Clock.IsZero() && sameFault(gpu.Fault{Xid: seen.Xid, Name: seen.Name}, fault.Name)
		})
		if !told {
			p.remember(d, Seen{FaultSeen: FaultSeen{At: p.now, Name: fault.Name, Text: short(now.Gone)}}, fault.Action)
		}
		if fault.Action == gpu.Restart && told {
			continue
		}
		p.faultOn(d, fault, "")
	}
	if d.Excused != nil && excuses(*d.Excused, now) == nil {
		d.Excused = nil
	}
	p.throttled(d, len(now.Throttle) > 0)
}

// excused says that a person has overruled a fault that lasts.
func (p *Pool) excused(d *DeviceState, fault gpu.Fault) bool {
	return d.Excused != nil && slices.ContainsFunc(d.Excused.Standing(), func(old gpu.Fault) bool {
		return old.Name == fault.Name && old.Action == fault.Action
	})
}

// excuses are the faults of a condition that a person has overruled.
func excuses(excused, now gpu.Condition) []gpu.Fault {
	return slices.DeleteFunc(now.Standing(), func(fault gpu.Fault) bool {
		return !slices.ContainsFunc(excused.Standing(), func(old gpu.Fault) bool { return old.Name == fault.Name && old.Action == fault.Action })
	})
}

// restored notices from a condition that a device was reset: only that clears what stands, or the count of
// errors.
func (p *Pool) restored(d *DeviceState, before, now gpu.Condition) {
	reset := now.Uncorrected < before.Uncorrected && now.Gone == ""
	standing := now.Standing()
	for i := range d.Verdicts {
		v := &d.Verdicts[i]
		stood := slices.ContainsFunc(before.Standing(), func(old gpu.Fault) bool { return old.Name == v.Cause })
		stands := slices.ContainsFunc(standing, func(fault gpu.Fault) bool { return fault.Name == v.Cause })
		if reset || stood && !stands {
			v.Reset = true
		}
	}
}

// throttled degrades a device while its clocks are held down, and for a while after.
func (p *Pool) throttled(d *DeviceState, is bool) {
	at := slices.IndexFunc(d.Verdicts, func(v Verdict) bool { return v.Cause == throttling })
	switch {
	case is:
		var reasons []string
		for _, reason := range d.condition().Throttle {
			reasons = append(reasons, string(reason))
		}
		p.judge(d, Verdict{Cause: throttling, Health: Degraded, Since: p.now, Ends: Calmed,
			Why: "throttles: " + strings.ReplaceAll(strings.Join(reasons, ", "), "_", " ")})
	case at >= 0 && d.Verdicts[at].Until.IsZero():
		d.Verdicts[at].Until = p.now.Add(p.policy.Calm)
	}
}

// booted notices that a machine was booted.
func (p *Pool) booted(r Report) {
	if r.Boot == "" {
		return
	}
	for i := range p.state.Devices {
		if d := &p.state.Devices[i]; slices.Contains(d.Agents, r.Agent) {
			d.Boot = r.Boot
		}
	}
}

// endVerdicts takes back what has ended.
func (p *Pool) endVerdicts() {
	for i := range p.state.Devices {
		d := &p.state.Devices[i]
		if len(d.Verdicts) == 0 {
			continue
		}
		var ended []string
		d.Verdicts = slices.DeleteFunc(d.Verdicts, func(v Verdict) bool {
			is := p.ended(d, v)
			if is {
				ended = append(ended, v.Why)
			}
			return is
		})
		if len(ended) == 0 {
			continue
		}
		if len(d.Verdicts) == 0 {
			d.Verdicts = nil
		}
		p.changed = true
		p.note("%s on %s is %s; no longer held against it: %s", d.UUID, d.Host, p.health(d), strings.Join(ended, "; "))
	}
}

// ended says that a verdict has come to its end.
func (p *Pool) ended(d *DeviceState, v Verdict) bool {
	if len(d.Agents) == 0 && v.Ends != Calmed {
		return false // nobody knows
	}
	booted := d.Boot != v.Boot && d.Boot != "" && v.Boot != ""
	switch v.Ends {
	case Calmed:
		return p.due(v.Until)
	case Quieted:
		return p.due(v.Until) && p.clean(d)
	case Restored:
		return (v.Reset || booted) && p.clean(d)
	case Booted: // unless it was the driver that wanted it, and does no longer
		return (booted || v.Reset && v.Cause == gpu.RecoveryAction) && p.clean(d)
	}
	return false
}

// clean says that nothing that lasts is wrong with a device, but for what a person has overruled.
func (p *Pool) clean(d *DeviceState) bool {
	return !slices.ContainsFunc(d.condition().Standing(), func(fault gpu.Fault) bool { return !p.excused(d, fault) })
}

// forget drops what nobody has heard of for long.
func (p *Pool) forget() {
	s := &p.state
	for i := len(s.Agents) - 1; i >= 0; i-- {
		if a := &s.Agents[i]; a.Silent && p.due(a.Heard.Add(forgetAfter)) {
			p.note("agent %s is forgotten: it has not reported for %s", a.Agent, forgetAfter)
			p.remove(a.Agent, "")
		}
	}
	before := len(s.Devices)
	s.Devices = slices.DeleteFunc(s.Devices, func(d DeviceState) bool {
		return len(d.Agents) == 0 && len(d.Verdicts) == 0 && p.due(d.Lost.Add(forgetAfter))
	})
	p.changed = p.changed || len(s.Devices) != before
	if !p.young() && s.Given != nil {
		s.Given = nil
	}
	if !p.young() {
		for i := range s.Agents {
			if a := &s.Agents[i]; len(a.Unclaimed) > 0 {
				p.note("nobody has renewed the leases %v that %s works under: its devices are free", a.Unclaimed, a.Agent)
				a.Unclaimed, p.changed = nil, true
			}
		}
	}
}

// short cuts a text that somebody else wrote.
func short(text string) string {
	if len(text) > mostText {
		return strings.ToValidUTF8(text[:mostText], "") + "…"
	}
	return text
}

func eventInWords(event gpu.Event) string {
	if event.Xid != 0 {
		return fmt.Sprintf("XID %d", event.Xid)
	}
	return fmt.Sprintf("%q", event.Kind)
}
