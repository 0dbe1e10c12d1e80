package lease

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// Verdict is one thing that is held against a device. A device is as fit as its worst verdict says.
type Verdict struct {
	// Cause names it: of one cause there is one verdict, and it follows the fault's name.
	Cause string `json:"cause"`
	// Health is what it makes of the device, and Why says it for people, without what ends it.
	Health Health    `json:"health"`
	Why    string    `json:"why"`
	Since  time.Time `json:"since"`
	// Ends is what ends it; for a time, at Until, zero while that has not begun to run.
	Ends  Ending    `json:"ends"`
	Until time.Time `json:"until,omitzero"`
	// Boot is the machine's when it began; Reset is true once the device was reset.
	Boot  string `json:"boot,omitempty"`
	Reset bool   `json:"reset,omitempty"`
	// Gently lets a role finish its step before the device is taken.
	Gently bool `json:"gently,omitempty"`
	// Trainers says that only learners and roles of more than one device are concerned.
	Trainers bool `json:"trainers,omitempty"`
}

// Ending is what ends a verdict. All but a person's also want that nothing is wrong with the device any more.
type Ending string

// The endings, each of which takes more than the one before.
const (
	Calmed   Ending = "calm"   // it did not throttle for a while
	Quieted  Ending = "quiet"  // it had no fault for a while
	Restored Ending = "reset"  // it was reset, or its machine booted
	Booted   Ending = "boot"   // its machine was booted
	Cleared  Ending = "person" // a person says so
)

var endings = []Ending{Calmed, Quieted, Restored, Booted, Cleared}

var healths = []Health{Healthy, Degraded, Draining, Quarantined, ResetWanted, Failed, Silent}

func (h Health) rank() int { return slices.Index(healths, h) }

// crash is how long the driver goes on telling of one crash: what comes within it ends the same work.
const crash = 10 * time.Second

// Causes of verdicts that are no faults.
const (
	throttling = "throttle"
	drained    = "drain"
	tooMany    = "too-many-restarts"
)

// faultOn puts a fault on what it concerns.
func (p *Pool) faultOn(d *DeviceState, fault gpu.Fault, text string) {
	for _, concerned := range p.concerned(d, fault) {
		p.act(concerned, d, fault, text)
	}
}

// concerned are the UUIDs of the devices that a fault of one of them concerns.
func (p *Pool) concerned(d *DeviceState, fault gpu.Fault) []string {
	var uuids []string
	for i := range p.state.Devices {
		other := &p.state.Devices[i]
		same := other.Machine == d.Machine && other.Host == d.Host && other.Kind == d.Kind
		domain := fault.Scope == gpu.OfDomain && d.Domain != "" && other.Domain == d.Domain
		board := ofBoard(fault) && d.Parent != "" && other.Parent == d.Parent && !other.told(cause(fault))
		if other.UUID == d.UUID || same && (fault.Scope == gpu.OfHost || domain || board) {
			uuids = append(uuids, other.UUID)
		}
	}
	return uuids
}

// ofBoard says that a fault of a MIG instance is one of the whole device that it is part of: nobody can reset, boot
// or replace an instance. What a condition shows stands in the condition of every instance.
func ofBoard(fault gpu.Fault) bool {
	return fault.Xid != 0 && slices.Contains([]gpu.Action{gpu.Drain, gpu.Reset, gpu.Reboot, gpu.Replace}, fault.Action)
}

// told says that a cause is held against a device already, and that it was not reset since.
func (d *DeviceState) told(cause string) bool {
	return slices.ContainsFunc(d.Verdicts, func(v Verdict) bool { return v.Cause == cause && !v.Reset })
}

// act does what the policy says about a fault of the device from, for one of the devices that it concerns.
func (p *Pool) act(uuid string, from *DeviceState, fault gpu.Fault, text string) {
	d := p.state.device(uuid)
	why := fault.String()
	if text != "" && fault.Xid == 0 && !strings.Contains(why, text) {
		why += ": " + text
	}
	if d.UUID != from.UUID {
		why = from.UUID + " " + why
	}
	why = short(oneLine(why))
	v := Verdict{Cause: cause(fault), Why: why, Since: p.now, Boot: d.Boot, Trainers: fault.Scope == gpu.OfDomain}
	if fault.Name == gpu.Gone { // a device that comes and goes is not to be trusted
		p.counted(d, why)
	}
	switch fault.Action {
	case gpu.Restart:
		p.restartOn(d, why)
		return
	case gpu.Quarantine:
		p.quarantine(d, v)
		return
	case gpu.Drain:
		v.Health, v.Ends, v.Gently = ResetWanted, Restored, true
	case gpu.Reset:
		v.Health, v.Ends = ResetWanted, Restored
	case gpu.Reboot:
		v.Health, v.Ends = ResetWanted, Booted
	case gpu.Replace:
		v.Health, v.Ends, v.Gently = Failed, Cleared, true
	default:
		return
	}
	p.judge(d, v)
}

// cause is the one that stands as long as the device's condition shows it, when an event tells of the same.
func cause(fault gpu.Fault) string {
	switch fault.Xid {
	case 63:
		return gpu.RemapPending
	case 64:
		return gpu.RemapFailed
	case 154:
		return gpu.RecoveryAction
	}
	return fault.Name
}

// judge holds a verdict against a device. A fault that comes again begins its verdict anew; what takes more
// to end stays.
func (p *Pool) judge(d *DeviceState, v Verdict) {
	p.changed = true
	at := slices.IndexFunc(d.Verdicts, func(old Verdict) bool { return old.Cause == v.Cause })
	if at < 0 {
		d.Verdicts = append(d.Verdicts, v)
		p.note("%s on %s is %s: %s; %s", d.UUID, d.Host, p.health(d), v.Why, p.ending(d, v))
		return
	}
	old := d.Verdicts[at]
	v.Since = old.Since
	switch v.Cause {
	case gpu.RecoveryAction: // what the driver said last counts
	case gpu.RemapPending, gpu.RemapFailed: // event and condition say the same, and the event says it first
		v.Why = old.Why
	default:
		if slices.Index(endings, old.Ends) > slices.Index(endings, v.Ends) {
			v.Ends, v.Until, v.Health, v.Why = old.Ends, old.Until, old.Health, old.Why
		}
		v.Gently = v.Gently && old.Gently
		v.Trainers = v.Trainers && old.Trainers
	}
	d.Verdicts[at] = v
}

// quarantine takes a device away for a quiet time, which doubles with every quarantine within a day. A fault
// during it begins the time again.
func (p *Pool) quarantine(d *DeviceState, v Verdict) {
	v.Health, v.Ends = Quarantined, Quieted
	if v.Trainers {
		v.Health = Degraded // others may stay
	}
	again := slices.ContainsFunc(d.Verdicts, func(old Verdict) bool { return old.Cause == v.Cause && old.Ends == Quieted })
	if !again {
		d.Quarantines = append(within(d.Quarantines, p.now, day), p.now)
	}
	v.Until = p.now.Add(p.quiet(len(d.Quarantines)))
	p.judge(d, v)
}

// quiet is how long the quarantine lasts that is the nth within a day.
func (p *Pool) quiet(nth int) time.Duration {
	quiet := p.policy.Quiet
	for range nth - 1 {
		if quiet >= p.policy.QuietMost {
			break
		}
		quiet *= 2
	}
	return min(quiet, p.policy.QuietMost)
}

// restartOn begins the work on a device again, or quarantines the device when that happens too often.
func (p *Pool) restartOn(d *DeviceState, why string) {
	if !p.counted(d, why) {
		return
	}
	for _, fence := range p.on(d.UUID) {
		if p.unfit(d, p.state.lease(fence).Request) == "" { // else it ends anyway
			p.restart(fence, d.UUID+" "+why)
		}
	}
}

// counted counts a fault that ends a role's work, and quarantines the device when there are too many within
// an hour. It is false for what is told of the same crash again.
func (p *Pool) counted(d *DeviceState, why string) bool {
	if last := len(d.Restarts) - 1; last >= 0 && p.now.Sub(d.Restarts[last]) < crash {
		return false
	}
	d.Restarts = append(within(d.Restarts, p.now, hour), p.now)
	if over := len(d.Restarts) - p.policy.Restarts - 1; over > 0 {
		d.Restarts = d.Restarts[over:]
	}
	if len(d.Restarts) > p.policy.Restarts {
		p.quarantine(d, Verdict{Cause: tooMany, Since: p.now, Boot: d.Boot,
			Why: fmt.Sprintf("%s, the %s fault within an hour that ends a role's work", why, ordinal(len(d.Restarts)))})
	}
	return true
}

// within are the times that are less than span ago.
func within(times []time.Time, now time.Time, span time.Duration) []time.Time {
	return slices.DeleteFunc(times, func(at time.Time) bool { return now.Sub(at) >= span })
}

// health is how fit a device is now.
func (p *Pool) health(d *DeviceState) Health {
	if len(d.Agents) == 0 {
		return Silent
	}
	worst := Healthy
	for _, v := range d.Verdicts {
		if h := p.healthOf(d, v); h.rank() > worst.rank() {
			worst = h
		}
	}
	return worst
}

// healthOf is what a verdict makes of a device: while a role may finish its step, the device drains.
func (p *Pool) healthOf(d *DeviceState, v Verdict) Health {
	if v.Gently && len(p.on(d.UUID)) > 0 {
		return Draining
	}
	return v.Health
}

// noTrainers says that the device's NVLink domain is under quarantine.
func (d *DeviceState) noTrainers() bool {
	return slices.ContainsFunc(d.Verdicts, func(v Verdict) bool { return v.Trainers })
}

// unfit says why a device may not be under a lease for a request; "" when it may.
func (p *Pool) unfit(d *DeviceState, r Request) string {
	for _, v := range d.Verdicts {
		switch h := p.healthOf(d, v); {
		case h.rank() > Draining.rank(), v.Trainers && trains(r):
			return fmt.Sprintf("%s: %s", h, v.Why)
		}
	}
	return ""
}

// enforce takes leases off devices that are not fit for them, or asks for them when the role may finish its
// step, and notes how the devices' health has changed.
func (p *Pool) enforce() {
	for i := range p.state.Devices {
		d := &p.state.Devices[i]
		if len(d.Verdicts) > 0 {
			p.enforceOn(d)
		}
	}
	// A lease that was taken off one device was on others as well, which may have drained for it.
	for i := range p.state.Devices {
		d := &p.state.Devices[i]
		if h := p.health(d); h != d.Health {
			d.Health, d.Since = h, p.now
			p.changed = true
		}
	}
}

func (p *Pool) enforceOn(d *DeviceState) {
	for _, fence := range p.on(d.UUID) {
		l := p.state.lease(fence)
		if unfit := p.unfit(d, l.Request); unfit != "" {
			p.revoke(fence, "%s is %s", d.UUID, unfit)
			continue
		}
		for _, v := range d.Verdicts {
			if v.Gently && v.Cause != drained {
				p.yield(l, "%s %s", d.UUID, v.Why)
			}
		}
	}
}

// drain takes a device out because a person says so.
func (p *Pool) drain(e DrainAsked) {
	if p.Check(e) != nil {
		return
	}
	why := "drained"
	if e.By != "" {
		why = short(oneLine(why + " by " + e.By))
	}
	p.judge(p.state.device(e.UUID), Verdict{Cause: drained, Health: Draining, Why: why, Since: p.now, Ends: Cleared})
}

// undrain takes back whatever is held against a device. What is wrong with it and stays so is no verdict any
// more.
func (p *Pool) undrain(e UndrainAsked) {
	if p.Check(e) != nil {
		return
	}
	d := p.state.device(e.UUID)
	over := "nothing"
	if why := p.why(d); why != "" {
		over = why
	}
	by := ""
	if e.By != "" {
		by = " by " + short(oneLine(e.By))
	}
	d.Verdicts, d.Excused, d.Restarts, d.Quarantines = nil, nil, nil, nil
	if excused := d.condition(); len(excused.Standing()) > 0 {
		d.Excused = &excused
	}
	p.changed = true
	p.note("%s on %s is given back%s; this overrides: %s", d.UUID, d.Host, by, over)
}
