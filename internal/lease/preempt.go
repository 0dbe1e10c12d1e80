package lease

import (
	"cmp"
	"slices"
)

// clearing is a place that is free once leases have gone.
type clearing struct {
	choice
	gone []*boardLease // the one that is least to be disturbed first
}

// costs are the leases of a clearing that do not yield yet.
func (c clearing) costs() int {
	n := 0
	for _, l := range c.gone {
		if !l.yields {
			n++
		}
	}
	return n
}

// preempt finds the place for a request for which the least leases have to yield: they have a strictly lower
// priority, or yield already. Every lease that can be spared is, beginning with the one that is least to be
// disturbed, so that a learner goes only when nothing else would do, and none goes that need not.
func (b *board) preempt(r Request) (clearing, bool) {
	may := func(l *boardLease) bool { return l.yields || l.Priority > r.Priority }
	if !slices.ContainsFunc(b.leases, may) {
		return clearing{}, false
	}
	return b.clear(r, may,
		func(x, y clearing) int { return slices.CompareFunc(x.gone, y.gone, worse) })
}

// target finds the place for a request for which the fewest leases have to end, whosever they are: what a
// request that may not take anything away waits for.
func (b *board) target(r Request) (clearing, bool) {
	return b.clear(r, func(*boardLease) bool { return true }, func(x, y clearing) int {
		return cmp.Or(cmp.Compare(x.costs(), y.costs()), slices.CompareFunc(x.gone, y.gone, worse))
	})
}

// byLoss sorts the lease first that is least to be disturbed; worse sorts the smaller loss first.
func byLoss(x, y *boardLease) int {
	return cmp.Or(compareBool(x.yields, y.yields), cmp.Compare(x.rank, y.rank))
}

func worse(x, y *boardLease) int { return byLoss(y, x) }

// clear finds the best clearing among those of all agents. The leases that may go are found on the agent's
// devices and slots, and in the request's own queue when that is short of quota. The board is afterwards as before.
func (b *board) clear(r Request, may func(*boardLease) bool, compare func(x, y clearing) int) (clearing, bool) {
	var out clearing
	found := false
	at := b.homes(r.Run)
	quota := b.ofQueue(r, may)
	for _, a := range b.agents {
		if !a.open(r) || a.roomiest(r) < r.Count {
			continue
		}
		gone := b.gone(a, r, b.candidates(a, r, quota, may))
		if gone == nil {
			continue
		}
		c := clearing{gone: gone}
		if order := compare(c, out); found && order > 0 {
			continue
		} else if found && order < 0 {
			found = false
		}
		for _, l := range gone {
			b.take(l)
		}
		c.choice = b.bestOf(a, r, at.elsewhere(a.Host, r.Run, gone))
		c.devices = slices.Clone(c.devices)
		for _, l := range gone {
			b.put(l)
		}
		if !found || c.choice.compare(out.choice) < 0 {
			out, found = c, true
		}
	}
	return out, found
}

// roomiest is how many devices of an agent could take a request if they had no leases.
func (a *boardAgent) roomiest(r Request) int {
	n := 0
	for _, group := range a.groups[r.Kind] {
		for _, d := range group {
			if d.usable() && !(d.NoTrainers && trains(r)) && d.MemoryTotalBytes-d.Condition.ForeignBytes >= r.MemoryBytes {
				n++
			}
		}
	}
	return n
}

// ofQueue are the leases of the request's queue that may go when the queue is short of quota.
func (b *board) ofQueue(r Request, may func(*boardLease) bool) []*boardLease {
	if b.queue(r.Queue).left(r.Kind) >= r.Count {
		return nil
	}
	var out []*boardLease
	for _, l := range b.leases {
		if l.Queue == r.Queue && l.Kind == r.Kind && !l.kept && may(l) {
			out = append(out, l)
		}
	}
	return out
}

// candidates are the leases that may go to make room on an agent, the one least to be disturbed first.
func (b *board) candidates(a *boardAgent, r Request, quota []*boardLease, may func(*boardLease) bool) []*boardLease {
	out := slices.Clone(quota)
	add := func(leases []*boardLease) {
		for _, l := range leases {
			if !l.kept && may(l) {
				out = append(out, l)
			}
		}
	}
	for _, group := range a.groups[r.Kind] {
		for _, d := range group {
			add(d.leases)
		}
	}
	if a.used[roleIndex(r.Role)] >= a.capacity(r.Role) {
		add(a.serving)
	}
	slices.SortFunc(out, byLoss)
	return slices.Compact(out)
}

// gone says which of the candidates have to go so that the agent has room; nil when that would not do. All
// are taken off the board, then each is put back if there is room with it too. Room never shrinks when
// leases go, so that none remains that could have stayed.
func (b *board) gone(a *boardAgent, r Request, candidates []*boardLease) []*boardLease {
	for _, l := range candidates {
		b.take(l)
	}
	var out []*boardLease
	possible := b.room(a, r)
	for _, l := range candidates {
		b.put(l)
		if possible && !b.room(a, r) {
			b.take(l)
			out = append(out, l)
		}
	}
	for _, l := range out {
		b.put(l)
	}
	return out
}
