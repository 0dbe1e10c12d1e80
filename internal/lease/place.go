package lease

import (
	"slices"
	"strings"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// Placement is where a request goes.
type Placement struct {
	Agent   string
	Host    string
	Devices []string
	// Victims are the fencing tokens of leases that have to be gone first; none when the devices are free.
	// Those that do not yield yet have to be asked to.
	Victims []int
}

// Place decides where a request goes. It is a function of the snapshot and the request alone, as if nothing
// else waited. When there is no place, reason says why in words, and never is true when the known fleet,
// healthy and free, could not do it. A place with Victims is not free yet: reason says then what it waits for.
func Place(fleet Snapshot, request Request) (placement Placement, ok bool, reason string, never bool) {
	for _, agent := range fleet.Agents {
		capacity := map[Role]int{Learner: agent.Serves.Learner, Rollout: agent.Serves.Rollout, Evaluate: agent.Serves.Evaluate}[request.Role]
		claims, other := map[string]int64{}, map[string]bool{}
		for _, l := range fleet.Leases {
			if l.Agent == agent.Agent && l.Role == request.Role {
				capacity--
			}
			for _, uuid := range l.Devices {
				claims[uuid] += l.MemoryBytes
				other[uuid] = other[uuid] || l.Run != request.Run
			}
		}
		if agent.Silent || capacity <= 0 || !slices.Contains(agent.Computes, request.Kind) {
			continue
		}
		var fit []string
		for _, health := range []Health{Healthy, Degraded} {
			for _, d := range fleet.Devices {
				if d.Kind == request.Kind && d.Health == health && slices.Contains(d.Agents, agent.Agent) &&
					(d.Kind == gpu.CPU || !other[d.UUID]) && !(d.NoTrainers && (request.Role == Learner || request.Count > 1)) &&
					d.MemoryTotalBytes-d.Condition.ForeignBytes-claims[d.UUID] >= request.MemoryBytes {
					fit = append(fit, d.UUID)
				}
			}
		}
		if len(fit) >= request.Count {
			return Placement{Agent: agent.Agent, Host: agent.Host, Devices: fit[:request.Count]}, true, "", false
		}
	}
	return Placement{}, false, strings.Join([]string{"no agent has room for", string(request.Role)}, " "), false
}

// Decision is what a pass over the waiting list decides for one request.
type Decision struct {
	Waiter Waiter
	// Placed says that the request gets Placement now.
	Placed    bool
	Placement Placement
	// Reason says why it waits; Never is true when the known fleet, healthy and free, could not do it.
	Reason string
	Never  bool
}

// Decide walks the waiting list of the snapshot in order and decides for every request, in the order in which
// they were looked at. A request that is not placed but has Placement.Victims waits for those leases: the pool
// asks those of them to yield that were not asked yet.
func Decide(fleet Snapshot) []Decision {
	var out []Decision
	for _, w := range fleet.Queue {
		d := Decision{Waiter: w}
		d.Placement, d.Placed, d.Reason, d.Never = Place(fleet, w.Request)
		if d.Placed {
			fleet.Leases = append(slices.Clip(fleet.Leases), Lease{Request: w.Request, Agent: d.Placement.Agent, Host: d.Placement.Host, Devices: d.Placement.Devices})
		}
		out = append(out, d)
	}
	return out
}
