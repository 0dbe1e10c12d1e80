package lease

import (
	"cmp"
	"slices"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// The oracle says by trying everything what placement has to find. It reads the snapshot alone.

// everyPlace lists all places that are free for a request.
func everyPlace(fleet Snapshot, r Request) []Placement {
	var out []Placement
	for _, a := range fleet.Agents {
		slots := map[Role]int{Learner: a.Serves.Learner, Rollout: a.Serves.Rollout, Evaluate: a.Serves.Evaluate}[r.Role]
		for _, l := range fleet.Leases {
			if l.Agent == a.Agent && l.Role == r.Role {
				slots--
			}
		}
		blind := map[string]bool{}
		for _, l := range a.Lacks {
			if l.Kind == r.Kind && (!l.Fast || r.Fast) {
				blind[l.UUID] = true
			}
		}
		if a.Silent || slots <= 0 || !slices.Contains(a.Computes, r.Kind) || blind[""] {
			continue
		}
		var mine []DeviceStatus
		for _, d := range fleet.Devices {
			if d.Host == a.Host && slices.Contains(d.Agents, a.Agent) && !blind[d.UUID] && takes(fleet, d, r) {
				mine = append(mine, d)
			}
		}
		for set := range 1 << len(mine) {
			var chosen []DeviceStatus
			for i, d := range mine {
				if set>>i&1 == 1 {
					chosen = append(chosen, d)
				}
			}
			if len(chosen) == r.Count && inOneDomain(chosen, r) && withinQuota(fleet, chosen, r) {
				out = append(out, Placement{Agent: a.Agent, Host: a.Host, Devices: namesOf(chosen)})
			}
		}
	}
	return out
}

func namesOf(devices []DeviceStatus) []string {
	var out []string
	for _, d := range devices {
		out = append(out, d.UUID)
	}
	slices.Sort(out)
	return out
}

func on(fleet Snapshot, uuid string) []Lease {
	var out []Lease
	for _, l := range fleet.Leases {
		if slices.Contains(l.Devices, uuid) {
			out = append(out, l)
		}
	}
	return out
}

func fit(d DeviceStatus) bool { return d.Health == Healthy || d.Health == Degraded }

func takes(fleet Snapshot, d DeviceStatus, r Request) bool {
	left := d.MemoryTotalBytes - d.Condition.ForeignBytes
	for _, l := range on(fleet, d.UUID) {
		left -= l.MemoryBytes
		if d.Kind == gpu.GPU && l.Run != r.Run {
			return false
		}
	}
	return d.Kind == r.Kind && fit(d) && left >= r.MemoryBytes && !(d.NoTrainers && (r.Role == Learner || r.Count > 1))
}

func inOneDomain(chosen []DeviceStatus, r Request) bool {
	if !r.OneDomain || r.Count == 1 {
		return true
	}
	for _, d := range chosen {
		if d.Domain == "" || d.Domain != chosen[0].Domain {
			return false
		}
	}
	return true
}

// withinQuota says that a queue holds no more devices than its quota with a placement.
func withinQuota(fleet Snapshot, chosen []DeviceStatus, r Request) bool {
	for _, q := range fleet.Queues {
		quota, bounded := q.Quota[r.Kind]
		if q.Name != r.Queue || !bounded {
			continue
		}
		held, added := 0, 0
		for _, d := range fleet.Devices {
			owned := slices.ContainsFunc(on(fleet, d.UUID), func(l Lease) bool { return l.Queue == r.Queue })
			chosenHere := slices.ContainsFunc(chosen, func(c DeviceStatus) bool { return c.UUID == d.UUID })
			if d.Kind == r.Kind && owned {
				held++
			} else if chosenHere {
				added++
			}
		}
		if held+added > quota {
			return false
		}
	}
	return true
}

// goodness is the documented order of places, as numbers of which the smaller is better.
func goodness(fleet Snapshot, r Request, p Placement) (out []int) {
	devices := map[string]DeviceStatus{}
	for _, d := range fleet.Devices {
		devices[d.UUID] = d
	}
	type place struct{ host, domain string }
	touched := map[place]int{}
	var worn, single, inUse, crowd, memory, faults int
	for _, uuid := range p.Devices {
		d := devices[uuid]
		if d.Health == Degraded {
			worn++
		}
		if d.Domain == "" {
			single++
		} else {
			touched[place{d.Host, d.Domain}]++
		}
		leases := len(on(fleet, uuid))
		inUse, crowd = inUse+min(leases, 1), crowd+leases
		memory, faults = memory+int(d.MemoryTotalBytes>>20), faults+len(d.Faults)
	}
	var lost, split, left, hostLeft int
	for at, n := range touched {
		size, whole, free := 0, true, 0
		for _, d := range fleet.Devices {
			if d.Host != at.host || d.Domain != at.domain {
				continue
			}
			size++
			used := len(on(fleet, d.UUID)) > 0
			whole = whole && fit(d) && !used && !d.NoTrainers
			if fit(d) && !used && !slices.Contains(p.Devices, d.UUID) {
				free++
			}
		}
		left += free
		if whole && size > 1 {
			lost++
			if n < size {
				split++
			}
		}
	}
	for _, d := range fleet.Devices {
		if d.Host == p.Host && d.Kind == r.Kind && fit(d) && len(on(fleet, d.UUID)) == 0 && !slices.Contains(p.Devices, d.UUID) {
			hostLeft++
		}
	}
	away, home := 0, false
	for _, l := range fleet.Leases {
		if l.Run == r.Run && l.Agent != "" {
			away = 1
			home = home || hostOfAgent(fleet, l.Agent) == p.Host
		}
	}
	if home {
		away = 0
	}
	return []int{worn, len(touched) + single, lost, split, inUse, away, crowd, memory, left, hostLeft, faults}
}

func hostOfAgent(fleet Snapshot, agent string) string {
	for _, a := range fleet.Agents {
		if a.Agent == agent {
			return a.Host
		}
	}
	return ""
}

// bestPlace is the best of all free places.
func bestPlace(fleet Snapshot, r Request) (Placement, bool) {
	places := everyPlace(fleet, r)
	if len(places) == 0 {
		return Placement{}, false
	}
	load := func(agent string) (n int) {
		for _, l := range fleet.Leases {
			if l.Agent == agent {
				n++
			}
		}
		return n
	}
	return slices.MinFunc(places, func(x, y Placement) int {
		return cmp.Or(slices.Compare(goodness(fleet, r, x), goodness(fleet, r, y)), slices.Compare(x.Devices, y.Devices),
			cmp.Compare(load(x.Agent), load(y.Agent)), cmp.Compare(x.Agent, y.Agent))
	}), true
}

// bestVictims tries every set of leases that may be asked to yield. The best set spares the lease that is
// least to be disturbed of those in which two sets differ; nil when no set would do.
func bestVictims(fleet Snapshot, r Request) []int {
	var may []Lease
	for _, l := range fleet.Leases {
		if l.Priority > r.Priority || l.Yield != "" {
			may = append(may, l)
		}
	}
	slices.SortFunc(may, func(x, y Lease) int {
		number := func(b bool) int { return map[bool]int{true: 1}[b] }
		return cmp.Or(number(x.Yield != "")-number(y.Yield != ""), number(x.Role != Learner)-number(y.Role != Learner),
			cmp.Compare(x.Priority, y.Priority), x.Granted.Compare(y.Granted), cmp.Compare(x.Fence, y.Fence))
	})
	// The most important lease is the highest bit, so that the smaller number is the better set.
	for set := range 1 << len(may) {
		var gone []int
		for i, l := range may {
			if set>>(len(may)-1-i)&1 == 1 {
				gone = append(gone, l.Fence)
			}
		}
		if len(everyPlace(afterwards(fleet, gone), r)) > 0 {
			slices.Sort(gone)
			return gone
		}
	}
	return nil
}

// afterwards is the fleet once leases have gone.
func afterwards(fleet Snapshot, gone []int) Snapshot {
	fleet.Leases = slices.DeleteFunc(slices.Clone(fleet.Leases), func(l Lease) bool { return slices.Contains(gone, l.Fence) })
	return fleet
}

// perfect is the known fleet with every agent heard, every device healthy and free, and nobody's quota.
func perfect(fleet Snapshot) Snapshot {
	fleet.Leases, fleet.Queues = nil, nil
	fleet.Agents, fleet.Devices = slices.Clone(fleet.Agents), slices.Clone(fleet.Devices)
	for i := range fleet.Agents {
		fleet.Agents[i].Silent = false
	}
	for i := range fleet.Devices {
		d := &fleet.Devices[i]
		d.Health, d.NoTrainers, d.Condition = Healthy, false, gpu.Condition{}
		unreported := len(d.Agents) == 0
		for _, a := range fleet.Agents {
			if unreported && a.Host == d.Host {
				d.Agents = append(slices.Clone(d.Agents), a.Agent)
			}
		}
	}
	return fleet
}
