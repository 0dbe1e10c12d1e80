package runstate

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestPromises plays random worlds against the machine: commands end in any order, or not at all;
// events come twice or late; people pause and resume; the workflow continues as new; everything but
// the run's folder is lost. Whatever happens, the promises that world.command and world.look check
// hold, and the run comes to its end.
func TestPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(map[string]func(*rapid.T){
			"":           func(t *rapid.T) { w.look(t) },
			"commit":     w.commit,
			"evaluate":   w.evaluate,
			"roll out":   w.rollOut,
			"signal":     w.signal,
			"stray":      w.stray,
			"pause":      func(t *rapid.T) { w.event(t, PauseAsked{}) },
			"resume":     func(t *rapid.T) { w.event(t, ResumeAsked{}) },
			"handover":   func(t *rapid.T) { w.event(t, HandoverAsked{}) },
			"continue":   w.continueAsNew,
			"restart":    w.restart,
			"round trip": func(t *rapid.T) { w.machine = &Machine{spec: w.spec, state: roundTrip(t, w.machine.State())} },
		})
		want := w.breakDown(t)
		w.drain(t)
		if state := w.machine.State(); state.Outcome != want {
			t.Fatalf("the run ended as %q, want %q: %+v", state.Outcome, want, state)
		}
		if want == Completed && w.committed != w.spec.LastStep() {
			t.Fatalf("completed with %d of %d steps committed", w.committed, w.spec.LastStep())
		}
	})
}

// world is everything outside the machine: what the folder holds, what is under way.
type world struct {
	spec    Spec
	machine *Machine

	// The folder: it survives everything.
	committed int
	trained   map[int]int // group to step
	evaluated map[int]bool
	fence     int
	control   Control
	sampled   map[int]int // group in the store to the version it was sampled with

	// In flight.
	step       *TrainStep
	evaluating map[int]bool
	pools      bool
	handOver   bool // the machine said that the workflow may continue as new
}

func newWorld(t *rapid.T) *world {
	spec := Spec{
		WarmSteps: rapid.IntRange(0, 3).Draw(t, "warm"), TrainSteps: rapid.IntRange(0, 5).Draw(t, "train"),
		GroupsPerStep: rapid.IntRange(1, 3).Draw(t, "groups"), Staleness: rapid.IntRange(0, 3).Draw(t, "staleness"),
		EvaluateEvery: rapid.IntRange(0, 3).Draw(t, "evaluate"), Pools: rapid.IntRange(1, 2).Draw(t, "pools"),
	}
	if spec.LastStep() == 0 {
		spec.WarmSteps = 1
	}
	w := &world{spec: spec, machine: New(spec), trained: map[int]int{}, evaluated: map[int]bool{}, sampled: map[int]int{}, evaluating: map[int]bool{}}
	w.prepare(t)
	return w
}

func (w *world) prepare(t *rapid.T) {
	w.event(t, Prepared{Committed: w.committed, Weights: weights(w.committed), Evaluated: slices.Collect(maps.Keys(w.evaluated)),
		Fence: w.fence, Revision: w.control.Revision})
}

// event feeds an event to the machine, and to a copy of it that comes out of JSON: both must agree.
func (w *world) event(t *rapid.T, event Event) {
	copied := &Machine{spec: w.spec, state: roundTrip(t, w.machine.State())}
	commands := w.machine.Step(event)
	if again := copied.Step(event); !reflect.DeepEqual(commands, again) {
		t.Fatalf("%#v:\n  machine: %v\nfrom JSON: %v", event, commands, again)
	}
	for _, command := range commands {
		w.command(t, command)
	}
}

// command checks a command against the promises and sets it going.
func (w *world) command(t *rapid.T, command Command) {
	switch c := command.(type) {
	case PublishControl:
		w.publish(t, c.Control)
	case StartPools:
		if w.pools || w.control.Revision == 0 || c.Pools != w.spec.Pools {
			t.Fatalf("%#v with pools started %v and control %+v", c, w.pools, w.control)
		}
		w.pools = true
	case TrainStep:
		w.train(t, c)
	case Evaluate:
		if w.evaluating[c.Version] || w.evaluated[c.Version] || c.Version != w.committed || !w.spec.EvaluationDue(c.Version) || c.Weights != weights(c.Version) {
			t.Fatalf("%#v at step %d, in flight %v, recorded %v", c, w.committed, w.evaluating, w.evaluated)
		}
		w.evaluating[c.Version] = true
	case HandOver:
		if w.step != nil || len(w.evaluating) > 0 {
			t.Fatalf("hand-over with step %v and evaluations %v in flight", w.step, w.evaluating)
		}
		w.handOver = true
	case Finish:
		if w.step != nil || len(w.evaluating) > 0 || !w.control.Stopped {
			t.Fatalf("%#v with step %v, evaluations %v, control %+v", c, w.step, w.evaluating, w.control)
		}
		if c.Outcome == Completed && (w.committed != w.spec.LastStep() || !w.evaluated[w.committed]) {
			t.Fatalf("completed at step %d of %d, evaluated %v", w.committed, w.spec.LastStep(), w.evaluated)
		}
	}
}

func (w *world) publish(t *rapid.T, control Control) {
	learned := max(0, w.committed-w.spec.WarmSteps)
	plan := w.spec.TrainSteps * w.spec.GroupsPerStep
	switch {
	case control.Revision <= w.control.Revision:
		t.Fatalf("revision %d after %d", control.Revision, w.control.Revision)
	case control.Admitted > min((learned+1+w.spec.Staleness)*w.spec.GroupsPerStep, plan):
		t.Fatalf("%d groups admitted after %d of %d steps of %d groups", control.Admitted, learned, w.spec.TrainSteps, w.spec.GroupsPerStep)
	case control.Consumed != learned*w.spec.GroupsPerStep || control.Version != w.committed || control.Weights != weights(w.committed):
		t.Fatalf("control %+v at step %d", control, w.committed)
	case w.pools && w.machine.State().Paused && control.Admitted > w.control.Admitted:
		t.Fatalf("%d groups admitted in a pause after %d", control.Admitted, w.control.Admitted)
	}
	w.control = control
}

func (w *world) train(t *rapid.T, c TrainStep) {
	switch {
	case w.step != nil:
		t.Fatalf("step %d while step %d is in flight", c.Step, w.step.Step)
	case c.Step != w.committed+1 || c.Step > w.spec.LastStep():
		t.Fatalf("step %d after %d of %d", c.Step, w.committed, w.spec.LastStep())
	case c.Fence <= w.fence:
		t.Fatalf("fence %d after %d", c.Fence, w.fence)
	case (c.Kind == Warm) != (c.Step <= w.spec.WarmSteps):
		t.Fatalf("step %d is of kind %s", c.Step, c.Kind)
	case c.Kind == Warm && c.Batch != nil, c.Kind == Reinforce && len(c.Batch) != w.spec.GroupsPerStep:
		t.Fatalf("%s step with %d groups", c.Kind, len(c.Batch))
	}
	first := (c.Step - w.spec.WarmSteps - 1) * w.spec.GroupsPerStep
	for i, g := range c.Batch {
		version, stored := w.sampled[g.Number]
		switch step, trained := w.trained[g.Number]; {
		case g != group(first+i):
			t.Fatalf("step %d trains %v at place %d", c.Step, g, i)
		case trained:
			t.Fatalf("step %d trains group %d of step %d", c.Step, g.Number, step)
		case !stored:
			t.Fatalf("step %d trains group %d, which was never made", c.Step, g.Number)
		case c.Step-1-version > w.spec.Staleness:
			t.Fatalf("step %d trains group %d of version %d with staleness %d", c.Step, g.Number, version, w.spec.Staleness)
		}
	}
	w.fence, w.step = c.Fence, &c
}

// look checks what a person sees.
func (w *world) look(t *rapid.T) {
	status, state := w.machine.Status(), w.machine.State()
	if (status.WaitingFor == "") != (state.Outcome != "") {
		t.Fatalf("status %+v in state %+v", status, state)
	}
	if status.GroupsReady > w.spec.GroupsPerStep || status.Committed != w.committed {
		t.Fatalf("status %+v at step %d of %+v", status, w.committed, w.spec)
	}
	if (state.Training != 0) != (w.step != nil) || len(state.Evaluating) != len(w.evaluating) {
		t.Fatalf("state %+v, in flight step %v, evaluations %v", state, w.step, w.evaluating)
	}
}

// stored writes the step in flight into the folder.
func (w *world) stored() {
	w.committed = w.step.Step
	for _, g := range w.step.Batch {
		w.trained[g.Number] = w.step.Step
	}
	w.step = nil
}

func (w *world) commit(t *rapid.T) {
	if w.step == nil {
		t.Skip("no step in flight")
	}
	w.stored()
	w.event(t, StepCommitted{Step: w.committed, Weights: weights(w.committed)})
}

func (w *world) evaluate(t *rapid.T) {
	if len(w.evaluating) == 0 {
		t.Skip("no evaluation in flight")
	}
	version := rapid.SampledFrom(slices.Sorted(maps.Keys(w.evaluating))).Draw(t, "version")
	delete(w.evaluating, version)
	w.evaluated[version] = true
	w.event(t, Evaluated{Version: version})
}

// rollOut makes a group that is admitted and signals it, unless the signal stays behind.
func (w *world) rollOut(t *rapid.T) {
	if !w.pools || w.control.Stopped || w.control.Admitted == w.control.Consumed {
		t.Skip("nothing admitted")
	}
	number := rapid.IntRange(w.control.Consumed, w.control.Admitted-1).Draw(t, "group")
	if _, made := w.sampled[number]; !made {
		w.sampled[number] = w.control.Version
	}
	if rapid.Bool().Draw(t, "at once") {
		w.event(t, GroupReady{Group: group(number)})
	}
}

// signal tells the run about any group of the store, again or late.
func (w *world) signal(t *rapid.T) {
	if len(w.sampled) == 0 {
		t.Skip("no group in the store")
	}
	number := rapid.SampledFrom(slices.Sorted(maps.Keys(w.sampled))).Draw(t, "group")
	w.event(t, GroupReady{Group: group(number)})
}

// stray is an event that comes a second time or that nobody asked for: it must change nothing.
func (w *world) stray(t *rapid.T) {
	before := fmt.Sprintf("%+v", w.machine.State())
	events := []Event{
		StepCommitted{Step: w.committed, Weights: Ref{Key: "wrong"}}, StepCommitted{Step: w.committed + 2, Weights: Ref{Key: "wrong"}},
		StepFailed{Step: w.committed + 2, Reason: "stray"}, EvaluationFailed{Version: w.committed + 1, Reason: "stray"},
		Evaluated{Version: w.committed + 1}, GroupReady{Group: group(w.spec.TrainSteps * w.spec.GroupsPerStep)}, GroupReady{Group: group(-1)},
		Prepared{Committed: 7}, ContinuedAsNew{},
	}
	if !w.pools {
		events = append(events, PoolFailed{Reason: "stray"})
	}
	event := rapid.SampledFrom(events).Draw(t, "event")
	w.event(t, event)
	if after := fmt.Sprintf("%+v", w.machine.State()); after != before {
		t.Fatalf("%#v changed the state:\nfrom %s\n  to %s", event, before, after)
	}
}

// continueAsNew goes on in a fresh history where the machine allows it.
func (w *world) continueAsNew(t *rapid.T) {
	if w.machine.State().Outcome != "" || w.step != nil || len(w.evaluating) > 0 {
		t.Skip("something is in flight")
	}
	w.handOver = false
	w.machine = Restore(w.spec, roundTrip(t, w.machine.State()))
	w.event(t, ContinuedAsNew{})
}

// restart loses everything but the folder. What was in flight may have reached the folder, or not.
func (w *world) restart(t *rapid.T) {
	if w.step != nil && rapid.Bool().Draw(t, "step committed") {
		w.stored()
	}
	for _, version := range slices.Sorted(maps.Keys(w.evaluating)) {
		if rapid.Bool().Draw(t, "evaluation recorded") {
			w.evaluated[version] = true
		}
	}
	w.step, w.evaluating, w.pools, w.handOver = nil, map[int]bool{}, false, false
	w.control.Stopped = false
	w.machine = New(w.spec)
	w.prepare(t)
}

// breakDown may end the run early, and says how it has to end.
func (w *world) breakDown(t *rapid.T) Outcome {
	if outcome := w.machine.State().Outcome; outcome != "" {
		return outcome
	}
	switch rapid.SampledFrom([]string{"", "", "cancel", "step", "evaluation", "pool", "broken"}).Draw(t, "break down") {
	case "cancel":
		w.event(t, CancelAsked{})
		return Cancelled
	case "step":
		if w.step != nil {
			step := w.step.Step
			w.step = nil
			w.event(t, StepFailed{Step: step, Reason: "broken"})
			return Failed
		}
	case "evaluation":
		for version := range w.evaluating {
			delete(w.evaluating, version)
			w.event(t, EvaluationFailed{Version: version, Reason: "broken"})
			return Failed
		}
	case "pool":
		if w.pools {
			w.event(t, PoolFailed{Reason: "broken"})
			return Failed
		}
	case "broken":
		w.event(t, Broken{Reason: "broken"})
		return Failed
	}
	return Completed
}

// drain lets everything end until the run does. Every round brings at least one step or one
// evaluation, so that a run that does not end by then is stuck.
func (w *world) drain(t *rapid.T) {
	for range 4*w.spec.LastStep() + 20 {
		if w.machine.State().Outcome != "" {
			return
		}
		w.event(t, ResumeAsked{})
		if w.step != nil {
			w.commit(t)
		}
		for len(w.evaluating) > 0 {
			w.evaluate(t)
		}
		if w.handOver {
			w.continueAsNew(t)
		}
		for number := w.control.Consumed; w.pools && !w.control.Stopped && number < w.control.Admitted; number++ {
			if _, made := w.sampled[number]; !made {
				w.sampled[number] = w.control.Version
			}
			w.event(t, GroupReady{Group: group(number)})
		}
		w.look(t)
	}
	t.Fatalf("the run is stuck: %+v", w.machine.State())
}

func TestEvaluationDue(t *testing.T) {
	spec := Spec{WarmSteps: 2, TrainSteps: 5, EvaluateEvery: 2}
	var due []int
	for version := range 9 {
		if spec.EvaluationDue(version) {
			due = append(due, version)
		}
	}
	if want := []int{2, 4, 6, 7}; !slices.Equal(due, want) {
		t.Errorf("versions evaluated: got %v, want %v", due, want)
	}
}
