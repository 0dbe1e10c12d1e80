package lease

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// State is everything a pool remembers. It is plain data, carried over continue-as-new as JSON. All times are
// the pool's own unless it says so.
type State struct {
	// Born is when the pool took its first event. A pool that is young may have lost an earlier history.
	Born time.Time `json:"born,omitzero"`
	// Last is when it took its last one, and Wake when it asked to be woken; zero is never.
	Last time.Time `json:"last,omitzero"`
	Wake time.Time `json:"wake,omitzero"`
	// Fence is the largest fencing token given or heard of.
	Fence int `json:"fence"`
	// Given are the fences that the pool has given while it is young.
	Given []int `json:"given,omitempty"`
	// Agents are by name, Devices by UUID, Leases by fence.
	Agents  []AgentState  `json:"agents,omitempty"`
	Devices []DeviceState `json:"devices,omitempty"`
	Leases  []LeaseState  `json:"leases,omitempty"`
	// Waiting are the requests without a lease, in the order in which their turn comes; Claims are the leases
	// renewed whose devices nobody has reported yet, in the order in which they came.
	Waiting []WaitingState `json:"waiting,omitempty"`
	Claims  []Claim        `json:"claims,omitempty"`
	// Queues are those that were set, by name.
	Queues []Queue `json:"queues,omitempty"`
}

// AgentState is what the pool remembers of an agent.
type AgentState struct {
	Agent   string `json:"agent"`
	Session string `json:"session"`
	// Past are the sessions before, the last one first: what they still report is not taken.
	Past     []string   `json:"past,omitempty"`
	Host     string     `json:"host"`
	Machine  string     `json:"machine"`
	Boot     string     `json:"boot,omitempty"`
	Number   int        `json:"number"`
	Serves   Capacity   `json:"serves"`
	Computes []gpu.Kind `json:"computes,omitempty"`
	Lacks    []Lack     `json:"lacks,omitempty"`
	Driver   string     `json:"driver,omitempty"`
	Reason   string     `json:"reason,omitempty"`
	// Known is false while the agent has to tell its inventory; Early are events told before that.
	Known bool        `json:"known,omitempty"`
	Early []gpu.Event `json:"early,omitempty"`
	// Disputed are UUIDs that another machine reports as well, so that this one does not count.
	Disputed []string `json:"disputed,omitempty"`
	// Heard is when it last reported. It has lost its leases at Until, which follows from Silence, how long
	// it was told that it may be silent.
	Heard   time.Time     `json:"heard"`
	Until   time.Time     `json:"until"`
	Silence time.Duration `json:"silence"`
	Silent  bool          `json:"silent,omitempty"`
	Skew    time.Duration `json:"skew,omitempty"`
	// Unclaimed are fences of leases that the process works under and that nobody has renewed yet.
	Unclaimed []int `json:"unclaimed,omitempty"`
}

// DeviceState is what the pool remembers of a device.
type DeviceState struct {
	gpu.Device
	Host    string `json:"host"`
	Machine string `json:"machine"`
	Boot    string `json:"boot,omitempty"`
	// Agents report it, by name; none when it is out of sight, since Lost.
	Agents []string  `json:"agents,omitempty"`
	Lost   time.Time `json:"lost,omitzero"`
	// Condition is the last one told; nil before the first. Excused is what of it a person has overruled.
	Condition *gpu.Condition `json:"condition,omitempty"`
	Excused   *gpu.Condition `json:"excused,omitempty"`
	Verdicts  []Verdict      `json:"verdicts,omitempty"`
	Faults    []Seen         `json:"faults,omitempty"`
	// Restarts are the times of the last faults that restarted a role, Quarantines those of quarantines within a day.
	Restarts    []time.Time `json:"restarts,omitempty"`
	Quarantines []time.Time `json:"quarantines,omitempty"`
	// Health and Since are how the device was judged last, and since when.
	Health Health    `json:"health"`
	Since  time.Time `json:"since"`
}

// Seen is a fault and when the device's machine says that it happened.
type Seen struct {
	FaultSeen
	Clock time.Time `json:"clock,omitzero"`
}

// LeaseState is a lease. First is the fence that it began with, before it was restarted; 0 is the same.
// Restarted is when a fault made its work begin again last.
type LeaseState struct {
	Lease
	First     int       `json:"first,omitempty"`
	Restarted time.Time `json:"restarted,omitzero"`
}

// WaitingState is a request without a lease. Told is the reason that its holder was told last, at ToldAt; there
// may be another one since. Victims are the fences of leases that yield to it.
type WaitingState struct {
	Waiter
	Told    string    `json:"told,omitempty"`
	ToldAt  time.Time `json:"told_at,omitzero"`
	Victims []int     `json:"victims,omitempty"`
}

// Claim is a lease that its holder renews and that the pool cannot take up yet. After Until it is refused.
type Claim struct {
	Lease Lease     `json:"lease"`
	Until time.Time `json:"until"`
}

// State returns a copy of what the pool remembers.
func (p *Pool) State() State { return p.state.clone() }

func (s State) clone() State {
	s.Given = cloned(s.Given)
	s.Agents = cloned(s.Agents)
	for i := range s.Agents {
		a := &s.Agents[i]
		a.Past, a.Computes, a.Lacks, a.Early = cloned(a.Past), cloned(a.Computes), cloned(a.Lacks), cloned(a.Early)
		a.Disputed, a.Unclaimed = cloned(a.Disputed), cloned(a.Unclaimed)
	}
	s.Devices = cloned(s.Devices)
	for i := range s.Devices {
		d := &s.Devices[i]
		d.Agents, d.Verdicts, d.Faults = cloned(d.Agents), cloned(d.Verdicts), cloned(d.Faults)
		d.Restarts, d.Quarantines = cloned(d.Restarts), cloned(d.Quarantines)
	}
	s.Leases = cloned(s.Leases)
	for i := range s.Leases {
		s.Leases[i].Devices = cloned(s.Leases[i].Devices)
	}
	s.Waiting = cloned(s.Waiting)
	for i := range s.Waiting {
		s.Waiting[i].Victims = cloned(s.Waiting[i].Victims)
	}
	s.Claims = cloned(s.Claims)
	for i := range s.Claims {
		s.Claims[i].Lease.Devices = cloned(s.Claims[i].Lease.Devices)
	}
	s.Queues = cloned(s.Queues)
	for i := range s.Queues {
		s.Queues[i].Quota = maps.Clone(s.Queues[i].Quota)
	}
	return s
}

// cloned copies a list; an empty one is none, as it is when it comes out of JSON.
func cloned[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return slices.Clone(list)
}

func (s *State) agent(name string) *AgentState {
	at, found := slices.BinarySearchFunc(s.Agents, name, func(a AgentState, name string) int { return cmp.Compare(a.Agent, name) })
	if !found {
		return nil
	}
	return &s.Agents[at]
}

// addAgent returns the agent's entry, a new one when there is none. Pointers into Agents are void after it.
func (s *State) addAgent(name string) *AgentState {
	at, found := slices.BinarySearchFunc(s.Agents, name, func(a AgentState, name string) int { return cmp.Compare(a.Agent, name) })
	if !found {
		s.Agents = slices.Insert(s.Agents, at, AgentState{Agent: name})
	}
	return &s.Agents[at]
}

func (s *State) device(uuid string) *DeviceState {
	at, found := slices.BinarySearchFunc(s.Devices, uuid, func(d DeviceState, uuid string) int { return cmp.Compare(d.UUID, uuid) })
	if !found {
		return nil
	}
	return &s.Devices[at]
}

// addDevice returns the device's entry, a new one when there is none. Pointers into Devices are void after it.
func (s *State) addDevice(uuid string) *DeviceState {
	at, found := slices.BinarySearchFunc(s.Devices, uuid, func(d DeviceState, uuid string) int { return cmp.Compare(d.UUID, uuid) })
	if !found {
		s.Devices = slices.Insert(s.Devices, at, DeviceState{Device: gpu.Device{UUID: uuid}, Health: Healthy})
	}
	return &s.Devices[at]
}

// held returns the holder's lease; nil when it has none.
func (s *State) held(holder string) *LeaseState {
	for i := range s.Leases {
		if s.Leases[i].Holder == holder {
			return &s.Leases[i]
		}
	}
	return nil
}

// lease returns the lease with a fence; nil when there is none.
func (s *State) lease(fence int) *LeaseState {
	for i := range s.Leases {
		if s.Leases[i].Fence == fence {
			return &s.Leases[i]
		}
	}
	return nil
}

// waiting returns the holder's place in the list of requests; −1 when it has none.
func (s *State) waiting(holder string) int {
	return slices.IndexFunc(s.Waiting, func(w WaitingState) bool { return w.Holder == holder })
}

// had says whether the fence is one that the lease has had.
func (l *LeaseState) had(fence int) bool {
	first := l.First
	if first == 0 {
		first = l.Fence
	}
	return fence >= first && fence <= l.Fence
}

// condition is the device's condition; the zero one before the first was told.
func (d *DeviceState) condition() gpu.Condition {
	if d.Condition == nil {
		return gpu.Condition{}
	}
	return *d.Condition
}
