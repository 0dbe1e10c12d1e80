package activity

import (
	"maps"
	"slices"
	"time"

	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// roster decides what a rollout loop does with its share: facts in, orders out. It has no clock,
// goroutine, file or network in it. The loop tells it what happened and carries out what decide
// returns; the roster takes for granted that an order is carried out.
type roster struct {
	pool, tenure int
	// slots is the most episodes in flight, size how many members a group has when its share names none.
	slots, size int
	// drain lets the episodes in flight end before new weights are used.
	drain bool

	control  runstate.Control
	share    map[int]runstate.Assignment // what this tenure has to play, by number
	order    []int                       // the numbers of share, ascending
	mine     bool                        // control has a share for this tenure
	held     map[int]*heldGroup
	inFlight int  // episodes
	version  int  // of the weights that episodes are sampled with; unknown before the first
	loading  bool // weights are being loaded
	leaving  bool // nothing new begins
	quiet    int  // revision of the last control that quiet was said for
}

// heldGroup is one group in the hands of a loop.
type heldGroup struct {
	assignment runstate.Assignment
	stage      stage
	seats      map[int]seat // by member
	failed     map[int]runstate.MemberFailure
	// busy counts what is under way for the group: looking it up, its episodes, storing it.
	busy int
	// first is the oldest version that sampled a token of it; unknown when none did.
	first int
	// delayed says that looking it up does not succeed at once: others go first.
	delayed bool
	// leaving groups are forgotten once nothing is under way for them.
	leaving bool
	told    report
	saidAt  time.Time
	wait    time.Duration // before it is said again
}

// stage is how far a held group is.
type stage int

const (
	opening  stage = iota // looked up in the store and in the records of turns
	atPlay                // members are in flight or wait for a slot
	storing               // every member is finished
	reported              // the run was told what became of it
)

// seat is how far one member of a held group is.
type seat int

const (
	seatWaiting seat = iota
	seatInFlight
	seatFinished
	seatFailed
)

// report is what a loop tells the run about a group: one of the three.
type report struct {
	ready   *workflows.ReadyGroup
	short   *workflows.ShortGroup
	dropped *workflows.DroppedGroup
}

// place names one member of a group.
type place struct{ group, member int }

// orders is what a loop has to do, in the order of the fields.
type orders struct {
	stop    []int // cancel what is under way for the group
	forget  []int // let go of what is kept of the group
	reports []report
	load    bool // the weights of control
	open    []runstate.Assignment
	start   []place
	store   []int
	quiet   int // say that every episode waits since this revision; 0 when there is nothing to say
	// announce says that the run does not seem to know of this loop.
	announce bool
}

// How long the run may leave a report without consequence before it is made again. A run that was
// started anew on the same folder knows nothing of what was said before.
const (
	repeatAfter  = 5 * time.Second
	repeatAtMost = time.Minute
)

func newRoster(pool, tenure, slots, size int, drain bool) *roster {
	return &roster{pool: pool, tenure: tenure, slots: slots, size: size, drain: drain, version: unknown, held: map[int]*heldGroup{}}
}

// follow takes a new control object.
func (r *roster) follow(control runstate.Control) {
	r.control, r.mine = control, false
	r.share, r.order = map[int]runstate.Assignment{}, nil
	for _, share := range control.Shares {
		if share.Pool != r.pool || share.Tenure != r.tenure {
			continue
		}
		r.mine = true
		for _, assignment := range share.Groups {
			if _, twice := r.share[assignment.Group]; !twice {
				r.order = append(r.order, assignment.Group)
			}
			r.share[assignment.Group] = assignment
		}
	}
	slices.Sort(r.order)
}

// replaced says which later tenure has the pool; 0 when none has.
func (r *roster) replaced() int {
	for _, share := range r.control.Shares {
		if share.Pool == r.pool && share.Tenure > r.tenure {
			return share.Tenure
		}
	}
	return 0
}

// decide returns what there is to do. atGate is how many episodes wait for the end of a pause; heard
// is since when the run has heard everything that was said, zero when it has not.
func (r *roster) decide(now time.Time, atGate int, heard time.Time) orders {
	var o orders
	r.letGo(&o)
	for _, number := range r.order {
		if g := r.held[number]; g != nil && !g.leaving {
			r.look(number, g, &o)
		}
	}
	r.speak(now, heard, &o)
	if r.leaving {
		return o
	}
	o.announce = !r.mine && !r.control.Stopped
	r.useWeights(&o)
	if !r.control.Paused {
		r.begin(&o)
		return o
	}
	if r.quiet < r.control.Revision && r.inFlight == atGate && !r.storing() {
		r.quiet = r.control.Revision
		o.quiet = r.quiet
	}
	return o
}

func (r *roster) storing() bool {
	for _, g := range r.held {
		if g.stage == storing && g.busy > 0 {
			return true
		}
	}
	return false
}

// letGo withdraws groups that are not in the share any more, or are in it for another round than the one
// in hand, and forgets those for which nothing is under way.
func (r *roster) letGo(o *orders) {
	for _, number := range slices.Sorted(maps.Keys(r.held)) {
		g := r.held[number]
		assignment, wanted := r.share[number]
		if wanted && !g.leaving && g.told.short != nil && assignment.Round > g.assignment.Round {
			g.nextRound(assignment, r.size)
		}
		if !g.leaving && (!wanted || assignment.Round != g.assignment.Round) {
			g.leaving = true
			if g.busy > 0 {
				o.stop = append(o.stop, number)
			}
		}
		if g.leaving && g.busy == 0 {
			o.forget = append(o.forget, number)
			delete(r.held, number)
		}
	}
}

// nextRound seats the members of a new round; those that are finished stay so.
func (g *heldGroup) nextRound(assignment runstate.Assignment, size int) {
	g.assignment, g.stage, g.told = assignment, atPlay, report{}
	for _, member := range members(assignment, size) {
		if state, seated := g.seats[member]; !seated || state == seatFailed {
			g.seats[member] = seatWaiting
		}
	}
	clear(g.failed)
}

// members are the members that an assignment asks for.
func members(assignment runstate.Assignment, size int) []int {
	if assignment.Members != nil {
		return assignment.Members
	}
	all := make([]int, size)
	for member := range all {
		all[member] = member
	}
	return all
}

// look sees whether a group has become too old, complete or short of members.
func (r *roster) look(number int, g *heldGroup, o *orders) {
	if g.stage == opening || g.stage == storing || g.told.ready != nil || g.told.dropped != nil {
		return
	}
	if g.first != unknown && r.control.Version-g.first > r.control.Staleness {
		if g.busy > 0 {
			o.stop = append(o.stop, number)
		}
		g.stage, g.saidAt = reported, time.Time{}
		g.told = report{dropped: &workflows.DroppedGroup{Number: number, Reason: "stale"}}
		return
	}
	if g.stage == reported {
		return
	}
	var missing []runstate.MemberFailure
	for _, member := range members(g.assignment, r.size) {
		switch g.seats[member] {
		case seatWaiting, seatInFlight:
			return
		case seatFailed:
			missing = append(missing, g.failed[member])
		}
	}
	if missing == nil {
		g.stage = storing
		g.busy++
		o.store = append(o.store, number)
		return
	}
	g.stage, g.saidAt = reported, time.Time{}
	g.told = report{short: &workflows.ShortGroup{Number: number, Round: g.assignment.Round, Failed: missing}}
}

// speak makes reports, and makes those again that the run has heard and not acted on. A group that it was
// told is ready is looked up again, because the object may have been set aside since.
func (r *roster) speak(now, heard time.Time, o *orders) {
	for _, number := range r.order {
		g := r.held[number]
		if g == nil || g.leaving || g.stage != reported {
			continue
		}
		switch {
		case g.saidAt.IsZero():
			g.wait = max(g.wait, repeatAfter)
		case heard.IsZero() || now.Sub(later(g.saidAt, heard)) < g.wait:
			continue
		default:
			g.wait = min(2*g.wait, repeatAtMost)
			if g.told.ready != nil && !r.leaving {
				g.stage, g.told, g.busy = opening, report{}, g.busy+1
				o.open = append(o.open, g.assignment)
				continue
			}
		}
		g.saidAt = now
		o.reports = append(o.reports, g.told)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// useWeights orders new weights: at once, or after the episodes in flight when they are to end first.
func (r *roster) useWeights(o *orders) {
	current := r.version == r.control.Version || r.control.Revision == 0
	if current || r.loading || r.drain && r.inFlight > 0 {
		return
	}
	r.loading, o.load = true, true
}

// begin opens groups and starts episodes in the order of their numbers. No episode begins with weights
// that are known to be old.
func (r *roster) begin(o *orders) {
	if r.control.Revision == 0 {
		return
	}
	booked, kept := r.inFlight, 0
	for _, number := range r.order {
		g := r.held[number]
		if g == nil {
			if booked >= 2*r.slots {
				return
			}
			g = r.take(number)
			o.open = append(o.open, g.assignment)
		}
		switch {
		case g.leaving:
		case g.stage == opening:
			booked += len(g.seats)
			if !g.delayed { // its slots are kept for the moment that looking it up takes
				kept += len(g.seats)
			}
		case g.stage == atPlay:
			booked += r.seat(number, g, kept, o)
		}
	}
}

// seat starts the members of a group that wait while there are slots beside those kept for groups before
// it. It returns how many waited.
func (r *roster) seat(number int, g *heldGroup, kept int, o *orders) (waiting int) {
	for _, member := range members(g.assignment, r.size) {
		if g.seats[member] != seatWaiting {
			continue
		}
		waiting++
		if r.inFlight+kept < r.slots && r.version == r.control.Version {
			r.inFlight++
			g.busy++
			g.seats[member] = seatInFlight
			o.start = append(o.start, place{number, member})
		}
	}
	return waiting
}

// take begins to hold a group of the share.
func (r *roster) take(number int) *heldGroup {
	g := &heldGroup{assignment: r.share[number], stage: opening, busy: 1, first: unknown,
		seats: map[int]seat{}, failed: map[int]runstate.MemberFailure{}}
	for _, member := range members(g.assignment, r.size) {
		g.seats[member] = seatWaiting
	}
	r.held[number] = g
	return g
}
