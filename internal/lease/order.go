package lease

import (
	"cmp"
	"slices"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// Holdings is how many devices of each kind each queue holds. A device on which a queue has two leases counts once.
func Holdings(leases []Lease) map[string]map[gpu.Kind]int {
	type key struct{ queue, uuid string }
	seen, out := map[key]bool{}, map[string]map[gpu.Kind]int{}
	for _, l := range leases {
		for _, uuid := range l.Devices {
			if at := (key{l.Queue, uuid}); !seen[at] {
				seen[at] = true
				if out[l.Queue] == nil {
					out[l.Queue] = map[gpu.Kind]int{}
				}
				out[l.Queue][l.Kind]++
			}
		}
	}
	return out
}

// next picks the waiter whose turn it is and removes it: the first priority, in it the queue with the least
// devices held in proportion to its weight, in that the one that waits longest.
func (b *board) next(waiting []Waiter) (Waiter, []Waiter) {
	first := 0
	for i := range waiting {
		if b.before(waiting[i], waiting[first]) < 0 {
			first = i
		}
	}
	w := waiting[first]
	return w, slices.Delete(waiting, first, first+1)
}

func (b *board) before(x, y Waiter) int {
	return cmp.Or(cmp.Compare(x.Priority, y.Priority),
		cmp.Compare(b.queue(x.Queue).share(x.Kind), b.queue(y.Queue).share(y.Kind)),
		x.Since.Compare(y.Since), cmp.Compare(x.Holder, y.Holder))
}

// Decision is what a walk over the waiting list decides for one request.
type Decision struct {
	Waiter Waiter
	// Placed says that the request gets Placement now. Else Placement is where it will go once its Victims
	// have yielded; it is empty when no lease may be asked to.
	Placed    bool
	Placement Placement
	// Reason says in one line why it waits; Never is true when the known fleet, healthy and free, could not do it.
	Reason string
	Never  bool
}

// Decide walks the waiting list of a snapshot and decides for every request, in the order in which their turn
// comes: the first priority, in it the queue with the least devices held in proportion to its weight, in that
// the request that waits longest. What a request gets counts for its queue from there on.
//
// A request that cannot be placed does not hold up those behind it, with two exceptions. When leases have to
// yield for it, its place is kept from everybody behind it. Else the place that would be free after the
// fewest leases have ended is kept from those of a lower priority; of its own priority others may go first.
// Nothing is kept for a request whose queue has no quota left for it, or for which no fit devices are enough.
func Decide(fleet Snapshot) []Decision {
	b := newBoard(fleet)
	waiting := slices.Clone(fleet.Queue)
	var out []Decision
	for waits := []Waiter(nil); len(waiting) > 0; {
		var w Waiter
		w, waiting = b.next(waiting)
		if len(waits) > 0 && waits[0].Priority < w.Priority {
			for _, saver := range waits {
				b.save(saver.Request)
			}
			waits = nil
		}
		d := b.decide(w)
		if !d.Placed && !d.Never && len(d.Placement.Victims) == 0 {
			waits = append(waits, w)
		}
		out = append(out, d)
	}
	return out
}

// decide places a request on the board, or keeps the place for which leases have to yield.
func (b *board) decide(w Waiter) Decision {
	r := w.Request
	d := Decision{Waiter: w}
	if c, ok := b.best(r); ok {
		d.Placed, d.Placement = true, b.placement(c)
		b.put(b.lease(r, c))
		return d
	}
	d.Reason, d.Never = b.never(r)
	if d.Never || d.Reason != "" {
		return d
	}
	c, ok := b.preempt(r)
	if !ok {
		d.Reason = b.why(r)
		return d
	}
	d.Placement, d.Reason = b.placement(c.choice), b.whyYield(r, c)
	for _, l := range c.gone {
		d.Placement.Victims = append(d.Placement.Victims, l.fence)
		l.yields = true
	}
	slices.Sort(d.Placement.Victims)
	b.keep(r, c.choice)
	return d
}

// save keeps the place that a request waits for.
func (b *board) save(r Request) {
	if b.queue(r.Queue).left(r.Kind) < r.Count {
		return
	}
	if c, ok := b.target(r); ok {
		b.keep(r, c.choice)
	}
}

// keep puts a place on the board that is nobody's yet.
func (b *board) keep(r Request, c choice) {
	l := b.lease(r, c)
	l.kept = true
	b.put(l)
}

// lease is what the request gets. It is never one that goes for another's sake in the same walk.
func (b *board) lease(r Request, c choice) *boardLease {
	l := &boardLease{Request: r, queue: b.queue(r.Queue), agent: c.agent, rank: -1 - len(b.given)}
	for _, rank := range c.devices {
		l.devices = append(l.devices, b.devices[rank])
	}
	b.given = append(b.given, l)
	return l
}
