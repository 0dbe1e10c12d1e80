package lease

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Pool decides. It is used by one goroutine at a time.
type Pool struct {
	policy Policy
	state  State
	now    time.Time // of the event being taken
	// changed says that something changed in this step that may give a request a place, or another reason.
	changed bool
	// refused is the answer to the report of this step, when it was not taken.
	refused refusal
	out     []Command
}

// refusal says why an agent's report was not taken.
type refusal struct{ agent, reason string }

// New returns a pool that knows nothing.
func New(policy Policy) *Pool { return &Pool{policy: policy} }

// Restore returns a pool that goes on from a state.
func Restore(policy Policy, state State) *Pool { return &Pool{policy: policy, state: state.clone()} }

// Step takes one event that happened at now and returns what to do, in order. Events that repeat or come
// late change nothing but what is told again.
func (p *Pool) Step(now time.Time, event Event) []Command {
	p.out, p.refused, p.changed = nil, refusal{}, false
	p.begin(now)
	p.apply(event)
	p.pass()
	p.enforce()
	p.takeUpClaims()
	if p.changed {
		p.place()
	}
	p.state.Wake = p.wake()
	return p.out
}

// begin sets the clock. When the pool wakes much later than it asked to, it was away, and what it did not hear
// meanwhile is nobody's fault: no deadline has come nearer since the last event.
func (p *Pool) begin(now time.Time) {
	s := &p.state
	if s.Born.IsZero() {
		s.Born, s.Last = now, now
	}
	if now.Before(s.Last) {
		now = s.Last
	}
	if !s.Wake.IsZero() && now.Sub(s.Wake) > p.policy.ReportEvery {
		away := now.Sub(s.Last)
		p.postpone(away)
		p.changed = true // what people read names deadlines
		p.note("the pool was away for %s: every deadline moves by it", away.Round(time.Second))
	}
	p.now, s.Last = now, now
}

// apply writes the event into the state.
func (p *Pool) apply(event Event) {
	switch e := event.(type) {
	case Reported:
		p.reported(e.Report)
	case Requested:
		p.requested(e.Request)
	case Renewed:
		p.renewed(e.Lease)
	case Released:
		p.released(e)
	case HolderGone:
		p.holderGone(e.Holder)
	case DrainAsked:
		p.drain(e)
	case UndrainAsked:
		p.undrain(e)
	case QueueSet:
		p.setQueue(e.Queue)
	case Tick:
	}
}

func (p *Pool) emit(command Command) { p.out = append(p.out, command) }

func (p *Pool) note(format string, args ...any) { p.emit(Note{Text: fmt.Sprintf(format, args...)}) }

// tell tells a holder about a lease of its own.
func (p *Pool) tell(holder string, news News) { p.emit(Tell{Holder: holder, News: news}) }

// setQueue makes or changes a queue.
func (p *Pool) setQueue(queue Queue) {
	if p.Check(QueueSet{Queue: queue}) != nil {
		return
	}
	if queue.Weight == 0 {
		queue.Weight = 1
	}
	s := &p.state
	at, found := slices.BinarySearchFunc(s.Queues, queue.Name, func(q Queue, name string) int { return cmp.Compare(q.Name, name) })
	if !found {
		s.Queues = slices.Insert(s.Queues, at, Queue{})
	}
	s.Queues[at] = queue
	p.changed = true
	p.note("queue %s has weight %g and %s", queue.Name, queue.Weight, quotaInWords(queue))
}
