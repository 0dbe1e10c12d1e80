package runstate

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestPromises plays random worlds against the machine: commands end in any order, or not at all;
// events come twice or late; loops come and go; rollouts fail; objects turn out corrupt; people pause,
// resume and change settings; the workflow continues as new; everything but the run's folder is lost.
// Whatever happens, the promises that world checks hold, and the run comes to its end.
func TestPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(map[string]func(*rapid.T){
			"":            func(t *rapid.T) { w.look(t) },
			"commit":      w.commit,
			"late":        w.late,
			"corrupt":     w.corrupt,
			"repair":      w.repair,
			"evaluate":    w.evaluate,
			"serve":       w.serve,
			"lose":        w.lose,
			"finish":      w.finish,
			"fall short":  w.fallShort,
			"give up":     w.giveUp,
			"signal":      w.signal,
			"stray":       w.stray,
			"set":         w.set,
			"grant":       w.grant,
			"regrant":     w.regrant,
			"revoke":      w.revoke,
			"yield":       w.yield,
			"leave":       w.leave,
			"commit late": w.commitLate,
			"quiet":       w.quiet,
			"tick":        w.tick,
			"pause":       func(t *rapid.T) { w.event(t, PauseAsked{}) },
			"resume":      func(t *rapid.T) { w.event(t, ResumeAsked{}) },
			"handover":    w.askHandover,
			"continue":    w.continueAsNew,
			"restart":     w.restart,
		})
		want := w.breakDown(t)
		w.drain(t)
		if state := w.machine.State(); state.Outcome != want {
			t.Fatalf("the run ended as %q, want %q: %+v", state.Outcome, want, state)
		}
		if want == Completed && w.committed != w.spec.LastStep() {
			t.Fatalf("completed with %d of %d steps committed", w.committed, w.spec.LastStep())
		}
		if want == Completed {
			w.settled(t)
		}
	})
}

// settled checks that a completed run trained what its plan says, each group once.
func (w *world) settled(t *rapid.T) {
	if got, want := len(w.trained), w.spec.TrainSteps*w.spec.GroupsPerStep; got != want {
		t.Fatalf("%d groups were trained, the plan has %d", got, want)
	}
	if open := w.machine.State().Open; len(open) > 0 {
		t.Fatalf("the run has ended and groups are open: %+v", open)
	}
}

// written writes the step in flight into the folder.
func (w *world) written() {
	w.committed = w.step.Step
	for _, g := range w.step.Batch {
		w.trained[g.Number] = w.step.Step
	}
	for _, d := range w.step.Dropped {
		w.dropped[d.Number] = true
	}
	w.step = nil
}

func (w *world) commit(t *rapid.T) {
	if w.step == nil {
		return
	}
	w.learned()
	w.event(t, StepCommitted{Step: w.committed, Weights: weights(w.committed), Took: time.Duration(rapid.IntRange(0, 100).Draw(t, "took")) * time.Second})
}

// late is an attempt at a step that takes longer than its time-out. It happens at most twice in a row.
func (w *world) late(t *rapid.T) {
	if w.step == nil || w.machine.State().Late >= mostLate-1 {
		return
	}
	step := w.step.Step
	w.strand()
	w.event(t, StepTimedOut{Step: step})
}

// corrupt finds a group of the batch in flight corrupt: its object is gone from the store.
func (w *world) corrupt(t *rapid.T) {
	if w.step == nil || len(w.step.Batch) == 0 || w.devices.manifest != nil {
		return
	}
	number := rapid.SampledFrom(w.step.Batch).Draw(t, "group").Number
	step := w.step.Step
	w.step, w.devices.stranded = nil, nil // whoever was before it has lost to its fence
	delete(w.stored, number)
	w.event(t, StepCorrupt{Step: step, Groups: []int{number}})
}

func (w *world) repair(t *rapid.T) {
	if len(w.repairing) == 0 {
		w.event(t, WeightsCorrupt{Key: "w1"})
		return
	}
	for key := range w.repairing {
		delete(w.repairing, key)
		w.event(t, Repaired{Key: key})
	}
}

func (w *world) evaluate(t *rapid.T) {
	if w.evaluating < 0 {
		return
	}
	version := w.evaluating
	w.evaluating = -1
	w.evaluated[version] = true
	w.event(t, Evaluated{Version: version, Took: time.Second})
}

// serve puts a loop on a pool; a loop that was there is gone, whether or not anybody has noticed.
func (w *world) serve(t *rapid.T) {
	if len(w.pools) == 0 {
		return
	}
	pool := rapid.IntRange(0, len(w.pools)-1).Draw(t, "pool")
	w.tenure++
	w.pools[pool], w.tenures[pool] = true, w.tenure
	w.event(t, PoolServing{Pool: pool, Tenure: w.tenure, Worker: "w"})
}

func (w *world) lose(t *rapid.T) {
	if len(w.pools) == 0 {
		return
	}
	pool := rapid.IntRange(0, len(w.pools)-1).Draw(t, "pool")
	tenure := rapid.SampledFrom([]int{0, w.tenures[pool]}).Draw(t, "tenure")
	w.pools[pool] = false
	w.event(t, PoolLost{Pool: pool, Tenure: tenure, Reason: "gone"})
}

// share draws a group out of the published shares.
func (w *world) share(t *rapid.T) (Assignment, bool) {
	var all []Assignment
	for _, share := range w.control.Shares {
		all = append(all, share.Groups...)
	}
	if len(all) == 0 {
		return Assignment{}, false
	}
	return rapid.SampledFrom(all).Draw(t, "group"), true
}

// finish plays a group to its end. Its tokens may come from any version it may have been in flight with.
func (w *world) finish(t *rapid.T) {
	a, some := w.share(t)
	if !some {
		return
	}
	if _, there := w.stored[a.Group]; !there {
		oldest := rapid.IntRange(max(0, w.control.Version-4), w.control.Version).Draw(t, "oldest")
		if w.spec.Staleness == 0 && w.loosest == 0 {
			oldest = w.control.Version
		}
		w.stored[a.Group] = group(a.Group, oldest, w.control.Version)
	}
	if rapid.IntRange(0, 3).Draw(t, "signal") > 0 { // else the signal stays behind
		w.event(t, GroupReady{Group: w.stored[a.Group], Failed: rapid.IntRange(0, 1).Draw(t, "failed")})
	}
}

func (w *world) fallShort(t *rapid.T) {
	a, some := w.share(t)
	if _, there := w.stored[a.Group]; !some || there {
		return
	}
	member := 0
	if len(a.Members) > 0 {
		member = rapid.SampledFrom(a.Members).Draw(t, "member")
	}
	short := GroupShort{Number: a.Group, Round: a.Round, Failed: []MemberFailure{{Member: member, Kind: "tool", Reason: "broke"}}}
	w.event(t, short)
	if rapid.Bool().Draw(t, "twice") {
		before := w.machine.State()
		w.event(t, short)
		if after := w.machine.State(); fmt.Sprintf("%+v", after.Open) != fmt.Sprintf("%+v", before.Open) {
			t.Fatalf("a repeated report changed the groups:\nfrom %+v\n  to %+v", before.Open, after.Open)
		}
	}
}

func (w *world) giveUp(t *rapid.T) {
	a, some := w.share(t)
	if _, there := w.stored[a.Group]; !some || there || w.loosest == 0 {
		return
	}
	w.event(t, GroupDropped{Number: a.Group, Reason: "stale: began too long ago"})
}

// signal tells the run about any group of the store, again or late.
func (w *world) signal(t *rapid.T) {
	if len(w.stored) == 0 {
		return
	}
	number := rapid.SampledFrom(slices.Sorted(maps.Keys(w.stored))).Draw(t, "group")
	w.event(t, GroupReady{Group: w.stored[number]})
}

// stray is an event that comes a second time or that nobody asked for: it must change nothing.
func (w *world) stray(t *rapid.T) {
	before := fmt.Sprintf("%+v", w.machine.State())
	events := []Event{
		StepCommitted{Step: w.committed, Weights: Ref{Key: "wrong"}}, StepCommitted{Step: w.committed + 2, Weights: Ref{Key: "wrong"}},
		StepFailed{Step: w.committed + 2, Reason: "stray"}, EvaluationFailed{Version: w.committed + 1, Reason: "stray"},
		StepTimedOut{Step: w.committed + 2}, StepCorrupt{Step: w.committed + 2, Groups: []int{0}},
		Evaluated{Version: w.committed + 1}, GroupReady{Group: group(1000, 0, 0)}, GroupReady{Group: group(-1, 0, 0)},
		GroupShort{Number: 1000, Failed: []MemberFailure{{Member: 9}}}, GroupDropped{Number: -1, Reason: "stray"},
		LeaseGranted{Lease: someLease(w.machine.State().Learner.Seen, "old")}, LeaseYield{Fence: w.devices.given + 1, Reason: "stray"},
		LeaseRevoked{Fence: w.devices.given + 1, Reason: "stray"}, WorkLeft{Fence: w.devices.given + 1, Reason: "stray"},
		EvaluationWaiting{Version: w.committed + 1, Reason: "stray"},
		PoolQuiet{Pool: 0, Tenure: 1000, Revision: 1000}, PoolLost{Pool: 77}, PoolServing{Pool: -1, Tenure: 1000},
		Repaired{Key: "nothing", Reason: "stray"}, Changed{Config: w.config, Spec: Spec{}}, Prepared{Committed: 7}, ContinuedAsNew{},
	}
	if len(w.pools) == 0 {
		events = append(events, PoolFailed{Reason: "stray"})
	}
	event := rapid.SampledFrom(events).Draw(t, "event")
	w.event(t, event)
	if after := fmt.Sprintf("%+v", w.machine.State()); after != before && w.machine.State().Outcome == "" {
		t.Fatalf("%#v changed the state:\nfrom %s\n  to %s", event, before, after)
	}
}

// set changes settings of the running run.
func (w *world) set(t *rapid.T) {
	if w.machine.State().Outcome != "" {
		return
	}
	w.config++
	w.spec.Staleness = rapid.IntRange(0, 3).Draw(t, "staleness")
	w.spec.Concurrency = rapid.IntRange(0, 3).Draw(t, "concurrency")
	w.loosest = max(w.loosest, w.spec.Staleness)
	w.event(t, Changed{Config: w.config, Spec: w.spec, Summary: "changed"})
}

func (w *world) quiet(t *rapid.T) {
	for pool, serves := range w.pools {
		if serves {
			w.event(t, PoolQuiet{Pool: pool, Tenure: w.tenures[pool], Revision: w.control.Revision})
		}
	}
}

func (w *world) tick(t *rapid.T) {
	w.now = w.now.Add(time.Duration(rapid.IntRange(1, 1000).Draw(t, "seconds")) * time.Second)
	w.event(t, Tick{})
}

func (w *world) askHandover(t *rapid.T) {
	w.asked = w.machine.State().Outcome == ""
	w.event(t, HandoverAsked{})
}

// continueAsNew goes on in a fresh history where the machine allows it.
func (w *world) continueAsNew(t *rapid.T) {
	if w.machine.State().Outcome != "" || !w.handOver {
		return
	}
	w.handOver, w.asked = false, false
	w.machine = Restore(w.submitted, roundTrip(t, w.machine.State()))
	w.event(t, ContinuedAsNew{})
}

// restart loses everything but the folder. What was in flight may have reached the folder, or not.
func (w *world) restart(t *rapid.T) {
	if w.devices.manifest != nil {
		w.step = w.devices.manifest
		w.written()
	} else if w.step != nil && rapid.Bool().Draw(t, "step committed") {
		w.written()
	}
	w.devices = leases{given: w.devices.given}
	if w.evaluating >= 0 && rapid.Bool().Draw(t, "evaluation recorded") {
		w.evaluated[w.evaluating] = true
	}
	w.forgotten += len(w.machine.State().Dropped)
	w.step, w.evaluating, w.repairing, w.pools, w.tenures = nil, -1, map[string]bool{}, nil, nil
	w.handOver, w.asked, w.control.Stopped, w.control.Shares = false, false, false, nil
	w.machine = New(w.submitted)
	w.prepare(t)
}

// breakDown may end the run early, and says how it has to end.
func (w *world) breakDown(t *rapid.T) Outcome {
	if outcome := w.machine.State().Outcome; outcome != "" {
		return outcome
	}
	switch rapid.SampledFrom([]string{"", "", "", "cancel", "step", "late", "evaluation", "pool", "broken"}).Draw(t, "break down") {
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
		if version := w.evaluating; version >= 0 {
			w.evaluating = -1
			w.event(t, EvaluationFailed{Version: version, Reason: "broken"})
			return Failed
		}
	case "pool":
		if len(w.pools) > 0 {
			w.event(t, PoolFailed{Reason: "broken"})
			return Failed
		}
	case "broken":
		w.event(t, Broken{Reason: "broken"})
		return Failed
	}
	return Completed
}

// drain lets everything end well until the run does. Every round brings at least one step or one
// evaluation, so that a run that does not end by then is stuck.
func (w *world) drain(t *rapid.T) {
	for range 6*w.spec.LastStep() + 40 {
		if w.machine.State().Outcome != "" {
			return
		}
		w.now = w.now.Add(time.Second)
		w.event(t, ResumeAsked{})
		w.grant(t)
		w.commit(t)
		w.evaluate(t)
		for len(w.repairing) > 0 {
			w.repair(t)
		}
		w.continueAsNew(t)
		for pool := range w.pools {
			if !w.pools[pool] {
				w.tenure++
				w.pools[pool], w.tenures[pool] = true, w.tenure
				w.event(t, PoolServing{Pool: pool, Tenure: w.tenure, Worker: "w"})
			}
		}
		for _, share := range w.control.Shares {
			for _, a := range share.Groups {
				if _, there := w.stored[a.Group]; !there {
					w.stored[a.Group] = group(a.Group, w.control.Version, w.control.Version)
				}
				w.event(t, GroupReady{Group: w.stored[a.Group]})
			}
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
