package overhead

import (
	"sync"
	"time"

	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// marks are what the parts saw and when. Any number of goroutines may use them.
type marks struct {
	mu        sync.Mutex
	latencies []time.Duration // of the episodes finished
	counts
	// sampled is when the last turn of a group ended, by its number.
	sampled map[int]time.Time
	steps   map[int]step
	slots   slots
}

// slots follows what the slots of the loop are at.
type slots struct {
	count    int
	at       time.Time   // up to when it is accounted for; zero before the first event
	sampling int         // with an episode in its turn
	waiting  int         // members of the control object's share that have not begun
	begun    map[int]int // members by group
}

// to accounts for the time since the last event.
func (s *slots) to(at time.Time, c *counts) {
	if !s.at.IsZero() {
		since := at.Sub(s.at)
		c.sampling += time.Duration(s.sampling) * since
		if s.waiting == 0 {
			c.idle += time.Duration(s.count-s.sampling) * since
		}
	}
	s.at = at
}

// step is one step as its parts saw it; a zero time has not come yet.
type step struct {
	// ready is when the last turn of its batch ended, begins and ends when the learner had it, seen
	// when the loop read of the version it made.
	ready, begins, ends, seen time.Time
}

func newMarks(count int) *marks {
	return &marks{sampled: map[int]time.Time{}, steps: map[int]step{}, slots: slots{count: count, begun: map[int]int{}}}
}

// begins notes that a member of a group takes its turn.
func (m *marks) begins(group int, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slots.to(at, &m.counts)
	m.slots.sampling++
	m.slots.begun[group]++
	m.slots.waiting = max(0, m.slots.waiting-1)
}

// ends notes that a turn is sampled.
func (m *marks) ends(group int, latency time.Duration, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slots.to(at, &m.counts)
	m.slots.sampling--
	m.latencies = append(m.latencies, latency)
	m.episodes++
	m.sampled[group] = at
}

// breaksOff notes that a turn was withdrawn.
func (m *marks) breaksOff(at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slots.to(at, &m.counts)
	m.slots.sampling--
}

func (m *marks) signalled() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.signals++
}

// published notes a control object whose groups have so many members.
func (m *marks) published(control runstate.Control, size int, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.controls++
	m.slots.to(at, &m.counts)
	begun := map[int]int{}
	m.slots.waiting = 0
	for _, share := range control.Shares {
		for _, assignment := range share.Groups {
			begun[assignment.Group] = m.slots.begun[assignment.Group]
			m.slots.waiting += max(0, size-begun[assignment.Group])
		}
	}
	m.slots.begun = begun
}

func (m *marks) stepBegins(input workflows.TrainInput, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := step{begins: at}
	for _, group := range input.Batch {
		if sampled := m.sampled[group.Number]; sampled.After(s.ready) {
			s.ready = sampled
		}
		delete(m.sampled, group.Number)
	}
	m.steps[input.Step] = s
}

func (m *marks) stepEnds(number int, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.steps[number]
	s.ends = at
	m.steps[number] = s
}

// versionSeen marks a version and those before it, which the loop may have missed.
func (m *marks) versionSeen(version int, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for ; version > 0 && m.steps[version].seen.IsZero(); version-- {
		s := m.steps[version]
		s.seen = at
		m.steps[version] = s
	}
}

// counts is how far a run is.
type counts struct {
	episodes int // finished
	signals  int // reports sent
	controls int // control objects written
	// sampling is slot time of turns, idle slot time in which there was no member to play.
	sampling, idle time.Duration
}

func (m *marks) sofar(at time.Time) counts {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slots.to(at, &m.counts)
	return m.counts
}

// stepped says whether the loop has seen the version of a step.
func (m *marks) stepped() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.steps[1].seen.IsZero()
}

// between returns the latencies of the episodes counted since, and the steps that ended in a window,
// each with the one before it.
func (m *marks) between(since counts, from, to time.Time) (latencies []float64, steps [][2]step) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, latency := range m.latencies[since.episodes:] {
		latencies = append(latencies, latency.Seconds())
	}
	for number, s := range m.steps {
		before := m.steps[number-1]
		whole := !s.seen.IsZero() && !before.seen.IsZero() && s.seen.After(before.seen)
		if whole && s.ends.After(from) && s.ends.Before(to) {
			steps = append(steps, [2]step{before, s})
		}
	}
	return latencies, steps
}
