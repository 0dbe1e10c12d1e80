package runstate

import (
	"fmt"
	"slices"
	"time"
)

// Status is a run as a person sees it.
type Status struct {
	// Phase is one word: preparing, warm-start, rolling-out, queued (all that is missing is a device for the
	// learner), training, evaluating, pausing, paused, held, cancelling, failing, completed, failed, cancelled.
	Phase string `json:"phase"`
	// Committed and LastStep count steps through the whole plan; WarmSteps of them are supervised.
	Committed int `json:"committed"`
	LastStep  int `json:"last_step"`
	WarmSteps int `json:"warm_steps"`
	// GroupsReady of GroupsPerStep groups of the next step are in the store; GroupsPlaying are with pools.
	GroupsReady   int `json:"groups_ready"`
	GroupsPerStep int `json:"groups_per_step"`
	GroupsPlaying int `json:"groups_playing"`
	// Staleness is the bound in force, Config the revision of the settings.
	Staleness int `json:"staleness"`
	Config    int `json:"config"`
	// WaitingFor says in words what the run waits for, since when; "" when it has ended.
	WaitingFor string    `json:"waiting_for"`
	Since      time.Time `json:"since"`
	// Stalled is set when it waits longer than runs like it do.
	Stalled *Stall `json:"stalled,omitempty"`
	// Held says why admission stopped; "" when it did not.
	Held string `json:"held,omitempty"`
	// Learner is the learner's lease, or why it has none.
	Learner LearnerStatus `json:"learner"`
	// Pools are the rollout pools.
	Pools []PoolStatus `json:"pools,omitempty"`
	// Failures counts failed attempts by kind, Drops groups settled without training by reason.
	Failures []Count `json:"failures,omitempty"`
	Drops    []Count `json:"drops,omitempty"`
	// LearnerBusy is the share of the time since the first reinforcement step that the learner worked.
	LearnerBusy float64 `json:"learner_busy"`
	// Reason says why a run failed.
	Reason string `json:"reason,omitempty"`
}

// Stall names what a run waits for too long.
type Stall struct {
	What    string    `json:"what"`
	Since   time.Time `json:"since"`
	Unblock string    `json:"unblock"` // what would end the wait
}

// LearnerStatus is the lease that steps and repairs run under. All is empty while the run needs none.
type LearnerStatus struct {
	// Where names the devices and their host for people.
	Where   string   `json:"where,omitempty"`
	Agent   string   `json:"agent,omitempty"`
	Devices []string `json:"devices,omitempty"`
	Fence   int      `json:"fence,omitempty"`
	// Waiting says why there is no lease yet; "" also while nobody has said.
	Waiting string `json:"waiting,omitempty"`
	// Yield says why the lease is given back at the next step.
	Yield string `json:"yield,omitempty"`
}

// PoolStatus is one rollout pool.
type PoolStatus struct {
	Pool    int       `json:"pool"`
	Serving bool      `json:"serving"`
	Quiet   bool      `json:"quiet"`
	Tenure  int       `json:"tenure"`
	Worker  string    `json:"worker,omitempty"`
	Since   time.Time `json:"since"`            // in this condition
	Reason  string    `json:"reason,omitempty"` // why it does not serve
	Groups  int       `json:"groups"`           // in its share
}

// Count is how often something happened.
type Count struct {
	What  string `json:"what"`
	Times int    `json:"times"`
}

// Status describes the machine's state at now.
func (m *Machine) Status(now time.Time) Status {
	s, spec := &m.state, m.spec()
	status := Status{
		Committed: s.Committed, LastStep: spec.LastStep(), WarmSteps: spec.WarmSteps,
		GroupsReady: m.readyForNext(), GroupsPerStep: spec.GroupsPerStep, GroupsPlaying: s.count(Playing),
		Staleness: spec.Staleness, Config: s.Config, Held: s.Held, Since: s.Times.Progress,
		Failures: slices.Clone(s.Failures), Drops: slices.Clone(s.Drops), Reason: s.Failure,
	}
	status.Phase, status.WaitingFor = m.phase()
	status.Learner = s.Learner.status()
	if !s.Times.Stalled.IsZero() {
		what, unblock := m.wait()
		status.Stalled = &Stall{What: what, Since: s.Times.Progress, Unblock: unblock}
	}
	for number, p := range s.Pools {
		groups := 0
		for i := range s.Open {
			if s.Open[i].Place == Playing && s.Open[i].Pool == number {
				groups++
			}
		}
		status.Pools = append(status.Pools, PoolStatus{Pool: number, Serving: p.Serving, Quiet: p.Quiet, Tenure: p.Tenure,
			Worker: p.Worker, Since: p.Since, Reason: p.Reason, Groups: groups})
	}
	if elapsed := now.Sub(s.Times.Began); !s.Times.Began.IsZero() && elapsed > 0 {
		busy := s.Times.Busy
		if s.Training > spec.WarmSteps {
			busy += now.Sub(s.TrainingSince)
		}
		status.LearnerBusy = min(1, float64(busy)/float64(elapsed))
	}
	return status
}

func (l Learner) status() LearnerStatus {
	status := LearnerStatus{Waiting: l.Waiting, Yield: l.Yield}
	if l.Lease != nil {
		status.Where, status.Agent, status.Fence = l.Lease.where(), l.Lease.Agent, l.Lease.Fence
		status.Devices = slices.Clone(l.Lease.Devices)
	}
	return status
}

// readyForNext counts the groups in the store that the next batch can take.
func (m *Machine) readyForNext() int {
	ready, seen := 0, 0
	for i := range m.state.Open {
		g := &m.state.Open[i]
		if g.Place == InBatch {
			continue
		}
		if seen++; m.spec().Staleness == 0 && seen > m.spec().GroupsPerStep {
			break
		}
		if g.Place == Ready {
			ready++
		}
	}
	return min(ready, m.spec().GroupsPerStep)
}

func (m *Machine) phase() (phase, waitingFor string) {
	s := &m.state
	what, _ := m.wait()
	switch {
	case s.Outcome != "":
		return string(s.Outcome), ""
	case s.Failure != "":
		return "failing", what
	case s.Cancelling:
		return "cancelling", what
	case s.Paused && m.unsettled() != "":
		return "pausing", m.unsettled()
	case s.Paused:
		return "paused", "resume"
	case !s.Known:
		return "preparing", what
	case s.Training != 0 && s.Training <= m.spec().WarmSteps:
		return "warm-start", what
	case s.Training != 0:
		return "training", what
	case m.lacksDevice():
		return "queued", what
	case s.Held != "" && s.count(Playing) == 0:
		return "held", what
	case s.Evaluating && s.count(Playing)+s.count(Waiting) == 0:
		return "evaluating", what
	}
	return "rolling-out", what
}

// unsettled names what a pause waits for; "" when the run stands still.
func (m *Machine) unsettled() string {
	s := &m.state
	switch {
	case !s.Known || s.Training != 0 || len(s.Repairing)+len(s.Corrupt) > 0:
		what, _ := m.wait()
		return what
	case s.Evaluating:
		return m.evaluating()
	case m.restless() > 0:
		return fmt.Sprintf("the episodes of %d of %d pools to finish their turns", m.restless(), len(s.Pools))
	}
	return ""
}

func (m *Machine) evaluating() string {
	what := fmt.Sprintf("the evaluation of version %d", m.state.Due[0].Version)
	if m.state.EvaluationWaits != "" {
		what += ", which waits for a device: " + m.state.EvaluationWaits
	}
	return what
}

// What ends a wait.
const (
	needLearner = "needs a learner that answers: `turnwise describe` shows who has the work, `turnwise worker --roles learner` starts one"
	needRollout = "needs a rollout worker that answers: `turnwise describe` shows who has the work, `turnwise worker --roles rollout` starts one"
)

// wait names what the run waits for, and what would end the wait.
func (m *Machine) wait() (what, unblock string) {
	s := &m.state
	switch {
	case !s.Known:
		return "the run folder to be prepared", needLearner
	case s.Training != 0:
		return fmt.Sprintf("the learner to commit step %d", s.Training), needLearner
	case len(s.Repairing) > 0:
		return s.Repairing[0] + " to be made again", needLearner
	case m.lacksDevice():
		return m.device(), needDevice
	case s.Held != "" && s.count(Playing) == 0:
		return "the cause of failed rollouts to be mended (" + s.Held + ")", "resume the run once it is"
	case s.Evaluating && s.count(Playing)+s.count(Waiting) == 0:
		return m.evaluating(), needRollout
	}
	what = fmt.Sprintf("groups: %d of %d ready", m.readyForNext(), m.spec().GroupsPerStep)
	serving, reason := 0, ""
	for _, p := range s.Pools {
		if p.Serving {
			serving++
		} else if reason == "" {
			reason = p.Reason
		}
	}
	if serving == 0 {
		what += ", no pool is served"
		if reason != "" {
			what += ": " + reason
		}
		return what, needRollout
	}
	return what, fmt.Sprintf("pools play %d groups: `turnwise describe` shows the pools and what failed", s.count(Playing))
}
