package runstate

import (
	"fmt"
	"sort"
)

// Status is a run as a person sees it.
type Status struct {
	// Phase is one word: preparing, warm-start, rolling-out, training, evaluating, pausing, paused,
	// cancelling, failing, completed, failed, cancelled.
	Phase string `json:"phase"`
	// Committed and LastStep count steps through the whole plan; WarmSteps of them are supervised.
	Committed int `json:"committed"`
	LastStep  int `json:"last_step"`
	WarmSteps int `json:"warm_steps"`
	// GroupsReady of GroupsPerStep groups of the next step are in the store.
	GroupsReady   int `json:"groups_ready"`
	GroupsPerStep int `json:"groups_per_step"`
	// WaitingFor says in words what the run waits for; "" when it has ended.
	WaitingFor string `json:"waiting_for"`
	// Reason says why a run failed.
	Reason string `json:"reason,omitempty"`
}

// Status describes the machine's state.
func (m *Machine) Status() Status {
	s := &m.state
	status := Status{Committed: s.Committed, LastStep: m.spec.LastStep(), WarmSteps: m.spec.WarmSteps,
		GroupsReady: m.readyForNext(), GroupsPerStep: m.spec.GroupsPerStep, Reason: s.Failure}
	status.Phase, status.WaitingFor = m.phase()
	return status
}

// readyForNext counts the ready groups that belong to the next step's batch.
func (m *Machine) readyForNext() int {
	return sort.Search(len(m.state.Ready), func(i int) bool {
		return m.state.Ready[i].Number >= m.consumed()+m.spec.GroupsPerStep
	})
}

func (m *Machine) phase() (phase, waitingFor string) {
	s := &m.state
	inFlight := m.inFlight()
	switch {
	case s.Outcome != "":
		return string(s.Outcome), ""
	case s.Failure != "":
		return "failing", inFlight
	case s.Cancelling:
		return "cancelling", inFlight
	case s.Paused && inFlight != "":
		return "pausing", inFlight
	case s.Paused:
		return "paused", "resume"
	case !s.Known:
		return "preparing", inFlight
	case s.Training != 0 && s.Training <= m.spec.WarmSteps:
		return "warm-start", inFlight
	case s.Training != 0:
		return "training", inFlight
	case len(s.Evaluating) > 0 && s.Control.Admitted <= m.consumed():
		return "evaluating", inFlight
	}
	return "rolling-out", fmt.Sprintf("groups: %d of %d ready", m.readyForNext(), m.spec.GroupsPerStep)
}

// inFlight names what the run could not leave now without losing it; "" when that is nothing.
func (m *Machine) inFlight() string {
	s := &m.state
	switch {
	case !s.Known:
		return "the run folder to be prepared"
	case s.Training != 0:
		return fmt.Sprintf("the learner to commit step %d", s.Training)
	case len(s.Evaluating) > 0:
		return fmt.Sprintf("the evaluation of version %d", s.Evaluating[0])
	}
	return ""
}
