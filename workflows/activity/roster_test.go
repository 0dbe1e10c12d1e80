package activity

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

var someTime = time.Unix(1000, 0)

// controlOf is a control object with a share of tenure 3 of pool 1.
func controlOf(revision, version int, groups ...runstate.Assignment) runstate.Control {
	return runstate.Control{Revision: revision, Version: version, Shares: []runstate.Share{
		{Pool: 0, Tenure: 9, Groups: []runstate.Assignment{group(100)}}, {Pool: 1, Tenure: 3, Groups: groups}}}
}

// rosterAt is a roster that follows a control object with the weights it names.
func rosterAt(slots int, control runstate.Control) *roster {
	r := newRoster(1, 3, slots, 2, false)
	r.version = control.Version
	r.follow(control)
	return r
}

func (r *roster) now(atGate int) orders { return r.decide(someTime, atGate, someTime) }

// TestRosterStartsInOrder opens and starts groups by number, as many episodes as there are slots.
func TestRosterStartsInOrder(t *testing.T) {
	r := rosterAt(3, controlOf(1, 0, group(7), group(2), group(4), group(9)))
	got := r.now(0)
	if diff := cmp.Diff([]runstate.Assignment{group(2), group(4), group(7)}, got.open); diff != "" || got.start != nil {
		t.Errorf("opened (-want +got):\n%s\nstarted %v", diff, got.start)
	}
	r.opened(4, unknown)
	if got := r.now(0).start; !cmp.Equal(got, []place{{4, 0}}, cmp.AllowUnexported(place{})) {
		t.Errorf("started %v while group 2 is looked up; want one of the slots to be used", got)
	}
	r.opened(2, unknown)
	if got := r.now(0).start; !cmp.Equal(got, []place{{2, 0}, {2, 1}}, cmp.AllowUnexported(place{})) {
		t.Errorf("started %v", got)
	}
	r.finished(place{2, 1})
	if got := r.now(0); !cmp.Equal(got.start, []place{{4, 1}}, cmp.AllowUnexported(place{})) || got.store != nil {
		t.Errorf("started %v, stores %v", got.start, got.store)
	}
	r.finished(place{2, 0})
	if got := r.now(0).store; !cmp.Equal(got, []int{2}) {
		t.Errorf("stores %v", got)
	}
	r.found(2, workflows.ReadyGroup{GroupRef: runstate.GroupRef{Number: 2}})
	if got := r.now(0).reports; len(got) != 1 || got[0].ready.Number != 2 {
		t.Errorf("reports %+v", got)
	}
	r.follow(controlOf(2, 0, group(4), group(7), group(9)))
	if got := r.now(0).forget; !cmp.Equal(got, []int{2}) {
		t.Errorf("forgets %v", got)
	}
}

// TestRosterDecides is about single decisions.
func TestRosterDecides(t *testing.T) {
	playingOne := func() *roster {
		r := rosterAt(4, controlOf(5, 2, group(0)))
		r.now(0)
		r.opened(0, unknown)
		r.now(0)
		return r
	}
	with := func(control runstate.Control, change func(*runstate.Control)) runstate.Control {
		change(&control)
		return control
	}
	for name, test := range map[string]struct {
		roster *roster
		do     func(r *roster)
		want   orders
	}{
		"nothing new":      {playingOne(), func(*roster) {}, orders{}},
		"not in the share": {playingOne(), func(r *roster) { r.follow(controlOf(6, 2)) }, orders{stop: []int{0}}},
		"forgotten when it has landed": {playingOne(), func(r *roster) {
			r.follow(controlOf(6, 2))
			r.now(0)
			r.withdrawn(place{0, 0})
			r.withdrawn(place{0, 1})
		}, orders{forget: []int{0}}},
		"another tenure's share": {playingOne(), func(r *roster) {
			r.follow(with(controlOf(6, 2, group(0)), func(c *runstate.Control) { c.Shares[1].Tenure = 4 }))
		}, orders{stop: []int{0}, announce: true}},
		"new weights at once": {playingOne(), func(r *roster) { r.follow(controlOf(6, 3, group(0))) }, orders{stop: []int{0}, load: true,
			reports: []report{{dropped: &workflows.DroppedGroup{Number: 0, Reason: "stale"}}}}},
		"new weights, staleness 1": {playingOne(), func(r *roster) {
			r.began(0, 2)
			r.follow(with(controlOf(6, 3, group(0)), func(c *runstate.Control) { c.Staleness = 1 }))
		}, orders{load: true}},
		"new weights after those in flight": {playingOne(), func(r *roster) {
			r.drain = true
			r.follow(with(controlOf(6, 3, group(0)), func(c *runstate.Control) { c.Staleness = 1 }))
		}, orders{}},
		"too old": {playingOne(), func(r *roster) {
			r.began(0, 2)
			r.version = 4
			r.follow(with(controlOf(6, 4, group(0)), func(c *runstate.Control) { c.Staleness = 1 }))
		}, orders{stop: []int{0}, reports: []report{{dropped: &workflows.DroppedGroup{Number: 0, Reason: "stale"}}}}},
		"pause with an episode at play": {playingOne(), func(r *roster) {
			r.follow(with(controlOf(6, 2, group(0), group(1)), func(c *runstate.Control) { c.Paused = true }))
		}, orders{}},
		"stopped": {playingOne(), func(r *roster) { r.follow(runstate.Control{Revision: 6, Version: 2, Stopped: true}) }, orders{stop: []int{0}}},
		"short": {playingOne(), func(r *roster) {
			r.finished(place{0, 0})
			r.failed(place{0, 1}, runstate.MemberFailure{Member: 1, Kind: "tool", Reason: "broke"})
		}, orders{reports: []report{{short: &workflows.ShortGroup{Number: 0, Failed: []runstate.MemberFailure{{Member: 1, Kind: "tool", Reason: "broke"}}}}}}},
		"another round": {playingOne(), func(r *roster) {
			r.finished(place{0, 0})
			r.failed(place{0, 1}, runstate.MemberFailure{Member: 1, Kind: "tool", Reason: "broke"})
			r.now(0)
			r.follow(controlOf(6, 2, runstate.Assignment{Group: 0, Round: 1, Members: []int{0, 2}}))
		}, orders{start: []place{{0, 2}}}},
		"leaving": {playingOne(), func(r *roster) {
			r.leaving = true
			r.withdrawn(place{0, 0})
			r.follow(controlOf(6, 3, group(0), group(1)))
		}, orders{}},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "new weights at once" {
				test.roster.began(0, 2)
			}
			test.do(test.roster)
			got := test.roster.now(0)
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(orders{}, report{}, place{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	paused := playingOne()
	paused.follow(with(controlOf(6, 2, group(0)), func(c *runstate.Control) { c.Paused = true }))
	if first, both, again := paused.now(1).quiet, paused.now(2).quiet, paused.now(2).quiet; first != 0 || both != 6 || again != 0 {
		t.Errorf("quiet %d with one of two episodes at the gate, %d with both, %d said again", first, both, again)
	}
}

// imaginary plays a roster against a random world.
type imaginary struct {
	t        *rapid.T
	roster   *roster
	now      time.Time
	looking  map[int]bool // look-ups under way
	flying   map[place]bool
	storing  map[int]bool
	stopped  map[int]bool // groups whose work was cancelled
	loading  bool
	round    map[int]int
	store    map[int]bool
	reported map[int]bool // groups reported ready
	revision int
	share    []runstate.Assignment
	version  int
}

// carryOut holds the orders to what must be true at any time.
func (w *imaginary) carryOut(o orders) {
	for _, number := range o.stop {
		w.stopped[number] = true
	}
	for _, number := range o.forget {
		if w.busy(number) {
			w.t.Fatalf("group %d is forgotten while something is under way for it", number)
		}
		delete(w.stopped, number)
	}
	for _, report := range o.reports {
		switch {
		case report.ready != nil:
			if !w.store[report.ready.Number] {
				w.t.Fatalf("group %d is reported ready and is not in the store", report.ready.Number)
			}
			w.reported[report.ready.Number] = true
		case report.short != nil && len(report.short.Failed) == 0:
			w.t.Fatalf("group %d is short of nothing", report.short.Number)
		}
	}
	if o.load {
		if w.loading {
			w.t.Fatal("weights are loaded twice at once")
		}
		w.loading = true
	}
	for _, assignment := range o.open {
		if w.busy(assignment.Group) || !w.mine(assignment.Group) {
			w.t.Fatalf("group %d is opened; busy %v, in the share %v", assignment.Group, w.busy(assignment.Group), w.mine(assignment.Group))
		}
		w.looking[assignment.Group] = true
	}
	for _, at := range o.start {
		if w.flying[at] || !w.mine(at.group) || w.roster.version != w.version || w.roster.control.Paused || w.roster.leaving {
			w.t.Fatalf("%v starts: in flight %v, in the share %v, with version %d of %d", at, w.flying[at], w.mine(at.group), w.roster.version, w.version)
		}
		w.flying[at] = true
	}
	for _, number := range o.store {
		if w.busy(number) {
			w.t.Fatalf("group %d is stored while something is under way for it", number)
		}
		w.storing[number] = true
	}
	if len(w.flying) > w.roster.slots {
		w.t.Fatalf("%d episodes in flight, %d slots", len(w.flying), w.roster.slots)
	}
}

func (w *imaginary) busy(number int) bool {
	for at := range w.flying {
		if at.group == number {
			return true
		}
	}
	return w.looking[number] || w.storing[number]
}

func (w *imaginary) mine(number int) bool {
	return slices.ContainsFunc(w.share, func(a runstate.Assignment) bool { return a.Group == number })
}

func (w *imaginary) decide() {
	w.carryOut(w.roster.decide(w.now, len(w.flying), w.now.Add(-time.Hour)))
}

// publish gives the roster some share.
func (w *imaginary) publish(paused bool, groups []int, staleness int) {
	w.revision++
	w.share = nil
	for _, number := range groups {
		w.share = append(w.share, runstate.Assignment{Group: number, Round: w.round[number]})
	}
	control := controlOf(w.revision, w.version, w.share...)
	control.Paused, control.Staleness = paused, staleness
	w.roster.follow(control)
}

// settle lets one thing that is under way end.
func (w *imaginary) settle(fail bool) bool {
	if places := slices.SortedFunc(maps.Keys(w.flying), func(a, b place) int { return 10*(a.group-b.group) + a.member - b.member }); len(places) > 0 {
		at := rapid.SampledFrom(places).Draw(w.t, "lands")
		delete(w.flying, at)
		switch {
		case w.stopped[at.group] || w.roster.leaving:
			w.roster.withdrawn(at)
		case fail:
			w.roster.failed(at, runstate.MemberFailure{Member: at.member, Kind: "tool"})
		default:
			w.roster.began(at.group, w.roster.version)
			w.roster.finished(at)
		}
		return true
	}
	for _, number := range slices.Sorted(maps.Keys(w.looking)) {
		delete(w.looking, number)
		switch {
		case w.stopped[number] || w.roster.leaving:
			w.roster.gaveUp(number)
		case w.store[number]:
			w.roster.found(number, workflows.ReadyGroup{GroupRef: runstate.GroupRef{Number: number}})
		default:
			w.roster.opened(number, unknown)
		}
		return true
	}
	for _, number := range slices.Sorted(maps.Keys(w.storing)) {
		delete(w.storing, number)
		if w.stopped[number] {
			w.roster.gaveUp(number)
			return true
		}
		w.store[number] = true
		w.roster.found(number, workflows.ReadyGroup{GroupRef: runstate.GroupRef{Number: number}})
		return true
	}
	if w.loading {
		w.loading = false
		w.roster.loaded(map[bool]int{true: unknown, false: w.version}[fail])
		return true
	}
	return false
}

// TestRosterInAnyWorld holds the roster to its rules over random events, and then lets the world calm
// down: every group of the last share is stored and reported, and nothing else stays in hand.
func TestRosterInAnyWorld(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := &imaginary{t: rt, now: someTime, looking: map[int]bool{}, flying: map[place]bool{}, storing: map[int]bool{}, stopped: map[int]bool{},
			round: map[int]int{}, store: map[int]bool{}, reported: map[int]bool{}}
		w.roster = newRoster(1, 3, rapid.IntRange(1, 5).Draw(rt, "slots"), rapid.IntRange(1, 3).Draw(rt, "size"), rapid.Bool().Draw(rt, "drain"))
		rt.Repeat(map[string]func(*rapid.T){
			"publish": func(rt *rapid.T) {
				w.t = rt
				w.version += rapid.IntRange(0, 1).Draw(rt, "version")
				w.publish(rapid.Bool().Draw(rt, "paused"), rapid.SliceOfNDistinct(rapid.IntRange(0, 8), 0, 6, rapid.ID[int]).Draw(rt, "groups"), 2)
			},
			"round": func(rt *rapid.T) {
				w.round[rapid.IntRange(0, 8).Draw(rt, "group")]++
			},
			"settle":   func(rt *rapid.T) { w.t = rt; w.settle(rapid.IntRange(0, 3).Draw(rt, "fails") == 0) },
			"set back": func(rt *rapid.T) { delete(w.store, rapid.IntRange(0, 8).Draw(rt, "group")) },
			"time":     func(*rapid.T) { w.now = w.now.Add(2 * time.Minute) },
			"": func(rt *rapid.T) {
				w.t = rt
				w.decide()
			},
		})
		w.t = rt
		w.reported = map[int]bool{}
		wanted := []int{1, 3, 4, 7}
		for i := range 400 {
			for _, number := range wanted {
				w.round[number]++ // what is short is tried again
			}
			if i%100 == 0 {
				w.publish(false, wanted, 100)
			}
			w.decide()
			for w.settle(false) {
				w.decide()
			}
			w.now = w.now.Add(time.Minute)
		}
		for _, number := range wanted {
			if !w.reported[number] {
				rt.Fatalf("group %d is never reported ready; in hand %s", number, inHand(w.roster))
			}
		}
		if len(w.roster.held) != len(wanted) {
			rt.Fatalf("in hand in the end: %s", inHand(w.roster))
		}
		w.roster.leaving = true
		w.decide()
		for w.settle(false) {
			w.decide()
		}
		if !w.roster.idle() {
			rt.Fatalf("it does not come to rest: %s", inHand(w.roster))
		}
	})
}

func inHand(r *roster) string {
	out := ""
	for _, number := range slices.Sorted(maps.Keys(r.held)) {
		g := r.held[number]
		out += fmt.Sprintf("group %d: stage %d, busy %d, seats %v, leaving %v; ", number, g.stage, g.busy, g.seats, g.leaving)
	}
	return out
}
