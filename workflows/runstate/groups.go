package runstate

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Capacity is how many more groups may start: the smaller of what limit leaves to those running, and
// of what staleness allows in all,
//
//	min(max(1, limit) − running, (staleness + version + 1)·max(1, batch) − (accepted + running))
//
// where version counts reinforcement steps, batch is the groups of one, and accepted counts the groups
// ever finished and not dropped, trained ones too. It may be negative. Source: AReaL,
// areal/core/staleness_manager.py, get_capacity.
func Capacity(limit, batch, staleness, version, accepted, running int) int {
	return min(max(1, limit)-running, (staleness+version+1)*max(1, batch)-(accepted+running))
}

// admit opens new groups as far as capacity and the plan allow. The first are admitted once the version
// they start from is evaluated.
func (m *Machine) admit() {
	s, spec := &m.state, m.spec()
	measured := s.Committed > spec.WarmSteps || slices.Contains(s.Evaluated, spec.WarmSteps)
	if s.Held != "" || s.Committed < spec.WarmSteps || !measured {
		return
	}
	version := s.Committed - spec.WarmSteps
	running := s.count(Waiting) + s.count(Playing)
	limit := spec.Concurrency
	if limit == 0 {
		limit = math.MaxInt
	}
	accepted := version*spec.GroupsPerStep + len(s.Open) - running
	room := Capacity(limit, spec.GroupsPerStep, spec.Staleness, version, accepted, running)
	room = min(room, (spec.TrainSteps-version)*spec.GroupsPerStep-len(s.Open))
	for range room {
		s.Open = append(s.Open, Group{Number: s.NextGroup})
		s.NextGroup++
	}
}

// assign gives groups that wait to pools that serve, the lowest numbers first, each to the pool with the
// fewest. A pool gets twice what it plays at once, so that it does not wait for the next control object.
func (m *Machine) assign() {
	s := &m.state
	if s.Held != "" {
		return
	}
	load := make([]int, len(s.Pools))
	playing := 0
	for i := range s.Open {
		if s.Open[i].Place == Playing {
			load[s.Open[i].Pool]++
			playing++
		}
	}
	for i := range s.Open {
		g := &s.Open[i]
		if g.Place != Waiting {
			continue
		}
		pool := m.freest(load)
		if pool < 0 || m.spec().Concurrency > 0 && playing >= m.spec().Concurrency {
			return
		}
		g.Place, g.Pool = Playing, pool
		load[pool]++
		playing++
	}
}

// freest returns the serving pool with the fewest groups; −1 when all are full or none serves.
func (m *Machine) freest(load []int) int {
	best := -1
	for pool := range m.state.Pools {
		if !m.state.Pools[pool].Serving || load[pool] >= 2*m.spec().Slots {
			continue
		}
		if best < 0 || load[pool] < load[best] {
			best = pool
		}
	}
	return best
}

// shares are what every serving pool has to play.
func (m *Machine) shares() []Share {
	s := &m.state
	var out []Share
	place := make([]int, len(s.Pools))
	for pool := range s.Pools {
		place[pool] = -1
		if s.Pools[pool].Serving {
			place[pool] = len(out)
			out = append(out, Share{Pool: pool, Tenure: s.Pools[pool].Tenure})
		}
	}
	for i := range s.Open {
		g := &s.Open[i]
		if g.Place == Playing && place[g.Pool] >= 0 {
			share := &out[place[g.Pool]]
			share.Groups = append(share.Groups, Assignment{Group: g.Number, Round: g.Round, Members: g.Members, Moved: g.Moved})
		}
	}
	return out
}

// groupReady takes a finished group. One that is settled, or was never admitted by this run, comes late.
func (m *Machine) groupReady(e GroupReady) {
	g := m.state.group(e.Group.Number)
	if g == nil || g.Place == Ready || g.Place == InBatch {
		return
	}
	if m.places != nil {
		m.places[g.Place]--
		m.places[Ready]++
	}
	object := e.Group.Object
	g.Place, g.Object, g.Oldest, g.Newest = Ready, &object, e.Group.Oldest, e.Group.Newest
	m.outcomes(m.spec().GroupSize, e.Failed)
	m.progress()
}

// groupShort decides what becomes of the members that failed: each is tried again, then replaced by a
// new one, then the group is dropped. A late report of an earlier round changes nothing.
func (m *Machine) groupShort(e GroupShort) {
	s := &m.state
	g := s.group(e.Number)
	if g == nil || e.Round != g.Round || g.Place == Ready || g.Place == InBatch {
		return
	}
	members := m.members(g)
	e.Failed = slices.DeleteFunc(slices.Clone(e.Failed), func(f MemberFailure) bool { return !slices.Contains(members, f.Member) })
	if len(e.Failed) == 0 {
		return
	}
	g.Members, g.Tried = members, slices.Clone(g.Tried)
	for _, failure := range e.Failed {
		s.Failures = add(s.Failures, failure.Kind, 1)
	}
	for _, failure := range e.Failed {
		if reason := m.memberFailed(g, failure); reason != "" {
			m.outcomes(0, len(e.Failed))
			m.drop(g.Number, reason)
			return
		}
	}
	g.Round++
	m.outcomes(0, len(e.Failed))
	if s.Held != "" {
		g.Place, g.Pool, g.Moved = Waiting, 0, true // until the run is resumed
	}
}

// members are those that a group is to have.
func (m *Machine) members(g *Group) []int {
	if g.Members != nil {
		return slices.Clone(g.Members)
	}
	members := make([]int, m.spec().GroupSize)
	for i := range members {
		members[i] = i
	}
	return members
}

// memberFailed retries or replaces a member; otherwise it says why the group cannot be finished.
func (m *Machine) memberFailed(g *Group, failure MemberFailure) string {
	at := slices.Index(g.Members, failure.Member)
	tried := slices.IndexFunc(g.Tried, func(t Tries) bool { return t.Member == failure.Member })
	if tried < 0 {
		tried = len(g.Tried)
		g.Tried = append(g.Tried, Tries{Member: failure.Member})
	}
	g.Tried[tried].Failed++
	budget := m.spec().Failures
	switch {
	case g.Tried[tried].Failed <= budget.Retries:
		return ""
	case g.Spares < budget.Replacements:
		g.Members[at] = m.spec().GroupSize + g.Spares
		g.Spares++
		m.note("group %d: member %d failed %d times (%s: %s) and is replaced by member %d",
			g.Number, failure.Member, g.Tried[tried].Failed, failure.Kind, failure.Reason, g.Members[at])
		return ""
	}
	m.note("group %d is dropped: member %d failed %d times (%s: %s) and %d members were replaced already",
		g.Number, failure.Member, g.Tried[tried].Failed, failure.Kind, failure.Reason, g.Spares)
	return fmt.Sprintf("failed: member %d, %s: %s", failure.Member, failure.Kind, failure.Reason)
}

// outcomes remembers how attempts ended and stops admission when too many of the last ones failed.
func (m *Machine) outcomes(finished, failed int) {
	s, budget := &m.state, m.spec().Failures
	s.Recent += strings.Repeat("-", failed) + strings.Repeat("+", finished)
	if over := len(s.Recent) - budget.Window; over > 0 {
		s.Recent = s.Recent[over:]
	}
	bad := strings.Count(s.Recent, "-")
	if s.Held != "" || failed == 0 || len(s.Recent) < budget.Window || float64(bad) <= budget.MaxShare*float64(budget.Window) {
		return
	}
	s.Held = fmt.Sprintf("%d of the last %d attempts at episodes failed (over the run: %s)", bad, budget.Window, counts(s.Failures))
	m.note("admission stops: %s; resume the run once the cause is mended", s.Held)
}

// counts writes counts as "tool 38, engine 2" since the start.
func counts(all []Count) string {
	var out []string
	for _, c := range all {
		out = append(out, fmt.Sprintf("%s %d", c.What, c.Times))
	}
	return strings.Join(out, ", ")
}
