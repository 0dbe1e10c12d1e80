package lease

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// mostObstacles is how many kinds of obstacle a reason names.
const mostObstacles = 3

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
	open := filter(b.agents, func(a *boardAgent) bool { return a.open(r) && a.largest(r, r.MemoryBytes) >= r.Count })
	agents, devices := open, allOf(open, r.Kind)
	if r.Count > 1 {
		var a *boardAgent
		a, devices = closest(open, r)
		agents = []*boardAgent{a}
	}
	free, found, memory := 0, []obstacle(nil), ""
	for _, d := range devices {
		o, blocked := d.obstacle(r)
		if !blocked {
			free++
			continue
		}
		if o.class == lacksMemory {
			need, _ := sizes(r.MemoryBytes, d.MemoryTotalBytes)
			memory = " with " + need
		}
		found = merge(found, o, b.short[d.UUID])
	}
	for _, a := range agents {
		if a.used[r.Role] >= a.capacity(r.Role) {
			found = merge(found, a.full(r.Role), "")
		}
	}
	if r.Count > 1 && memory != "" {
		memory += " each"
	}
	where := ""
	if r.Count > 1 && len(hostsOf(open)) > 1 {
		where = " on host " + agents[0].Host
	}
	return fmt.Sprintf("%s%s; free %d%s: %s", needed(r), memory, free, where, told(found))
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
			slots := min(1, a.capacity(r.Role)-a.used[r.Role])
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

// obstacle says why a device does not take a request.
func (d *boardDevice) obstacle(r Request) (obstacle, bool) {
	switch {
	case d.fits(r):
		return obstacle{}, false
	case len(d.Agents) == 0:
		return obstacle{class: isUnfit, text: "is reported by nobody"}, true
	case !d.usable():
		return obstacle{class: isUnfit, text: string(d.Health) + inBrackets(d.Why)}, true
	case d.NoTrainers && trains(r):
		return obstacle{class: isUnfit, text: "takes no trainer while its NVLink is in doubt" + inBrackets(d.Why)}, true
	case d.MemoryTotalBytes < r.MemoryBytes:
		_, has := sizes(r.MemoryBytes, d.MemoryTotalBytes)
		return obstacle{class: lacksMemory, text: "has " + has}, true
	case d.MemoryTotalBytes-d.Condition.ForeignBytes < r.MemoryBytes:
		foreign, has := sizes(d.Condition.ForeignBytes, d.MemoryTotalBytes)
		return obstacle{class: lacksMemory, text: fmt.Sprintf("has %s, of which programs of others use %s", has, foreign)}, true
	}
	var others, savers []string
	for _, l := range d.leases {
		switch mine := d.Kind == gpu.GPU && l.Run == r.Run && r.Run != ""; {
		case mine:
		case l.kept:
			savers = append(savers, fmt.Sprintf("%s (priority %d)", l.Holder, l.Priority))
		case l.yields:
			others = append(others, l.Holder+" (asked to yield)")
		default:
			others = append(others, l.Holder)
		}
	}
	slices.Sort(others)
	slices.Sort(savers)
	switch {
	case d.Kind == gpu.GPU && len(savers) > 0:
		return obstacle{class: isKept, text: "kept for " + listed("", savers, 2)}, true
	case d.Kind == gpu.GPU && len(others) > 0:
		return obstacle{class: isHeld, text: "held by " + listed("", others, 2)}, true
	}
	left, has := sizes(max(d.room, 0), d.MemoryTotalBytes)
	by := ""
	if names := append(savers, others...); len(names) > 0 {
		by = fmt.Sprintf(" beside %s", listed("", names, 2))
	}
	return obstacle{class: lacksMemory, text: fmt.Sprintf("has %s left of %s%s", left, has, by)}, true
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
	return obstacle{class: lacksSlot, text: fmt.Sprintf("agent %s serves %d %s at a time, now %s", a.Agent, a.capacity(role), role, listed("", holders, 2))}
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

// told lists obstacles, what somebody can do something about first.
func told(found []obstacle) string {
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
	rest := ""
	if len(parts) > mostObstacles {
		rest = fmt.Sprintf("; and %d more", len(parts)-mostObstacles)
		parts = parts[:mostObstacles]
	}
	return strings.Join(parts, "; ") + rest
}
