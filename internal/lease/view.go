package lease

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// Snapshot is the pool as a person sees it at now.
func (p *Pool) Snapshot(now time.Time) Snapshot {
	s := &p.state
	view := Snapshot{Now: now, Policy: p.policy, Fence: s.Fence, Agents: []AgentStatus{}, Devices: []DeviceStatus{}, Leases: []Lease{}, Queue: []Waiter{}, Queues: []QueueStatus{}}
	for i := range s.Agents {
		view.Agents = append(view.Agents, s.Agents[i].status())
	}
	on := map[string][]int{} // the places in Leases of those on a device
	for i := range s.Leases {
		l := s.Leases[i].Lease
		l.Devices = slices.Clone(l.Devices)
		view.Leases = append(view.Leases, l)
		for _, uuid := range l.Devices {
			on[uuid] = append(on[uuid], i)
		}
	}
	for _, d := range s.inOrder() {
		status := p.deviceStatus(d)
		for _, at := range on[status.UUID] {
			status.Leases = append(status.Leases, view.Leases[at].Fence)
			status.LeasedBytes += view.Leases[at].MemoryBytes
		}
		view.Devices = append(view.Devices, status)
	}
	for i := range s.Waiting {
		view.Queue = append(view.Queue, s.Waiting[i].Waiter)
	}
	view.Queues = p.queues(view.Leases)
	return view
}

// inOrder are the devices by host, then kind, then index.
func (s *State) inOrder() []*DeviceState {
	devices := make([]*DeviceState, len(s.Devices))
	for i := range s.Devices {
		devices[i] = &s.Devices[i]
	}
	slices.SortFunc(devices, func(a, b *DeviceState) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Index, b.Index), cmp.Compare(a.UUID, b.UUID))
	})
	return devices
}

func (a *AgentState) status() AgentStatus {
	reason := a.Reason
	if len(a.Disputed) > 0 {
		also := fmt.Sprintf("another machine reports %s as well: two devices cannot have one UUID, so they do not count here", strings.Join(a.Disputed, ", "))
		reason = strings.TrimPrefix(reason+"; "+also, "; ")
	}
	return AgentStatus{Agent: a.Agent, Host: a.Host, Serves: a.Serves, Computes: slices.Clone(a.Computes), Lacks: slices.Clone(a.Lacks), Driver: a.Driver, Reason: reason,
		Heard: a.Heard, Silent: a.Silent, Skew: a.Skew}
}

// deviceStatus is a device without the leases on it.
func (p *Pool) deviceStatus(d *DeviceState) DeviceStatus {
	status := DeviceStatus{Device: d.Device, Host: d.Host, Agents: slices.Clone(d.Agents), Health: p.health(d), Why: p.why(d), Since: d.Since,
		NoTrainers: d.noTrainers(), Condition: d.condition()}
	if why := p.reserved(d); why != "" && status.Health.rank() < Draining.rank() {
		status.Health, status.Why = Draining, why
	}
	for _, seen := range d.Faults {
		status.Faults = append(status.Faults, seen.FaultSeen)
	}
	return status
}

// reserved says why a device gets no new leases although nothing is wrong with it: an agent works under
// leases that an earlier history of the pool gave. It is "" when none does.
func (p *Pool) reserved(d *DeviceState) string {
	for _, name := range d.Agents {
		if a := p.state.agent(name); a != nil && len(a.Unclaimed) > 0 {
			return fmt.Sprintf("%s works under leases that the device pool has forgotten (%s); free when their holders do not renew them by %s",
				name, numbers(a.Unclaimed), clock(p.grown()))
		}
	}
	return ""
}

// queues are those that were set, that hold something, or that something waits in.
func (p *Pool) queues(leases []Lease) []QueueStatus {
	holds := Holdings(leases)
	known := map[string]Queue{}
	for _, name := range sortedKeys(holds) {
		known[name] = Queue{Name: name, Weight: 1}
	}
	for i := range p.state.Waiting {
		if name := p.state.Waiting[i].Queue; name != "" {
			known[name] = Queue{Name: name, Weight: 1}
		}
	}
	for _, q := range p.state.Queues {
		known[q.Name] = q
	}
	list := []QueueStatus{}
	for _, name := range sortedKeys(known) {
		list = append(list, QueueStatus{Queue: known[name], Holds: holds[name]})
	}
	return list
}

// why says in a line what is held against a device and what would end it; "" when nothing is.
func (p *Pool) why(d *DeviceState) string {
	if len(d.Agents) == 0 {
		return p.unseen(d)
	}
	worst := -1
	for i, v := range d.Verdicts {
		if worst < 0 || p.healthOf(d, v).rank() > p.healthOf(d, d.Verdicts[worst]).rank() {
			worst = i
		}
	}
	if worst < 0 {
		return ""
	}
	line := d.Verdicts[worst].Why + "; " + p.ending(d, d.Verdicts[worst])
	var others []string
	for i, v := range d.Verdicts {
		if i != worst {
			others = append(others, v.Why)
		}
	}
	if len(others) > 0 {
		line += "; also " + strings.Join(others, "; ")
	}
	return line
}

// unseen says why nobody reports a device.
func (p *Pool) unseen(d *DeviceState) string {
	line := fmt.Sprintf("no agent on %s reports it since %s; comes back when one does", d.Host, clock(d.Lost))
	var others []string
	for _, v := range d.Verdicts {
		others = append(others, v.Why)
	}
	if len(others) > 0 {
		line += "; before that it " + strings.Join(others, "; ")
	}
	return line
}

// ending says what ends a verdict.
func (p *Pool) ending(d *DeviceState, v Verdict) string {
	var end string
	switch v.Ends {
	case Calmed:
		end = fmt.Sprintf("healthy again %s after it stops", p.policy.Calm)
		if !v.Until.IsZero() {
			end = "it has stopped; healthy again at " + clock(v.Until)
		}
	case Quieted:
		end = fmt.Sprintf("back at %s if it stays quiet", clock(v.Until))
		if !p.now.Before(v.Until) {
			end = "back when nothing is wrong with it"
		}
	case Restored:
		end = "back when it was reset"
		if v.Reset {
			end = "it was reset; back when nothing is wrong with it"
		}
	case Booted:
		end = fmt.Sprintf("back when %s was booted", d.Host)
	case Cleared:
		end = fmt.Sprintf("back after `turnwise gpu undrain %s`", d.UUID)
	}
	switch {
	case v.Trainers:
		end = "no learners and no roles of several devices until then; " + end
	case v.Gently && len(p.on(d.UUID)) > 0:
		end = "its roles finish their step; " + end
	}
	return end
}

// sortedKeys is the only way through a map here, so that the pool decides the same every time. The checker
// of workflows does not see that the order is made good.
//
//workflowcheck:ignore
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func numbers(list []int) string {
	var words []string
	for _, n := range list {
		words = append(words, fmt.Sprint(n))
	}
	return strings.Join(words, ", ")
}

func ordinal(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return fmt.Sprint(n) + suffix
}

func aheadInWords(skew time.Duration) string {
	if skew < 0 {
		return fmt.Sprintf("%s behind the device pool's", (-skew).Round(time.Millisecond))
	}
	return fmt.Sprintf("%s ahead of the device pool's", skew.Round(time.Millisecond))
}

func quotaInWords(queue Queue) string {
	var words []string
	for _, kind := range []gpu.Kind{gpu.CPU, gpu.GPU} {
		if most, bounded := queue.Quota[kind]; bounded {
			words = append(words, fmt.Sprintf("%d %s", most, kind))
		}
	}
	if len(words) == 0 {
		return "no quota"
	}
	return "a quota of " + strings.Join(words, " and ")
}
