package runstate

import (
	"fmt"
	"slices"
	"strings"
)

// train issues the next step when its batch is there.
func (m *Machine) train() {
	s, spec := &m.state, m.spec()
	next := s.Committed + 1
	if s.Training != 0 || next > spec.LastStep() || !m.mayLearn() {
		return
	}
	command := TrainStep{Step: next, Kind: m.kind(next), Config: s.Config, Checkpoint: spec.CheckpointDue(next), Lease: *s.Learner.Lease}
	if s.Remake != nil {
		command.Config, command.Batch = s.Remake.Config, m.batch()
	} else if command.Kind == Reinforce {
		if command.Batch = m.fill(); command.Batch == nil {
			return
		}
		s.Recording = len(s.Dropped)
	}
	if s.Recording > 0 {
		command.Dropped = slices.Clone(s.Dropped[:s.Recording])
	}
	s.Fence++
	command.Fence, command.Timeout = s.Fence, m.stepTimeout(command.Kind)
	s.Training, s.TrainingSince, s.TrainingConfig, s.Remake = next, m.now, command.Config, nil
	m.emit(command)
}

// batch is the batch of a step that is made again.
func (m *Machine) batch() []GroupRef {
	var batch []GroupRef
	for i := range m.state.Open {
		if m.state.Open[i].Place == InBatch {
			batch = append(batch, m.state.Open[i].ref())
		}
	}
	return batch
}

// fill takes the groups of the next reinforcement step into its batch, in order of their numbers; nil
// when they are not all there. A synchronous step takes the lowest open numbers, any other one the
// lowest that are ready.
func (m *Machine) fill() []GroupRef {
	s, want := &m.state, m.spec().GroupsPerStep
	var chosen []int
	for i := range s.Open {
		ready := s.Open[i].Place == Ready
		if !ready && m.spec().Staleness == 0 {
			return nil
		}
		if ready {
			chosen = append(chosen, i)
		}
		if len(chosen) == want {
			break
		}
	}
	if len(chosen) < want {
		return nil
	}
	batch := make([]GroupRef, want)
	for k, i := range chosen {
		s.Open[i].Place = InBatch
		batch[k] = s.Open[i].ref()
	}
	return batch
}

func (g *Group) ref() GroupRef {
	return GroupRef{Number: g.Number, Object: *g.Object, Oldest: g.Oldest, Newest: g.Newest}
}

// dropStale drops the groups in the store that are too old for the next step. It is the second of the
// two rules that bound staleness: admission alone lets a straggler be overtaken.
func (m *Machine) dropStale() {
	s := &m.state
	if s.Training != 0 {
		return // the version that the next step trains is not known yet
	}
	for i := len(s.Open) - 1; i >= 0; i-- {
		g := &s.Open[i]
		if behind := s.Committed - g.Oldest; g.Place == Ready && behind > m.spec().Staleness {
			m.drop(g.Number, fmt.Sprintf("stale: %d versions behind, %d allowed", behind, m.spec().Staleness))
		}
	}
}

// dropSurplus drops open groups that the plan has no step for: those that were dropped once, and forgotten
// with the history before a manifest recorded it.
func (m *Machine) dropSurplus() {
	s, spec := &m.state, m.spec()
	left := (spec.LastStep() - max(s.Committed, spec.WarmSteps)) * spec.GroupsPerStep
	for i := len(s.Open) - 1; i >= 0 && len(s.Open) > left; i-- {
		if s.Open[i].Place != InBatch {
			m.recall = true
			m.drop(s.Open[i].Number, "surplus: the plan has no step for it")
		}
	}
}

// drop settles an open group without training.
func (m *Machine) drop(number int, reason string) {
	s := &m.state
	at, open := s.find(number)
	if !open {
		return
	}
	s.Dropped = append(s.Dropped, Dropped{Number: number, Reason: reason, Object: s.Open[at].Object})
	s.Open = slices.Delete(s.Open, at, at+1)
	class, _, _ := strings.Cut(reason, ":")
	s.Drops = add(s.Drops, class, 1)
}

func (m *Machine) committed(e StepCommitted) {
	s := &m.state
	if e.Step != s.Training || e.Step != s.Committed+1 {
		return
	}
	kind := m.kind(e.Step)
	s.Training, s.Late, s.Committed, s.Weights = 0, 0, e.Step, e.Weights
	s.Open = slices.DeleteFunc(s.Open, func(g Group) bool { return g.Place == InBatch })
	s.Dropped, s.Recording = slices.Clone(s.Dropped[s.Recording:]), 0
	if len(s.Dropped) == 0 {
		s.Dropped = nil
	}
	s.Times.took(kind, e.Took)
	m.progress()
	m.evaluationDue()
}

func (m *Machine) kind(step int) Kind {
	if step <= m.spec().WarmSteps {
		return Warm
	}
	return Reinforce
}

// mostLate is how many attempts at a step may each take longer than the longest time-out.
const mostLate = 3

// timedOut takes a step out of flight that took too long. What was measured is forgotten, since it does
// not fit any more, so that the next attempt has the longest time-out there is.
func (m *Machine) timedOut(e StepTimedOut) {
	s := &m.state
	if e.Step != s.Training {
		return
	}
	allowed := m.stepTimeout(m.kind(e.Step))
	s.Times.forget(m.kind(e.Step))
	m.remake()
	if allowed >= m.spec().StepTimeout {
		s.Late++
	}
	if s.Late == mostLate {
		m.fail("step %d took longer than %s, %d times: raise limits.step_timeout, or see the learner's log for what it waits for",
			e.Step, m.spec().StepTimeout, mostLate)
		return
	}
	m.note("step %d took longer than %s and is made again", e.Step, allowed)
}

// withdraw takes the step in flight back: its groups are ready, its drops not recorded.
func (m *Machine) withdraw() {
	s := &m.state
	s.Training, s.Recording = 0, 0
	for i := range s.Open {
		if s.Open[i].Place == InBatch {
			s.Open[i].Place = Ready
		}
	}
}

// stepCorrupt has the groups made again that do not hold what they held.
func (m *Machine) stepCorrupt(e StepCorrupt) {
	s := &m.state
	if e.Step != s.Training {
		return
	}
	m.withdraw()
	for _, number := range e.Groups {
		if g := s.group(number); g != nil && g.Place == Ready {
			*g = Group{Number: number, Round: g.Round + 1, Members: g.Members, Spares: g.Spares, Tried: g.Tried, Moved: true}
			m.note("group %d was corrupt in the store and is made again", number)
		}
	}
}

func (m *Machine) weightsCorrupt(e WeightsCorrupt) {
	s := &m.state
	if !s.Known || e.Key == "" || slices.Contains(s.Repairing, e.Key) || slices.Contains(s.Corrupt, e.Key) {
		return
	}
	s.Corrupt = append(slices.Clone(s.Corrupt), e.Key)
	m.note("%s is corrupt and is made again", e.Key)
}

func (m *Machine) repaired(e Repaired) {
	s := &m.state
	at := slices.Index(s.Repairing, e.Key)
	if at < 0 {
		return
	}
	s.Repairing = slices.Delete(slices.Clone(s.Repairing), at, at+1)
	if len(s.Repairing) == 0 {
		s.Repairing = nil
	}
	if e.Reason != "" {
		m.fail("%s is corrupt and cannot be made again: %s", e.Key, e.Reason)
		return
	}
	m.note("%s is whole again", e.Key)
}

// evaluationDue queues the evaluation of the committed version if one is due.
func (m *Machine) evaluationDue() {
	s := &m.state
	if !m.spec().EvaluationDue(s.Committed) || slices.Contains(s.Evaluated, s.Committed) {
		return
	}
	s.Due = append(s.Due, Version{Version: s.Committed, Weights: s.Weights})
}

// evaluate starts the next evaluation. One is in flight at a time: they share the rollout workers.
func (m *Machine) evaluate() {
	s := &m.state
	if s.Evaluating || len(s.Due) == 0 {
		return
	}
	s.Evaluating, s.EvaluationWaits = true, ""
	m.emit(Evaluate{Version: s.Due[0].Version, Weights: s.Due[0].Weights, Timeout: m.evaluationTimeout()})
}

func (m *Machine) evaluated(e Evaluated) {
	if !m.evaluationEnded(e.Version) {
		return
	}
	s := &m.state
	s.Evaluated = append(s.Evaluated, e.Version)
	slices.Sort(s.Evaluated)
	s.Times.Evaluations = recent(s.Times.Evaluations, e.Took)
	m.progress()
}

// evaluationEnded takes an evaluation out of flight; false when it was not in flight.
func (m *Machine) evaluationEnded(version int) bool {
	s := &m.state
	if !s.Evaluating || s.Due[0].Version != version {
		return false
	}
	s.Evaluating, s.EvaluationWaits, s.Due = false, "", slices.Clone(s.Due[1:])
	return true
}
