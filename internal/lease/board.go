package lease

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// board is a fleet on which leases are put and taken away again, to see what would fit. Everything on it is
// sorted by name, so that the order of a snapshot's lists does not matter.
type board struct {
	agents  []*boardAgent
	devices []*boardDevice // by UUID; their place here is their rank
	leases  []*boardLease  // those of the snapshot, the one that is least to be disturbed first
	queues  map[string]*boardQueue
	short   map[string]string // UUID to the prefix that people read
	given   []*boardLease     // by this walk, and places kept
	search  search            // scratch space
}

// boardAgent is an agent with the devices that it reports.
type boardAgent struct {
	AgentStatus
	used [4]int // slots, by roleIndex
	// groups are the agent's devices of a kind by NVLink domain; one without a domain is a group of its own.
	groups map[gpu.Kind][][]*boardDevice
	// serving are the leases on the agent's slots.
	serving []*boardLease
}

// boardDevice is a device with the leases on it.
type boardDevice struct {
	DeviceStatus
	rank   int
	room   int64 // memory that nobody uses or claims; negative when there are more claims than memory
	leases []*boardLease
	domain *boardSet // nil without one
	host   *boardSet // the devices of its kind on its host
}

// boardSet is a set of devices that are worth most together.
type boardSet struct {
	size   int
	free   int // usable and without a lease
	unfit  int // not usable, or not for trainers
	leased int // with a lease, usable or not
}

// whole says that all of the set can be given to one lease.
func (s *boardSet) whole() bool { return s.size > 1 && s.unfit == 0 && s.leased == 0 }

// boardQueue is a queue with its distinct devices, of which two leases may share one. They are counted by
// kindIndex.
type boardQueue struct {
	Queue
	held    [3]int // by leases
	claimed [3]int // by leases and places that are kept
}

func kindIndex(kind gpu.Kind) int {
	switch kind {
	case gpu.CPU:
		return 0
	case gpu.GPU:
		return 1
	}
	return 2
}

func roleIndex(role Role) int {
	switch role {
	case Learner:
		return 0
	case Rollout:
		return 1
	case Evaluate:
		return 2
	}
	return 3
}

// boardLease is a lease, or a place that is kept for a request that waits.
type boardLease struct {
	Request
	fence   int
	granted time.Time
	yields  bool // it was asked to
	kept    bool // it is a place that is kept, and nobody's lease yet
	queue   *boardQueue
	agent   *boardAgent
	devices []*boardDevice
	rank    int // among the leases: the smallest is least to be disturbed
}

func newBoard(fleet Snapshot) *board {
	b := &board{queues: map[string]*boardQueue{}}
	byUUID := b.addDevices(fleet)
	byAgent := b.addAgents(fleet)
	for _, q := range fleet.Queues {
		b.queues[q.Name] = &boardQueue{Queue: q.Queue}
	}
	for _, l := range fleet.Leases {
		lease := &boardLease{Request: l.Request, fence: l.Fence, granted: l.Granted, yields: l.Yield != "", queue: b.queue(l.Queue), agent: byAgent[l.Agent]}
		for _, uuid := range l.Devices {
			if d := byUUID[uuid]; d != nil && !slices.Contains(lease.devices, d) {
				lease.devices = append(lease.devices, d)
			}
		}
		b.leases = append(b.leases, lease)
		b.put(lease)
	}
	slices.SortFunc(b.leases, byImportance)
	for i, lease := range b.leases {
		lease.rank = i
	}
	return b
}

func (b *board) addDevices(fleet Snapshot) map[string]*boardDevice {
	type place struct {
		host, domain string
		kind         gpu.Kind
	}
	sets, byUUID, uuids := map[place]*boardSet{}, map[string]*boardDevice{}, []string(nil)
	set := func(p place) *boardSet {
		if sets[p] == nil {
			sets[p] = &boardSet{}
		}
		return sets[p]
	}
	for _, status := range fleet.Devices {
		d := &boardDevice{DeviceStatus: status, room: status.MemoryTotalBytes - status.Condition.ForeignBytes}
		d.host = set(place{host: status.Host, kind: status.Kind})
		if status.Domain != "" {
			d.domain = set(place{host: status.Host, domain: status.Domain, kind: status.Kind})
		}
		for _, s := range d.sets() {
			s.size++
			if d.usable() {
				s.free++
			}
			if !d.usable() || d.NoTrainers {
				s.unfit++
			}
		}
		b.devices, byUUID[d.UUID], uuids = append(b.devices, d), d, append(uuids, d.UUID)
	}
	slices.SortFunc(b.devices, func(x, y *boardDevice) int { return cmp.Compare(x.UUID, y.UUID) })
	for i, d := range b.devices {
		d.rank = i
	}
	b.short = shorten(uuids)
	return byUUID
}

func (b *board) addAgents(fleet Snapshot) map[string]*boardAgent {
	byAgent := map[string]*boardAgent{}
	for _, status := range fleet.Agents {
		a := &boardAgent{AgentStatus: status, groups: map[gpu.Kind][][]*boardDevice{}}
		b.agents, byAgent[a.Agent] = append(b.agents, a), a
	}
	slices.SortFunc(b.agents, func(x, y *boardAgent) int { return cmp.Compare(x.Agent, y.Agent) })
	byHost := map[string][]*boardDevice{}
	for _, d := range b.devices {
		byHost[d.Host] = append(byHost[d.Host], d)
	}
	for _, a := range b.agents {
		for _, d := range byHost[a.Host] {
			// The devices of an agent that is not heard may have nobody who reports them.
			if (slices.Contains(d.Agents, a.Agent) || len(d.Agents) == 0) && !a.blind(d) {
				a.addDevice(d)
			}
		}
	}
	return byAgent
}

func (a *boardAgent) addDevice(d *boardDevice) {
	groups := a.groups[d.Kind]
	for i := range groups {
		if d.domain != nil && groups[i][0].domain == d.domain {
			groups[i] = append(groups[i], d)
			return
		}
	}
	a.groups[d.Kind] = append(groups, []*boardDevice{d})
}

// capacity is how many leases of a role the agent serves at once.
func (a *boardAgent) capacity(role Role) int {
	switch role {
	case Learner:
		return a.Serves.Learner
	case Rollout:
		return a.Serves.Rollout
	case Evaluate:
		return a.Serves.Evaluate
	}
	return 0
}

func (d *boardDevice) sets() []*boardSet {
	if d.domain == nil {
		return []*boardSet{d.host}
	}
	return []*boardSet{d.host, d.domain}
}

// usable says that new leases may go to the device.
func (d *boardDevice) usable() bool {
	return len(d.Agents) > 0 && (d.Health == Healthy || d.Health == Degraded)
}

// put adds a lease to the board.
func (b *board) put(l *boardLease) {
	for _, d := range l.devices {
		l.charge(d, 1)
		d.count(len(d.leases), len(d.leases)+1)
		d.room -= l.MemoryBytes
		d.leases = append(d.leases, l)
	}
	if l.agent != nil {
		l.agent.used[roleIndex(l.Role)]++
		l.agent.serving = append(l.agent.serving, l)
	}
}

// take removes a lease from the board.
func (b *board) take(l *boardLease) {
	for _, d := range l.devices {
		d.count(len(d.leases), len(d.leases)-1)
		d.room += l.MemoryBytes
		d.leases = without(d.leases, l)
		l.charge(d, -1)
	}
	if l.agent != nil {
		l.agent.used[roleIndex(l.Role)]--
		l.agent.serving = without(l.agent.serving, l)
	}
}

func without(leases []*boardLease, l *boardLease) []*boardLease {
	i := slices.Index(leases, l)
	return slices.Delete(leases, i, i+1)
}

// count keeps the counters of the device's sets when its number of leases changes.
func (d *boardDevice) count(before, after int) {
	change := 0
	switch {
	case before == 0 && after > 0:
		change = 1
	case before > 0 && after == 0:
		change = -1
	}
	for _, s := range d.sets() {
		s.leased += change
		if d.usable() {
			s.free -= change
		}
	}
}

// charge counts a device for the queue of a lease that is not on it, unless another lease of the queue is.
func (l *boardLease) charge(d *boardDevice, change int) {
	if !d.of(l.Queue, true) {
		l.queue.claimed[kindIndex(d.Kind)] += change
	}
	if !l.kept && !d.of(l.Queue, false) {
		l.queue.held[kindIndex(d.Kind)] += change
	}
}

// of says that a queue has a lease on the device, or one that is kept.
func (d *boardDevice) of(queue string, kept bool) bool {
	for _, l := range d.leases {
		if l.Queue == queue && (kept || !l.kept) {
			return true
		}
	}
	return false
}

// queue gives a queue; one that nobody has set up has the weight 1 and no quota.
func (b *board) queue(name string) *boardQueue {
	q := b.queues[name]
	if q == nil {
		q = &boardQueue{Queue: Queue{Name: name, Weight: 1}}
		b.queues[name] = q
	}
	return q
}

// share is what the queue holds of a kind in proportion to its weight.
func (q *boardQueue) share(kind gpu.Kind) float64 {
	weight := q.Weight
	if !(weight > 0) || math.IsInf(weight, 0) {
		weight = 1
	}
	return float64(q.held[kindIndex(kind)]) / weight
}

// left is how many more devices of a kind the queue may claim, below 0 when it holds
// more than its quota.
func (q *boardQueue) left(kind gpu.Kind) int {
	quota, bounded := q.Quota[kind]
	if !bounded {
		return math.MaxInt
	}
	return quota - q.claimed[kindIndex(kind)]
}

// byImportance sorts leases so that the one that is least to be disturbed comes first: learners before roles
// that come and go, then by priority, then the oldest. One that yields already is not disturbed any more.
func byImportance(x, y *boardLease) int {
	return cmp.Or(compareBool(x.yields, y.yields), compareBool(x.Role != Learner, y.Role != Learner),
		cmp.Compare(x.Priority, y.Priority), x.granted.Compare(y.granted), cmp.Compare(x.fence, y.fence))
}

func compareBool(x, y bool) int {
	switch {
	case x == y:
		return 0
	case y:
		return -1
	}
	return 1
}
