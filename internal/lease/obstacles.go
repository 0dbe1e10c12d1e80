package lease

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// A reason names the first few obstacles, of the first devices that are in the way.
const (
	mostObstacles = 3
	mostDevices   = 16
)

// obstacle is something that stands in the way, on the devices named.
type obstacle struct {
	class   int // what a person can do something about comes first
	text    string
	devices []string
}

// The classes of obstacles.
const (
	isUnfit = iota
	lacksMemory
	lacksSlot
	isKept
	isHeld
)

// obstacles says what a request that the fleet could do waits for: "needs 4 in one NVLink domain; free 3:
// GPU-1f2e quarantined (XID 79)". For one device every host counts, for several the place that lacks least.
func (b *board) obstacles(r Request) string {
	open := b.able(r, false)
	agents, devices := open, allOf(open, r.Kind)
	if r.Count > 1 {
		var a *boardAgent
		a, devices = closest(open, r)
		agents = []*boardAgent{a}
	}
	var blocked []*boardDevice
	for _, d := range devices {
		if !d.fits(r) {
			blocked = append(blocked, d)
		}
	}
	free := len(devices) - len(blocked)
	slices.SortStableFunc(blocked, func(x, y *boardDevice) int { return cmp.Compare(x.inTheWay(r), y.inTheWay(r)) })
	var found []obstacle
	memory, looked := "", min(len(blocked), mostDevices)
	for _, d := range blocked[:looked] {
		o := d.obstacle(r)
		if o.class == lacksMemory {
			need, _ := sizes(r.MemoryBytes, d.MemoryTotalBytes)
			memory = " with " + need
		}
		found = merge(found, o, b.short[d.UUID])
	}
	for _, a := range agents {
		if a.used[roleIndex(r.Role)] >= a.capacity(r.Role) && len(found) <= mostDevices {
			found = merge(found, a.full(r.Role), "")
		}
	}
	if silent := b.able(r, true); len(silent) > 0 {
		found = append(found, obstacle{class: isUnfit, text: isSilent(silent)})
	}
	if r.Count > 1 && memory != "" {
		memory += " each"
	}
	where := ""
	if r.Count > 1 && len(hostsOf(open)) > 1 {
		where = " on host " + agents[0].Host
	}
	return fmt.Sprintf("%s%s; free %d%s: %s", needed(r), memory, free, where, told(found, len(blocked)-looked))
}

// allOf are the devices of a kind that the agents report, each once, by UUID.
func allOf(agents []*boardAgent, kind gpu.Kind) []*boardDevice {
	var out []*boardDevice
	for _, a := range agents {
		for _, group := range a.groups[kind] {
			out = append(out, group...)
		}
	}
	slices.SortFunc(out, func(x, y *boardDevice) int { return cmp.Compare(x.rank, y.rank) })
	return slices.Compact(out)
}

// closest is the agent, and the devices on it, that lacks least for a request of several devices.
func closest(open []*boardAgent, r Request) (*boardAgent, []*boardDevice) {
	var agent *boardAgent
	var devices []*boardDevice
	most := [3]int{-1}
	for _, a := range open {
		groups := [][]*boardDevice{allOf([]*boardAgent{a}, r.Kind)}
		if r.OneDomain {
			groups = a.groups[r.Kind]
		}
		for _, group := range groups {
			slots := min(1, a.capacity(r.Role)-a.used[roleIndex(r.Role)])
			has := [3]int{min(large(group, r), r.Count), fitting(group, r), slots}
			if slices.Compare(has[:], most[:]) > 0 {
				agent, devices, most = a, group, has
			}
		}
	}
	return agent, devices
}

func large(devices []*boardDevice, r Request) int {
	n := 0
	for _, d := range devices {
		if d.MemoryTotalBytes >= r.MemoryBytes && (!r.OneDomain || d.domain != nil) {
			n++
		}
	}
	return n
}

func fitting(devices []*boardDevice, r Request) int {
	n := 0
	for _, d := range devices {
		if d.fits(r) {
			n++
		}
	}
	return n
}

// inTheWay is the class of what keeps a device from a request that it does not fit.
func (d *boardDevice) inTheWay(r Request) int {
	switch {
	case !d.usable() || d.NoTrainers && trains(r):
		return isUnfit
	case d.Kind == gpu.CPU || d.MemoryTotalBytes-d.Condition.ForeignBytes < r.MemoryBytes:
		return lacksMemory
	}
	class := lacksMemory
	for _, l := range d.leases {
		switch {
		case l.Run == r.Run && r.Run != "":
		case l.kept:
			return isKept
		default:
			class = isHeld
		}
	}
	return class
}

// obstacle says what keeps a device from a request that it does not fit.
func (d *boardDevice) obstacle(r Request) obstacle {
	o := obstacle{class: d.inTheWay(r)}
	usable := d.MemoryTotalBytes - d.Condition.ForeignBytes
	switch {
	case len(d.Agents) == 0 && (d.Health == Healthy || d.Health == Degraded):
		o.text = "reported by nobody"
	case !d.usable():
		o.text = string(d.Health) + inBrackets(gist(d.Why))
	case o.class == isUnfit:
		o.text = "closed to trainers" + inBrackets(gist(d.Why))
	case o.class == isKept:
		o.text = "kept for " + listed("", d.holders(r, true), 2)
	case o.class == isHeld:
		o.text = "held by " + listed("", d.holders(r, false), 2)
	case d.MemoryTotalBytes < r.MemoryBytes:
		_, o.text = sizes(r.MemoryBytes, d.MemoryTotalBytes)
		o.text = "with " + o.text
	case usable < r.MemoryBytes:
		foreign, has := sizes(d.Condition.ForeignBytes, d.MemoryTotalBytes)
		o.text = fmt.Sprintf("with %s, of which programs of others use %s", has, foreign)
	default:
		left, has := sizes(max(d.room, 0), d.MemoryTotalBytes)
		o.text = fmt.Sprintf("with %s left of %s beside %s", left, has, listed("", append(d.holders(r, true), d.holders(r, false)...), 2))
	}
	return o
}

// holders names those who have the device, or those whom it is kept for; for a GPU only those of other runs,
// if there are any.
func (d *boardDevice) holders(r Request, kept bool) []string {
	var out, own []string
	for _, l := range d.leases {
		name := l.Holder
		switch {
		case l.kept != kept:
			continue
		case kept:
			name += fmt.Sprintf(" (priority %d)", l.Priority)
		case l.yields:
			name += " (asked to yield)"
		}
		if l.Run == r.Run && d.Kind == gpu.GPU {
			own = append(own, name)
		} else {
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		out = own
	}
	slices.Sort(out)
	return out
}

// full says who has the agent's slots.
func (a *boardAgent) full(role Role) obstacle {
	var holders []string
	for _, l := range a.serving {
		if l.Role == role {
			holders = append(holders, l.Holder)
		}
	}
	slices.Sort(holders)
	slots := "slots"
	if a.capacity(role) == 1 {
		slots = "slot"
	}
	return obstacle{class: lacksSlot, text: fmt.Sprintf("agent %s has %d %s %s, used by %s", a.Agent, a.capacity(role), role, slots, listed("", holders, 2))}
}

// gist is what is worst of why a device is not healthy: what would end it, and what else there is, the device itself
// tells.
func gist(why string) string {
	worst, _, _ := strings.Cut(why, "; ")
	return worst
}

func inBrackets(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

// merge adds an obstacle, together with the devices that have the same one.
func merge(found []obstacle, o obstacle, device string) []obstacle {
	for i := range found {
		if found[i].class == o.class && found[i].text == o.text {
			found[i].devices = append(found[i].devices, device)
			return found
		}
	}
	if device != "" {
		o.devices = []string{device}
	}
	return append(found, o)
}

// told lists obstacles, what somebody can do something about first; more devices are in the way than are named.
func told(found []obstacle, more int) string {
	if len(found) == 0 {
		return "no place for the whole of it"
	}
	slices.SortStableFunc(found, func(x, y obstacle) int { return cmp.Compare(x.class, y.class) })
	var parts []string
	for _, o := range found {
		if len(o.devices) > 0 {
			o.text = listed("", o.devices, 2) + " " + o.text
		}
		parts = append(parts, o.text)
	}
	for _, o := range found[min(len(found), mostObstacles):] {
		more += max(1, len(o.devices))
	}
	parts = parts[:min(len(parts), mostObstacles)]
	if more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(parts, "; ")
}
