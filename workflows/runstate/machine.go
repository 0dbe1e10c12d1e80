package runstate

import (
	"fmt"
	"slices"
	"time"
)

// Machine decides. It is used by one goroutine at a time.
type Machine struct {
	submitted Spec
	state     State
	now       time.Time // of the event being taken
	recall    bool      // a group was taken out of the hands of a loop that plays it
	// places counts the open groups at each place; nil when they have to be counted anew.
	places map[Place]int
	out    []Command
}

// New returns a machine at the start of a plan.
func New(spec Spec) *Machine { return &Machine{submitted: spec} }

// spec is the plan in force.
func (m *Machine) spec() *Spec {
	if m.state.Spec != nil {
		return m.state.Spec
	}
	return &m.submitted
}

// Step takes one event that happened at now and returns what to do, in order. Events that repeat or come
// late change nothing.
func (m *Machine) Step(now time.Time, event Event) []Command {
	m.out = nil
	if m.state.Outcome != "" {
		return nil
	}
	m.now, m.recall = now, false
	ready, isReady := event.(GroupReady)
	if !isReady {
		m.places = nil
	}
	m.apply(event)
	if !isReady || !m.nothingFollows(ready.Group) {
		m.places = nil
		m.advance()
	}
	m.lookAtStall()
	return m.out
}

// nothingFollows says that a finished group leads to no command: it frees nothing that staleness bounds, so
// nothing is admitted; no group waits, so none is assigned; and no batch is full. Most events end that
// way, so their cost must not grow with the number of open groups.
func (m *Machine) nothingFollows(g GroupRef) bool {
	s, spec := &m.state, m.spec()
	settled := s.Known && s.Failure == "" && !s.Cancelling && !s.Paused && !s.HandingOver && len(s.Pools) > 0
	if !settled || spec.Concurrency > 0 {
		return false
	}
	if m.places == nil {
		m.places = map[Place]int{}
		for i := range s.Open {
			m.places[s.Open[i].Place]++
		}
	}
	switch {
	case m.places[Waiting] > 0:
		return false
	case s.Training != 0:
		return true
	}
	return m.places[Ready] < spec.GroupsPerStep && s.Committed-g.Oldest <= spec.Staleness
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
	switch e := event.(type) {
	case Prepared:
		m.prepared(e)
	case StepCommitted:
		m.committed(e)
	case StepFailed:
		if e.Step == m.state.Training {
			m.state.Training = 0
			m.fail("step %d: %s", e.Step, e.Reason)
		}
	case StepTimedOut:
		m.timedOut(e)
	case StepCorrupt:
		m.stepCorrupt(e)
	case WeightsCorrupt:
		m.weightsCorrupt(e)
	case Repaired:
		m.repaired(e)
	case LeaseGranted:
		m.leaseGranted(e)
	case LeaseWaiting:
		m.leaseWaiting(e)
	case LeaseYield:
		m.leaseYield(e)
	case LeaseRevoked:
		m.leaseRevoked(e)
	case WorkLeft:
		m.workLeft(e)
	default:
		m.told(event)
	}
}

// told writes news of rollouts and evaluations into the state.
func (m *Machine) told(event Event) {
	switch e := event.(type) {
	case GroupReady:
		m.groupReady(e)
	case GroupShort:
		m.groupShort(e)
	case GroupDropped:
		if g := m.state.group(e.Number); g != nil && (g.Place == Waiting || g.Place == Playing) {
			m.drop(e.Number, e.Reason)
		}
	case Evaluated:
		m.evaluated(e)
	case EvaluationWaiting:
		if m.state.Evaluating && m.state.Due[0].Version == e.Version {
			m.state.EvaluationWaits = e.Reason
		}
	case EvaluationFailed:
		if m.evaluationEnded(e.Version) {
			m.fail("evaluation of version %d: %s", e.Version, e.Reason)
		}
	case PoolServing:
		m.poolServing(e)
	case PoolLost:
		m.poolLost(e)
	case PoolQuiet:
		m.poolQuiet(e)
	case PoolFailed:
		if len(m.state.Pools) > 0 { // else it is news of an earlier run of the same folder
			m.fail("rollout pool %d: %s", e.Pool, e.Reason)
		}
	case Broken:
		m.fail("%s", e.Reason)
	default:
		m.asked(event)
	}
}

// asked writes what people and the workflow ask for into the state.
func (m *Machine) asked(event Event) {
	s := &m.state
	switch e := event.(type) {
	case Changed:
		m.changed(e)
	case PauseAsked:
		if !s.Paused {
			s.Paused, s.Times.PauseAsked = true, m.now
			m.note("pause asked at step %d", s.Committed)
		}
	case ResumeAsked:
		m.resume()
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
	s.Spec, s.Config = e.Spec, e.Config
	s.Fence = max(s.Fence, e.Fence)
	s.Control.Revision = max(s.Control.Revision, e.Revision)
	s.Evaluated = slices.Clone(e.Evaluated)
	slices.Sort(s.Evaluated)
	s.NextGroup = e.NextGroup
	for _, number := range slices.Sorted(slices.Values(e.Open)) {
		s.Open = append(s.Open, Group{Number: number, Moved: true})
	}
	m.progress()
	if e.Committed < 0 || e.Committed > m.spec().LastStep() {
		m.fail("the run's folder holds step %d, the plan has %d steps: submit with the plan that made the folder", e.Committed, m.spec().LastStep())
		return
	}
	if e.Committed > 0 {
		m.note("continuing from step %d of %d", e.Committed, m.spec().LastStep())
	}
	for version := m.spec().WarmSteps; version < e.Committed; version++ {
		if m.spec().EvaluationDue(version) && !slices.Contains(s.Evaluated, version) {
			m.note("version %d was not evaluated before the run was started again", version)
		}
	}
	m.evaluationDue()
}

// changed puts changed settings into force, from the next step on.
func (m *Machine) changed(e Changed) {
	if e.Config <= m.state.Config {
		return
	}
	if err := e.Spec.Validate(); err != nil {
		m.note("revision %d of the config is refused: %s", e.Config, err)
		return
	}
	spec := e.Spec
	m.state.Spec, m.state.Config = &spec, e.Config
	next := m.state.Committed + 1
	if m.state.Training != 0 || m.state.Remake != nil {
		next++
	}
	m.note("from step %d on: %s (revision %d of the config)", next, e.Summary, e.Config)
}

// resume takes a pause and a hold back. The time that has passed is no stall.
func (m *Machine) resume() {
	s := &m.state
	switch {
	case s.Paused:
		m.note("resumed at step %d", s.Committed)
	case s.Held != "":
		m.note("resumed at step %d, admission goes on", s.Committed)
	default:
		return
	}
	s.Paused, s.PausedAt, s.AtRest, s.Held, s.Recent = false, 0, false, "", ""
	for i := range s.Pools {
		s.Pools[i].Quiet = false
	}
	m.state.Times.Progress = m.now
}

// advance issues every command the state allows.
func (m *Machine) advance() {
	s := &m.state
	idle := s.Training == 0 && len(s.Repairing) == 0
	switch {
	case !s.Known:
		if s.Failure != "" {
			m.finish(Failed, s.Failure)
		}
		return
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
	case idle && len(s.Corrupt) == 0 && m.done():
		m.finish(Completed, "")
		return
	}
	if !s.Paused {
		m.evaluate()
		m.dropStale()
		m.dropSurplus()
		m.admit()
		m.assign()
	}
	m.publish()
	m.rest()
	m.lease(idle)
	m.repair()
	switch {
	case s.HandingOver && idle:
		m.emit(HandOver{})
	case !s.HandingOver && !s.Paused:
		m.train()
	}
}

// rest says once that a pause has reached its safe point.
func (m *Machine) rest() {
	s := &m.state
	if s.Paused && !s.AtRest && m.unsettled() == "" {
		s.AtRest = true
		m.note("paused at step %d after %s", s.Committed, m.now.Sub(s.Times.PauseAsked).Round(100*time.Millisecond))
	}
}

// done says whether every step is committed and the last version is evaluated.
func (m *Machine) done() bool {
	s := &m.state
	return s.Committed == m.spec().LastStep() && len(s.Due) == 0 && slices.Contains(s.Evaluated, s.Committed)
}

// publish brings the control object up to date, and the pools to life once there is work for them.
func (m *Machine) publish() {
	s := &m.state
	if len(s.Pools) == 0 && len(s.Open) == 0 {
		return // rollout workers have nothing to do yet, or never will
	}
	want := Control{Revision: s.Control.Revision, Version: s.Committed, Weights: s.Weights,
		Staleness: m.spec().Staleness, Paused: s.Paused, Shares: m.shares()}
	if len(s.Pools) == 0 || m.recall || !s.Control.covers(want) {
		want.Revision++
		if want.Paused && s.PausedAt == 0 {
			s.PausedAt = want.Revision
		}
		s.Control = want
		m.emit(PublishControl{Control: want})
	}
	if len(s.Pools) == 0 {
		s.Times.Began = m.now
		for range m.spec().Pools {
			s.Pools = append(s.Pools, Pool{Since: m.now, Reason: "it has not started yet"})
		}
		m.emit(StartPools{From: 0, To: m.spec().Pools})
	}
}

// covers says whether loops that follow c do what they would do with want. Groups that a loop has reported
// may stay in its share: it knows that it is through with them, so they are no reason to publish.
func (c Control) covers(want Control) bool {
	return c.Version == want.Version && c.Weights == want.Weights && c.Staleness == want.Staleness &&
		c.Paused == want.Paused && c.Stopped == want.Stopped && slices.EqualFunc(c.Shares, want.Shares, Share.covers)
}

// covers compares two shares whose groups are in ascending order.
func (s Share) covers(want Share) bool {
	at := 0
	for _, a := range want.Groups {
		for at < len(s.Groups) && s.Groups[at].Group < a.Group {
			at++
		}
		if at == len(s.Groups) || !s.Groups[at].equal(a) {
			return false
		}
	}
	return s.Pool == want.Pool && s.Tenure == want.Tenure
}

func (a Assignment) equal(other Assignment) bool {
	return a.Group == other.Group && a.Round == other.Round && a.Moved == other.Moved && slices.Equal(a.Members, other.Members)
}

// finish ends the run and sends the rollout workers home.
func (m *Machine) finish(outcome Outcome, reason string) {
	s := &m.state
	if outcome == Completed && s.Committed != m.spec().LastStep() {
		outcome, reason = Failed, fmt.Sprintf("ended at step %d of %d", s.Committed, m.spec().LastStep())
	}
	s.Outcome, s.Failure = outcome, reason
	if s.Known {
		s.Control = Control{Revision: s.Control.Revision + 1, Version: s.Committed, Weights: s.Weights,
			Staleness: m.spec().Staleness, Stopped: true}
		m.emit(PublishControl{Control: s.Control})
	}
	if s.Learner.Asked {
		m.emit(GiveLease{})
		s.Learner = Learner{Seen: s.Learner.Seen}
	}
	m.emit(Finish{Outcome: outcome, Reason: reason})
}
