package runstate

import (
	"fmt"
	"slices"
	"sort"
)

// State is everything a machine remembers. It is plain data, carried over continue-as-new as JSON.
type State struct {
	// Known is true once the folder has been looked at.
	Known bool `json:"known"`
	// Committed is the last committed step, which is also the policy version.
	Committed int `json:"committed"`
	// Weights are those of the committed version.
	Weights Ref `json:"weights"`
	// Ready are finished groups not yet trained, sorted by number, each number once.
	Ready []GroupRef `json:"ready"`
	// Evaluated are versions whose evaluation is recorded, ascending.
	Evaluated []int `json:"evaluated"`
	// Training is the step in flight; 0 when none is.
	Training int `json:"training"`
	// Evaluating are the versions whose evaluation is in flight.
	Evaluating []int `json:"evaluating"`
	// PoolsStarted is true once rollout pools were started.
	PoolsStarted bool `json:"pools_started"`
	// Control is what was last published.
	Control Control `json:"control"`
	// Fence is the last fencing number given out.
	Fence int `json:"fence"`
	// Paused, Cancelling and HandingOver are wishes that take effect at a safe point.
	Paused      bool `json:"paused"`
	Cancelling  bool `json:"cancelling"`
	HandingOver bool `json:"handing_over"`
	// Failure is why the run cannot go on; "" while it can.
	Failure string `json:"failure"`
	// Outcome is set once, at the end.
	Outcome Outcome `json:"outcome"`
}

// Machine decides. It is used by one goroutine at a time.
type Machine struct {
	spec  Spec
	state State
	out   []Command
}

// New returns a machine at the start of a plan.
func New(spec Spec) *Machine { return &Machine{spec: spec} }

// Restore returns a machine that goes on from a state taken when nothing was in flight.
func Restore(spec Spec, state State) *Machine {
	state.HandingOver = false
	return &Machine{spec: spec, state: state}
}

// State returns a copy of what the machine remembers.
func (m *Machine) State() State {
	state := m.state
	state.Ready = slices.Clone(state.Ready)
	state.Evaluated = slices.Clone(state.Evaluated)
	state.Evaluating = slices.Clone(state.Evaluating)
	return state
}

// Step takes one event and returns what to do, in order. Events that repeat or come late change nothing.
func (m *Machine) Step(event Event) []Command {
	m.out = nil
	if m.state.Outcome != "" {
		return nil
	}
	m.apply(event)
	m.advance()
	return m.out
}

func (m *Machine) emit(command Command) { m.out = append(m.out, command) }

func (m *Machine) note(format string, args ...any) { m.emit(Note{Text: fmt.Sprintf(format, args...)}) }

// fail notes why the run cannot go on. The first cause stays: what follows is often its consequence.
func (m *Machine) fail(format string, args ...any) {
	if m.state.Failure == "" {
		m.state.Failure = fmt.Sprintf(format, args...)
	}
}

// apply writes the event into the state.
func (m *Machine) apply(event Event) {
	s := &m.state
	switch e := event.(type) {
	case Prepared:
		m.prepared(e)
	case StepCommitted:
		if e.Step == s.Training && e.Step == s.Committed+1 {
			s.Training, s.Committed, s.Weights = 0, e.Step, e.Weights
			s.Ready = slices.DeleteFunc(s.Ready, func(g GroupRef) bool { return g.Number < m.consumed() })
		}
	case StepFailed:
		if e.Step == s.Training {
			s.Training = 0
			m.fail("step %d: %s", e.Step, e.Reason)
		}
	case GroupReady:
		m.groupReady(e.Group)
	case Evaluated:
		if m.evaluationEnded(e.Version) {
			s.Evaluated = append(s.Evaluated, e.Version)
			slices.Sort(s.Evaluated)
		}
	case EvaluationFailed:
		if m.evaluationEnded(e.Version) {
			m.fail("evaluation of version %d: %s", e.Version, e.Reason)
		}
	case PoolFailed:
		if s.PoolsStarted { // else it is news of an earlier run of the same folder
			m.fail("rollout pool %d: %s", e.Pool, e.Reason)
		}
	case Broken:
		m.fail("%s", e.Reason)
	case PauseAsked:
		if !s.Paused {
			s.Paused = true
			m.note("pause asked at step %d", s.Committed)
		}
	case ResumeAsked:
		if s.Paused {
			s.Paused = false
			m.note("resumed at step %d", s.Committed)
		}
	case CancelAsked:
		if !s.Cancelling {
			s.Cancelling = true
			m.note("cancel asked at step %d", s.Committed)
		}
	case HandoverAsked:
		s.HandingOver = true
	}
}

func (m *Machine) prepared(e Prepared) {
	s := &m.state
	if s.Known {
		return
	}
	s.Known, s.Committed, s.Weights = true, e.Committed, e.Weights
	s.Fence = max(s.Fence, e.Fence)
	s.Control.Revision = max(s.Control.Revision, e.Revision)
	s.Evaluated = slices.Clone(e.Evaluated)
	slices.Sort(s.Evaluated)
	if e.Committed < 0 || e.Committed > m.spec.LastStep() {
		m.fail("the run's folder holds step %d, the plan has %d steps: submit with the plan that made the folder", e.Committed, m.spec.LastStep())
		return
	}
	if e.Committed > 0 {
		m.note("continuing from step %d of %d", e.Committed, m.spec.LastStep())
	}
	for version := m.spec.WarmSteps; version < e.Committed; version++ {
		if m.spec.EvaluationDue(version) && !slices.Contains(s.Evaluated, version) {
			m.note("version %d was not evaluated before the run was started again", version)
		}
	}
}

// groupReady keeps a group for its step. A group that is trained comes late; one that is not admitted
// comes from a pool of an earlier run of the same folder, and this run's pools find it in the store
// once it is admitted.
func (m *Machine) groupReady(group GroupRef) {
	s := &m.state
	if group.Number < m.consumed() || group.Number >= s.Control.Admitted {
		return
	}
	at := sort.Search(len(s.Ready), func(i int) bool { return s.Ready[i].Number >= group.Number })
	if at < len(s.Ready) && s.Ready[at].Number == group.Number {
		return
	}
	s.Ready = slices.Insert(s.Ready, at, group)
}

// evaluationEnded takes an evaluation out of flight; false when it was not in flight.
func (m *Machine) evaluationEnded(version int) bool {
	s := &m.state
	before := len(s.Evaluating)
	s.Evaluating = slices.DeleteFunc(s.Evaluating, func(v int) bool { return v == version })
	return len(s.Evaluating) < before
}

// consumed is the number of groups already trained.
func (m *Machine) consumed() int {
	return max(0, m.state.Committed-m.spec.WarmSteps) * m.spec.GroupsPerStep
}

// advance issues every command the state allows.
func (m *Machine) advance() {
	s := &m.state
	if !s.Known {
		if s.Failure != "" {
			m.finish(Failed, s.Failure)
		}
		return
	}
	idle := s.Training == 0 && len(s.Evaluating) == 0
	switch {
	case s.Failure != "":
		if idle {
			m.finish(Failed, s.Failure)
		}
		return
	case s.Cancelling:
		if idle {
			m.finish(Cancelled, "")
		}
		return
	case idle && m.done():
		m.finish(Completed, "")
		return
	case s.HandingOver:
		if idle {
			m.emit(HandOver{})
		}
		return
	case s.Paused:
		m.publish()
		return
	}
	m.evaluate()
	m.publish()
	m.train()
}

// done says whether every step is committed and the last version is evaluated.
func (m *Machine) done() bool {
	return m.state.Committed == m.spec.LastStep() && slices.Contains(m.state.Evaluated, m.spec.LastStep())
}

// evaluate issues the evaluation that is due at the committed version, if any.
func (m *Machine) evaluate() {
	s := &m.state
	if !m.spec.EvaluationDue(s.Committed) || slices.Contains(s.Evaluated, s.Committed) || slices.Contains(s.Evaluating, s.Committed) {
		return
	}
	s.Evaluating = append(s.Evaluating, s.Committed)
	m.emit(Evaluate{Version: s.Committed, Weights: s.Weights})
}

// publish brings the control object up to date, and the pools to life once there is work for them.
func (m *Machine) publish() {
	s := &m.state
	if !s.PoolsStarted && (s.Committed < m.spec.WarmSteps || m.admitted() <= m.consumed()) {
		return // rollout workers have nothing to do yet, or never will
	}
	want := Control{Revision: s.Control.Revision, Version: s.Committed, Weights: s.Weights,
		Admitted: m.admitted(), Consumed: m.consumed()}
	if want != s.Control {
		want.Revision++
		s.Control = want
		m.emit(PublishControl{Control: want})
	}
	if !s.PoolsStarted {
		s.PoolsStarted = true
		m.emit(StartPools{Pools: m.spec.Pools})
	}
}

// admitted is how many groups may have been started: those of the steps that the committed version
// may still sample for. The first are admitted once the version they start from is evaluated. A pause
// admits nothing beyond what was admitted before.
func (m *Machine) admitted() int {
	s := &m.state
	measured := s.Committed > m.spec.WarmSteps || slices.Contains(s.Evaluated, m.spec.WarmSteps)
	if s.Paused || !measured {
		return s.Control.Admitted
	}
	steps := min(s.Committed-m.spec.WarmSteps+1+m.spec.Staleness, m.spec.TrainSteps)
	return steps * m.spec.GroupsPerStep
}

// train issues the next step when its batch is there.
func (m *Machine) train() {
	s := &m.state
	next := s.Committed + 1
	if s.Training != 0 || next > m.spec.LastStep() {
		return
	}
	command := TrainStep{Step: next, Kind: Warm}
	if next > m.spec.WarmSteps {
		batch, full := m.batch()
		if !full {
			return
		}
		command.Kind, command.Batch = Reinforce, batch
	}
	s.Fence++
	command.Fence = s.Fence
	s.Training = next
	m.emit(command)
}

// batch returns the groups of the next reinforcement step in order of their numbers, and whether all
// of them are ready.
func (m *Machine) batch() ([]GroupRef, bool) {
	s := &m.state
	if len(s.Ready) < m.spec.GroupsPerStep {
		return nil, false
	}
	batch := slices.Clone(s.Ready[:m.spec.GroupsPerStep])
	for i, group := range batch {
		if group.Number != m.consumed()+i {
			return nil, false
		}
	}
	return batch, true
}

// finish ends the run and sends the rollout workers home.
func (m *Machine) finish(outcome Outcome, reason string) {
	s := &m.state
	if outcome == Completed && s.Committed != m.spec.LastStep() {
		outcome, reason = Failed, fmt.Sprintf("ended at step %d of %d", s.Committed, m.spec.LastStep())
	}
	s.Outcome, s.Failure = outcome, reason
	if s.Known {
		s.Control = Control{Revision: s.Control.Revision + 1, Version: s.Committed, Weights: s.Weights,
			Admitted: s.Control.Admitted, Consumed: m.consumed(), Stopped: true}
		m.emit(PublishControl{Control: s.Control})
	}
	m.emit(Finish{Outcome: outcome, Reason: reason})
}
