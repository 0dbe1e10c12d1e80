package lease

import (
	"cmp"
	"slices"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// score says how good a place is: the smaller number at the first difference is better. Every entry is a sum
// over the devices of the place or the domains that it touches.
type score [10]int64

// The entries of a score.
const (
	byHealth   = iota // devices that are degraded
	byDomains         // NVLink domains touched, a device without one counting as one
	byLost            // domains wholly free before, and not after
	bySplit           // those of them that are not used whole
	byShared          // devices that have a lease already
	byAway            // 1 when the run has leases, and none on this host
	byCrowd           // leases on the devices
	byMemory          // of the devices, so that a small need takes a small device
	byLeftover        // devices that stay free in the touched domains, then on the host: the fullest is filled first
	byFaults          // of the devices, as far as they are remembered
)

// choice is a place for a request. Its devices are ranks, sorted.
type choice struct {
	agent   *boardAgent
	score   score
	devices []int
	load    int // leases that the agent serves
}

func (c choice) compare(other choice) int {
	return cmp.Or(slices.Compare(c.score[:], other.score[:]), slices.Compare(c.devices, other.devices),
		cmp.Compare(c.load, other.load), cmp.Compare(c.agent.Agent, other.agent.Agent))
}

func (b *board) placement(c choice) Placement {
	p := Placement{Agent: c.agent.Agent, Host: c.agent.Host}
	for _, rank := range c.devices {
		p.Devices = append(p.Devices, b.devices[rank].UUID)
	}
	return p
}

// open says that an agent could take a request if it had a slot and devices.
func (a *boardAgent) open(r Request) bool {
	return !a.Silent && a.capacity(r.Role) > 0 && a.computes(r)
}

// fits says that a device is free for a request: a processor is shared by everybody within its memory, a GPU
// by the roles of one run.
func (d *boardDevice) fits(r Request) bool {
	if !d.usable() || d.room < r.MemoryBytes || d.NoTrainers && trains(r) {
		return false
	}
	if d.Kind == gpu.CPU {
		return true
	}
	for _, l := range d.leases {
		if l.Run != r.Run || r.Run == "" {
			return false
		}
	}
	return true
}

// trains says that a request wants its NVLink to be sound.
func trains(r Request) bool { return r.Role == Learner || r.Count > 1 }

// room says whether an agent has a place for a request as the board is.
func (b *board) room(a *boardAgent, r Request) bool {
	if r.Count < 1 || !a.open(r) || a.used[roleIndex(r.Role)] >= a.capacity(r.Role) {
		return false
	}
	left, all, old := b.queue(r.Queue).left(r.Kind), 0, 0
	if left < 0 {
		return false
	}
	for _, group := range a.groups[r.Kind] {
		fit, held := 0, 0
		for _, d := range group {
			if d.fits(r) {
				fit++
				if left < r.Count && d.of(r.Queue, true) {
					held++
				}
			}
		}
		switch {
		case !r.OneDomain || r.Count == 1:
			all, old = all+fit, old+held
		case group[0].domain != nil && fit >= r.Count && r.Count-held <= left:
			return true
		}
	}
	return all >= r.Count && r.Count-old <= left
}

// best finds the best place for a request on the board as it is.
func (b *board) best(r Request) (choice, bool) {
	var out choice
	found := false
	at := b.homes(r.Run)
	for _, a := range b.agents {
		if !b.room(a, r) {
			continue
		}
		if c := b.bestOf(a, r, at.elsewhere(a.Host, r.Run, nil)); !found || c.compare(out) < 0 {
			out, found = c, true
			out.devices = slices.Clone(c.devices)
		}
	}
	return out, found
}

// homes are the hosts on which a run has leases.
type homes struct {
	leases int
	at     map[string]int
}

func (b *board) homes(run string) homes {
	out := homes{at: map[string]int{}}
	for _, a := range b.agents {
		for _, l := range a.serving {
			if l.Run == run && run != "" && !l.kept {
				out.leases++
				out.at[a.Host]++
			}
		}
	}
	return out
}

// elsewhere says that the run has leases, and none on a host, once some have gone.
func (h homes) elsewhere(host, run string, gone []*boardLease) bool {
	all, here := h.leases, h.at[host]
	for _, l := range gone {
		if l.Run == run && run != "" && l.agent != nil {
			all--
			if l.agent.Host == host {
				here--
			}
		}
	}
	return all > 0 && here == 0
}

// search is what finding a place on one agent needs, kept from one to the next. A state is (devices taken, of
// which new to a queue that is short of quota), and has the best way there, domain after domain.
type search struct {
	now, next []state
	old, new  []*boardDevice
}

type state struct {
	reached bool
	score   score
	devices []int
}

// bestOf finds the best place on an agent that has room. Domain after domain it extends the best way to take
// each number of devices: scores add up, so that the best whole consists of best parts.
func (b *board) bestOf(a *boardAgent, r Request, elsewhere bool) choice {
	left := b.queue(r.Queue).left(r.Kind)
	short := left < r.Count
	width := 1
	if short {
		width = left + 1
	}
	s := &b.search
	s.now, s.next = resized(s.now, (r.Count+1)*width), resized(s.next, (r.Count+1)*width)
	s.now[0].reached = true
	for _, group := range a.groups[r.Kind] {
		s.sortDevices(group, r, short)
		for i := range s.now {
			s.next[i].set(s.now[i].reached, s.now[i].score, s.now[i].devices, nil)
		}
		alone := r.OneDomain && r.Count > 1
		if alone && group[0].domain == nil {
			continue
		}
		for oldTaken := 0; oldTaken <= len(s.old); oldTaken++ {
			for newTaken := 0; newTaken <= len(s.new); newTaken++ {
				if n := oldTaken + newTaken; n > 0 && n <= r.Count && (!alone || n == r.Count) {
					s.extend(group, oldTaken, newTaken, width, short)
				}
			}
		}
		s.now, s.next = s.next, s.now
	}
	c := choice{agent: a, load: len(a.serving)}
	for i := r.Count * width; i < (r.Count+1)*width; i++ {
		if end := s.now[i]; end.reached && (c.devices == nil || end.compare(c.score, c.devices) < 0) {
			c.score, c.devices = end.score, end.devices
		}
	}
	if elsewhere {
		c.score[byAway] = 1
	}
	host := b.devices[c.devices[0]].host
	c.score[byLeftover] = c.score[byLeftover]<<20 + int64(host.free) - (int64(r.Count) - c.score[byShared])
	return c
}

func resized(states []state, n int) []state {
	states = slices.Grow(states[:0], n)[:n]
	for i := range states {
		states[i].reached, states[i].score, states[i].devices = false, score{}, states[i].devices[:0]
	}
	return states
}

func (s *state) set(reached bool, total score, devices []int, more []int) {
	s.reached, s.score = reached, total
	s.devices = append(append(s.devices[:0], devices...), more...)
	slices.Sort(s.devices)
}

func (s *state) compare(total score, devices []int) int {
	return cmp.Or(slices.Compare(s.score[:], total[:]), slices.Compare(s.devices, devices))
}

// sortDevices parts the devices of a group that fit into those that the queue holds and the others, the best
// first. The parts differ only when the queue is short of quota.
func (s *search) sortDevices(group []*boardDevice, r Request, short bool) {
	s.old, s.new = s.old[:0], s.new[:0]
	for _, d := range group {
		switch {
		case !d.fits(r):
		case short && !d.of(r.Queue, true):
			s.new = append(s.new, d)
		default:
			s.old = append(s.old, d)
		}
	}
	for _, devices := range [][]*boardDevice{s.old, s.new} {
		if len(devices) > 1 {
			slices.SortFunc(devices, func(x, y *boardDevice) int {
				first, second := x.score(), y.score()
				return cmp.Or(slices.Compare(first[:], second[:]), cmp.Compare(x.rank, y.rank))
			})
		}
	}
}

// score is what taking the device adds by itself.
func (d *boardDevice) score() (s score) {
	if d.Health == Degraded {
		s[byHealth] = 1
	}
	if len(d.leases) > 0 {
		s[byShared] = 1
	}
	s[byCrowd], s[byMemory], s[byFaults] = int64(len(d.leases)), d.MemoryTotalBytes, int64(len(d.Faults))
	return s
}

// extend takes the first devices of both parts of a group, after every way to take what is still to be taken.
func (s *search) extend(group []*boardDevice, oldTaken, newTaken, width int, short bool) {
	var add score
	var ranks [64]int
	taken := ranks[:0]
	for _, devices := range [][]*boardDevice{s.old[:oldTaken], s.new[:newTaken]} {
		for _, d := range devices {
			one := d.score()
			for i := range add {
				add[i] += one[i]
			}
			taken = append(taken, d.rank)
		}
	}
	add.ofDomain(group[0].domain, oldTaken+newTaken)
	n := oldTaken + newTaken
	for i := range s.now {
		to := i + n*width
		if short {
			to += newTaken
		}
		if !s.now[i].reached || to >= len(s.next) || short && i%width+newTaken >= width {
			continue
		}
		total := s.now[i].score
		for k := range total {
			total[k] += add[k]
		}
		if s.next[to].reached && slices.Compare(s.next[to].score[:], total[:]) < 0 {
			continue
		}
		var ahead state
		ahead.set(true, total, s.now[i].devices, taken)
		if !s.next[to].reached || ahead.compare(s.next[to].score, s.next[to].devices) < 0 {
			s.next[to].set(true, total, ahead.devices, nil)
		}
	}
}

// ofDomain adds what taking n devices of one domain means for the domain.
func (s *score) ofDomain(domain *boardSet, n int) {
	s[byDomains] = 1
	if domain == nil {
		return
	}
	if domain.whole() {
		s[byLost] = 1
		if n < domain.size {
			s[bySplit] = 1
		}
	}
	s[byLeftover] = int64(domain.free) - (int64(n) - s[byShared])
}
