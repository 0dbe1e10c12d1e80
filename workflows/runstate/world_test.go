package runstate

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"pgregory.net/rapid"
)

// world is everything outside the machine: what the folder holds, what is under way, what pools do.
type world struct {
	submitted, spec Spec // spec is the one in force
	machine         *Machine
	now             time.Time
	// The folder: it survives everything.
	committed int
	trained   map[int]int  // group to step
	dropped   map[int]bool // groups that manifests record as dropped
	evaluated map[int]bool
	config    int
	fence     int
	control   Control
	stored    map[int]GroupRef
	admitted  int // 1 + the largest group number ever in a share
	// loosest is the largest staleness ever in force.
	loosest int
	// forgotten counts groups whose drop no manifest recorded before a restart.
	forgotten int
	// In flight.
	step       *TrainStep
	evaluating int // version; −1 when none
	repairing  map[string]bool
	pools      []bool // started pools: whether a loop serves
	tenures    []int
	tenure     int // last one given out
	handOver   bool
	asked      bool // a hand-over was asked for
	devices    leases
}

func newWorld(t *rapid.T) *world {
	spec := Spec{
		WarmSteps: rapid.IntRange(0, 2).Draw(t, "warm"), TrainSteps: rapid.IntRange(0, 5).Draw(t, "train"),
		GroupsPerStep: rapid.IntRange(1, 3).Draw(t, "groups"), GroupSize: rapid.IntRange(1, 3).Draw(t, "size"),
		Staleness: rapid.IntRange(0, 3).Draw(t, "staleness"), Concurrency: rapid.IntRange(0, 3).Draw(t, "concurrency"),
		Pools: rapid.IntRange(1, 3).Draw(t, "pools"), Slots: rapid.IntRange(1, 2).Draw(t, "slots"),
		EvaluateEvery: rapid.IntRange(0, 3).Draw(t, "evaluate"), CheckpointEvery: rapid.IntRange(1, 3).Draw(t, "checkpoint"),
		Failures:    Failures{Retries: rapid.IntRange(0, 1).Draw(t, "retries"), Replacements: rapid.IntRange(0, 1).Draw(t, "replacements"), MaxShare: 0.5, Window: rapid.IntRange(2, 6).Draw(t, "window")},
		StepTimeout: time.Hour, StallAfter: 10 * time.Minute,
	}
	if spec.LastStep() == 0 {
		spec.WarmSteps = 1
	}
	w := &world{submitted: spec, spec: spec, machine: New(spec), now: time.Unix(1_000_000, 0).UTC(), loosest: spec.Staleness,
		trained: map[int]int{}, dropped: map[int]bool{}, evaluated: map[int]bool{}, stored: map[int]GroupRef{},
		repairing: map[string]bool{}, evaluating: -1}
	w.prepare(t)
	return w
}

// prepare tells the machine what the folder holds.
func (w *world) prepare(t *rapid.T) {
	e := Prepared{Committed: w.committed, Weights: weights(w.committed), Fence: w.fence, Revision: w.control.Revision,
		Config: w.config, NextGroup: w.admitted}
	if w.config > 0 {
		spec := w.spec
		e.Spec = &spec
	}
	for version := range w.evaluated {
		e.Evaluated = append(e.Evaluated, version)
	}
	slices.Sort(e.Evaluated)
	for number := range w.admitted {
		if _, trained := w.trained[number]; !trained && !w.dropped[number] {
			e.Open = append(e.Open, number)
		}
	}
	w.event(t, e)
}

// event feeds an event to the machine, and to a copy of it that comes out of JSON: both must agree.
func (w *world) event(t *rapid.T, event Event) {
	copied := &Machine{submitted: w.submitted, state: roundTrip(t, w.machine.State())}
	commands := w.machine.Step(w.now, event)
	if again := copied.Step(w.now, event); !reflect.DeepEqual(commands, again) {
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
		if len(w.pools) > 0 || w.control.Revision == 0 || c.From != 0 || c.To != w.spec.Pools {
			t.Fatalf("%#v with pools %v and control %+v", c, w.pools, w.control)
		}
		w.pools, w.tenures = make([]bool, c.To), make([]int, c.To)
	case TrainStep:
		w.train(t, c)
	case Evaluate:
		if w.evaluating >= 0 || w.evaluated[c.Version] || !w.spec.EvaluationDue(c.Version) || c.Weights != weights(c.Version) || c.Timeout <= 0 {
			t.Fatalf("%#v at step %d, in flight %d, recorded %v", c, w.committed, w.evaluating, w.evaluated)
		}
		w.evaluating = c.Version
	case AskLease, GiveLease, Abandon:
		w.lease(t, c)
	case Repair:
		if w.repairing[c.Key] {
			t.Fatalf("%#v twice", c)
		}
		w.holds(t, c, c.Lease)
		w.repairing[c.Key] = true
	case HandOver:
		if w.step != nil || len(w.repairing) > 0 || !w.asked {
			t.Fatalf("hand-over with step %v and repairs %v in flight, asked %v", w.step, w.repairing, w.asked)
		}
		w.handOver = true
	case Finish:
		if w.step != nil || len(w.repairing) > 0 || !w.control.Stopped {
			t.Fatalf("%#v with step %v, repairs %v, control %+v", c, w.step, w.repairing, w.control)
		}
		if w.devices.asked {
			t.Fatalf("%#v keeps what it asked the device pool for: %+v", c, w.devices)
		}
		if c.Outcome == Completed && len(w.machine.State().Corrupt) > 0 {
			t.Fatalf("completed, and nobody makes %v again", w.machine.State().Corrupt)
		}
		if c.Outcome == Completed && (w.committed != w.spec.LastStep() || !w.evaluated[w.committed]) {
			t.Fatalf("completed at step %d of %d, evaluated %v", w.committed, w.spec.LastStep(), w.evaluated)
		}
	}
}

// publish checks a control object: shares are for loops that serve, no group is in two hands, none that
// is settled is played again, and nothing is admitted beyond what staleness and the plan allow.
func (w *world) publish(t *rapid.T, control Control) {
	state := w.machine.State()
	switch {
	case control.Revision <= w.control.Revision:
		t.Fatalf("revision %d after %d", control.Revision, w.control.Revision)
	case control.Version != w.committed || control.Weights != weights(w.committed) || control.Staleness != w.spec.Staleness:
		t.Fatalf("control %+v at step %d", control, w.committed)
	}
	seen := map[int]bool{}
	for _, share := range control.Shares {
		if !w.pools[share.Pool] || w.tenures[share.Pool] != share.Tenure {
			t.Fatalf("share %+v for pools %v with tenures %v", share, w.pools, w.tenures)
		}
		if len(share.Groups) > 2*w.spec.Slots {
			t.Fatalf("share %+v with %d slots", share, w.spec.Slots)
		}
		for _, a := range share.Groups {
			_, trained := w.trained[a.Group]
			if seen[a.Group] || trained || w.dropped[a.Group] {
				t.Fatalf("group %d is in a share twice, or was settled: %+v", a.Group, control)
			}
			if a.Group >= w.admitted && (w.control.Paused && control.Paused || state.Held != "") {
				t.Fatalf("group %d is admitted in a pause or a hold: %+v", a.Group, control)
			}
			seen[a.Group] = true
			w.admitted = max(w.admitted, a.Group+1)
		}
	}
	w.control = control
}

// train checks a batch.
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
	case c.Checkpoint != w.spec.CheckpointDue(c.Step) || c.Timeout <= 0 || c.Timeout > w.spec.StepTimeout:
		t.Fatalf("%+v with settings revision %d", c, w.config)
	case w.asked || w.machine.State().Paused:
		t.Fatalf("step %d in a pause or a hand-over", c.Step)
	}
	w.holds(t, c, c.Lease)
	if c.Fence < c.Lease.Fence {
		t.Fatalf("step %d with fence %d under lease %d", c.Step, c.Fence, c.Lease.Fence)
	}
	defer func() { w.fence, w.step = c.Fence, &c }()
	if w.remakes(t, c) {
		return
	}
	if c.Config != w.config {
		t.Fatalf("%+v with settings revision %d", c, w.config)
	}
	last := -1
	for _, g := range c.Batch {
		step, trained := w.trained[g.Number]
		switch {
		case trained:
			t.Fatalf("step %d trains group %d of step %d", c.Step, g.Number, step)
		case w.dropped[g.Number] || slices.ContainsFunc(c.Dropped, func(d Dropped) bool { return d.Number == g.Number }):
			t.Fatalf("step %d trains group %d, which was dropped", c.Step, g.Number)
		case g != w.stored[g.Number]:
			t.Fatalf("step %d trains %+v, the store has %+v", c.Step, g, w.stored[g.Number])
		case c.Step-1-g.Oldest > w.spec.Staleness:
			t.Fatalf("step %d trains group %d of version %d with staleness %d", c.Step, g.Number, g.Oldest, w.spec.Staleness)
		case g.Number <= last:
			t.Fatalf("step %d trains %v out of order", c.Step, c.Batch)
		}
		last = g.Number
	}
	for _, d := range c.Dropped {
		if _, trained := w.trained[d.Number]; trained || w.dropped[d.Number] || d.Reason == "" {
			t.Fatalf("step %d drops %+v, which is settled", c.Step, d)
		}
	}
	w.inOrder(t, c)
}

// inOrder checks that a synchronous step leaves no earlier group behind.
func (w *world) inOrder(t *rapid.T, c TrainStep) {
	if w.spec.Staleness > 0 || c.Kind == Warm {
		return
	}
	batch := map[int]bool{}
	for _, g := range c.Batch {
		batch[g.Number] = true
	}
	for _, d := range c.Dropped {
		batch[d.Number] = true
	}
	for number := range c.Batch[len(c.Batch)-1].Number {
		if _, trained := w.trained[number]; !trained && !w.dropped[number] && !batch[number] {
			t.Fatalf("step %d trains %v and leaves group %d behind", c.Step, c.Batch, number)
		}
	}
}

// look checks what holds at any time: what a person sees, and that no permit is stranded.
func (w *world) look(t *rapid.T) {
	status, state := w.machine.Status(w.now), w.machine.State()
	if (status.WaitingFor == "") != (state.Outcome != "") || status.Committed != w.committed {
		t.Fatalf("status %+v at step %d in state %+v", status, w.committed, state)
	}
	if status.GroupsReady > w.spec.GroupsPerStep {
		t.Fatalf("status %+v of %+v", status, w.spec)
	}
	if state.Outcome != "" {
		return // what is still under way has nobody to report to
	}
	if (state.Training != 0) != (w.step != nil) || len(state.Repairing) != len(w.repairing) || state.Evaluating != (w.evaluating >= 0) {
		t.Fatalf("state %+v, in flight step %v, repairs %v, evaluation %d", state, w.step, w.repairing, w.evaluating)
	}
	if l := state.Learner; l.Asked != w.devices.asked || (l.Lease != nil) != (w.devices.held != nil) {
		t.Fatalf("state %+v, the device pool has %+v", l, w.devices)
	}
	if most := (w.loosest+1)*w.spec.GroupsPerStep + w.forgotten; len(state.Open) > most {
		t.Fatalf("%d groups are open, staleness never allowed more than %d: %+v", len(state.Open), most, state.Open)
	}
	if left := (w.spec.LastStep() - max(w.committed, w.spec.WarmSteps)) * w.spec.GroupsPerStep; len(state.Open) > left && !state.Paused {
		t.Fatalf("%d groups are open, the plan needs %d", len(state.Open), left)
	}
	for _, g := range state.Open {
		if g.Place == Playing && (len(state.Pools) <= g.Pool || !state.Pools[g.Pool].Serving) {
			t.Fatalf("group %d is stranded with pool %d: %+v", g.Number, g.Pool, state.Pools)
		}
	}
	if status.Phase == "paused" {
		for pool, p := range state.Pools {
			if p.Serving && !p.Quiet {
				t.Fatalf("paused while pool %d plays", pool)
			}
		}
	}
}

func roundTrip(t rapid.TB, state State) State {
	t.Helper()
	data, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	var back State
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	return back
}

func weights(version int) Ref {
	if version == 0 {
		return Ref{}
	}
	return Ref{Key: fmt.Sprintf("w%d", version), Digest: fmt.Sprintf("sha256:%d", version), Size: 1}
}

func group(number, oldest, newest int) GroupRef {
	return GroupRef{Number: number, Object: Ref{Key: fmt.Sprintf("g%d", number), Digest: "sha256:g", Size: 1}, Oldest: oldest, Newest: newest}
}
