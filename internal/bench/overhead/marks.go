package overhead

import (
	"sync"
	"time"

	"github.com/turnwise-rl/turnwise/workflows"
)

// marks are what the parts saw and when. Any number of goroutines may use them.
type marks struct {
	mu        sync.Mutex
	latencies []time.Duration // of the episodes finished
	counts
	stored map[int]time.Time
	steps  map[int]step
}

// step is one step as its parts saw it; a zero time has not come yet.
type step struct {
	// ready is when the last group of its batch was stored, begins and ends when the learner had it, seen
	// when the loop read of the version it made.
	ready, begins, ends, seen time.Time
}

func newMarks() *marks { return &marks{stored: map[int]time.Time{}, steps: map[int]step{}} }

func (m *marks) finished(latency, held time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.latencies = append(m.latencies, latency)
	m.episodes++
	m.held += held
}

// starved adds slot time in which there was no member to play.
func (m *marks) starved(slotTime time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.idle += slotTime
}

func (m *marks) signalled() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.signals++
}

func (m *marks) published() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.controls++
}

func (m *marks) groupStored(number int, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stored[number] = at
}

func (m *marks) stepBegins(input workflows.TrainInput, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := step{begins: at}
	for _, group := range input.Batch {
		if stored := m.stored[group.Number]; stored.After(s.ready) {
			s.ready = stored
		}
		delete(m.stored, group.Number)
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
	// held is slot time of finished episodes, idle slot time in which there was no member to play.
	held, idle time.Duration
}

func (m *marks) sofar() counts {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counts
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
