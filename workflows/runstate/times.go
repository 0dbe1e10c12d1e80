package runstate

import (
	"slices"
	"time"
)

// Times is what a run has measured of itself.
type Times struct {
	// Progress is when something was last finished: a group, a step, an evaluation. Gaps are the last times
	// between two of them.
	Progress time.Time       `json:"progress,omitzero"`
	Gaps     []time.Duration `json:"gaps,omitempty"`
	// Stalled is when the present wait was called a stall; zero when it was not.
	Stalled time.Time `json:"stalled,omitzero"`
	// Warm, Steps and Evaluations are the last durations of each.
	Warm        []time.Duration `json:"warm,omitempty"`
	Steps       []time.Duration `json:"steps,omitempty"`
	Evaluations []time.Duration `json:"evaluations,omitempty"`
	// PauseAsked is when the pause in force was asked for.
	PauseAsked time.Time `json:"pause_asked,omitzero"`
	// Began is when reinforcement learning began, Busy how long the learner has worked since.
	Began time.Time     `json:"began,omitzero"`
	Busy  time.Duration `json:"busy,omitempty"`
}

func (t Times) clone() Times {
	t.Gaps, t.Warm = slices.Clone(t.Gaps), slices.Clone(t.Warm)
	t.Steps, t.Evaluations = slices.Clone(t.Steps), slices.Clone(t.Evaluations)
	return t
}

// remembered is how many durations of a kind are kept.
const remembered = 15

// recent appends a duration that was measured.
func recent(all []time.Duration, took time.Duration) []time.Duration {
	if took <= 0 {
		return all
	}
	all = append(slices.Clone(all), took)
	return all[max(0, len(all)-remembered):]
}

func (t *Times) took(kind Kind, took time.Duration) {
	if kind == Warm {
		t.Warm = recent(t.Warm, took)
		return
	}
	t.Steps = recent(t.Steps, took)
	t.Busy += took
}

func (t *Times) forget(kind Kind) {
	if kind == Warm {
		t.Warm = nil
	} else {
		t.Steps = nil
	}
}

// measuredFrom is how many durations are enough to derive a time-out from.
const measuredFrom = 3

// shortest is the least time-out and the least time that is called a stall: noise of a loaded machine.
const shortest = time.Minute

// derived is factor times the median of what was measured, between shortest and longest; longest while
// too little was measured.
func derived(measured []time.Duration, factor int, longest time.Duration) time.Duration {
	if len(measured) < measuredFrom {
		return longest
	}
	median := slices.Sorted(slices.Values(measured))[len(measured)/2]
	if median > longest/time.Duration(factor) {
		return longest
	}
	return min(max(median*time.Duration(factor), shortest), longest)
}

// slow is how many times the median a piece of work may take before it is given to somebody else.
const slow = 6

// stepTimeout bounds an attempt at a step, which may have to make the steps since the last checkpoint again.
func (m *Machine) stepTimeout(kind Kind) time.Duration {
	measured := m.state.Times.Steps
	if kind == Warm {
		measured = m.state.Times.Warm
	}
	return derived(measured, slow*(1+m.spec().CheckpointEvery), m.spec().StepTimeout)
}

func (m *Machine) evaluationTimeout() time.Duration {
	return derived(m.state.Times.Evaluations, slow, m.spec().StepTimeout)
}

// progress notes that something was finished.
func (m *Machine) progress() {
	t := &m.state.Times
	if !t.Stalled.IsZero() {
		m.note("goes on after %s", m.now.Sub(t.Progress).Round(time.Second))
	} else if !t.Progress.IsZero() {
		t.Gaps = recent(t.Gaps, m.now.Sub(t.Progress))
	}
	t.Progress, t.Stalled = m.now, time.Time{}
}

// patience is how long the run waits for something to be finished before it calls that a stall: ten
// times the longest gap among the last ones.
func (m *Machine) patience() time.Duration {
	gaps, longest := m.state.Times.Gaps, m.spec().StallAfter
	if len(gaps) < measuredFrom {
		return longest
	}
	if gap := slices.Max(gaps); gap < longest/10 {
		return min(max(10*gap, shortest), longest)
	}
	return longest
}

// lookAtStall says once that nothing is finished for too long, what is waited for and what would help.
func (m *Machine) lookAtStall() {
	s := &m.state
	if s.Outcome != "" || s.Paused || s.Held != "" || s.Times.Progress.IsZero() || !s.Times.Stalled.IsZero() {
		return
	}
	if waited := m.now.Sub(s.Times.Progress); waited > m.patience() {
		s.Times.Stalled = m.now
		what, unblock := m.wait()
		m.note("stalled: nothing was finished for %s, waiting for %s; %s", waited.Round(time.Second), what, unblock)
	}
}
