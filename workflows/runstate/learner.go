package runstate

import (
	"fmt"
	"slices"
	"strings"
)

// Lease is the right to use devices for a while. Steps and repairs run under one.
type Lease struct {
	// Fence is the lease's fencing token: a later lease has a larger one.
	Fence int `json:"fence"`
	// Agent serves the learner on Host, where the devices with these UUIDs are.
	Agent   string   `json:"agent"`
	Host    string   `json:"host"`
	Devices []string `json:"devices"`
}

// where names the devices for people.
func (l Lease) where() string {
	return fmt.Sprintf("%s on %s", strings.Join(l.Devices, ", "), l.Host)
}

// Learner is what the state remembers of the lease that steps and repairs run under.
type Learner struct {
	// Asked is true from the request for a lease until the lease is given back or taken.
	Asked bool `json:"asked,omitempty"`
	// Lease is the one held; nil while there is none.
	Lease *Lease `json:"lease,omitempty"`
	// Seen is the largest fence of a lease that was ever granted.
	Seen int `json:"seen,omitempty"`
	// Waiting says why there is no lease yet; "" when nobody has said.
	Waiting string `json:"waiting,omitempty"`
	// Yield says why the lease has to be given back at the next step; "" while it need not.
	Yield string `json:"yield,omitempty"`
}

// Remake says that the attempt at a step that was in flight has no result and may commit yet. So the step is
// made again with the same groups, drops and settings: whichever attempt commits, the manifest holds what
// the machine believes.
type Remake struct {
	Config int `json:"config"`
}

func (m *Machine) leaseGranted(e LeaseGranted) {
	l := &m.state.Learner
	if e.Lease.Fence <= l.Seen {
		return
	}
	l.Seen = e.Lease.Fence
	if !l.Asked {
		m.emit(GiveLease{Fence: e.Lease.Fence})
		return
	}
	again, during := l.Lease != nil, m.during()
	m.letGo()
	lease := e.Lease
	lease.Devices = slices.Clone(lease.Devices)
	l.Lease, l.Waiting, l.Yield = &lease, "", ""
	m.state.Fence = max(m.state.Fence, lease.Fence-1)
	if again {
		m.note("the learner begins again on %s (lease %d)%s: %s", lease.where(), lease.Fence, during, e.Reason)
		return
	}
	m.note("the learner has %s (lease %d)", lease.where(), lease.Fence)
}

func (m *Machine) leaseWaiting(e LeaseWaiting) {
	if l := &m.state.Learner; l.Asked && l.Lease == nil {
		l.Waiting = e.Reason
	}
}

func (m *Machine) leaseYield(e LeaseYield) {
	l := &m.state.Learner
	if l.Lease == nil || l.Lease.Fence != e.Fence || l.Yield == e.Reason {
		return
	}
	l.Yield = e.Reason
	m.note("the learner gives %s back after what is in flight: %s", l.Lease.where(), e.Reason)
}

func (m *Machine) leaseRevoked(e LeaseRevoked) {
	l := &m.state.Learner
	if l.Lease == nil || l.Lease.Fence != e.Fence {
		return
	}
	m.note("the learner has lost %s%s: %s", l.Lease.where(), m.during(), e.Reason)
	m.letGo()
	*l = Learner{Seen: l.Seen}
}

// workLeft gives the lease back under which nobody took a piece of work, to ask for another one.
func (m *Machine) workLeft(e WorkLeft) {
	s, l := &m.state, &m.state.Learner
	if l.Lease == nil || l.Lease.Fence != e.Fence || s.Training == 0 && len(s.Repairing) == 0 {
		return
	}
	m.note("the learner gives %s back%s: %s", l.Lease.where(), m.during(), e.Reason)
	m.letGo()
	m.emit(GiveLease{Fence: e.Fence})
	*l = Learner{Seen: l.Seen}
}

// letGo withdraws what is in flight under a lease that has ended.
func (m *Machine) letGo() {
	s := &m.state
	if s.Training == 0 && len(s.Repairing) == 0 {
		return
	}
	m.emit(Abandon{Step: s.Training, Repairs: s.Repairing})
	s.Corrupt = append(slices.Clone(s.Corrupt), s.Repairing...)
	s.Repairing = nil
	if s.Training != 0 {
		m.remake()
	}
}

// during names the step in flight, for people.
func (m *Machine) during() string {
	if m.state.Training == 0 {
		return ""
	}
	return fmt.Sprintf(" in step %d", m.state.Training)
}

// remake takes a step out of flight whose attempt may commit yet.
func (m *Machine) remake() {
	s := &m.state
	s.Remake, s.Training = &Remake{Config: s.TrainingConfig}, 0
}

// Learner is the lease of the learner, and the fence that the next one has to be above.
func (m *Machine) Learner() (learner Learner, above int) {
	return m.state.Learner, max(m.state.Fence, m.state.Learner.Seen)
}

// learns says whether the run needs a learner.
func (m *Machine) learns() bool {
	s := &m.state
	return s.Committed < m.spec().LastStep() || len(s.Corrupt)+len(s.Repairing) > 0
}

// lease asks for a lease when there is work for it, and gives back one that somebody else is to have or
// that the run needs no more. A lease is kept in a pause.
func (m *Machine) lease(idle bool) {
	s, l := &m.state, &m.state.Learner
	if l.Lease != nil && idle && (l.Yield != "" || !m.learns()) {
		m.emit(GiveLease{Fence: l.Lease.Fence})
		*l = Learner{Seen: l.Seen}
	}
	if !l.Asked && m.learns() && (!s.Paused || len(s.Corrupt) > 0) {
		l.Asked = true
		_, above := m.Learner()
		m.emit(AskLease{Above: above})
	}
}

// mayLearn says whether a step or repair may begin under the lease.
func (m *Machine) mayLearn() bool {
	l := &m.state.Learner
	return l.Lease != nil && l.Yield == "" && !m.state.HandingOver
}

// repair has corrupt objects made again.
func (m *Machine) repair() {
	s := &m.state
	if !m.mayLearn() {
		return
	}
	for _, key := range s.Corrupt {
		m.emit(Repair{Key: key, Lease: *s.Learner.Lease})
	}
	s.Repairing = append(slices.Clone(s.Repairing), s.Corrupt...)
	s.Corrupt = nil
}

// lacksDevice says whether nothing but a lease is missing for the learner to work.
func (m *Machine) lacksDevice() bool {
	s := &m.state
	if s.Learner.Lease != nil || !s.Learner.Asked {
		return false
	}
	next := s.Committed + 1
	return len(s.Corrupt) > 0 || s.Remake != nil || next <= m.spec().WarmSteps ||
		next <= m.spec().LastStep() && m.readyForNext() == m.spec().GroupsPerStep
}

// needDevice is what ends the wait for a lease.
const needDevice = "`turnwise gpu` shows every device, who has it and how it is; `turnwise worker --roles learner` adds those of its machine"

// device names the wait for a lease.
func (m *Machine) device() string {
	if reason := m.state.Learner.Waiting; reason != "" {
		return "a device for the learner: " + reason
	}
	return "a device for the learner"
}
