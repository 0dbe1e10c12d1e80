package runstate

// pool returns a pool that news are about; nil when there is no such pool, or none is started yet: then
// it is news of an earlier run of the same folder.
func (m *Machine) pool(number int) *Pool {
	if number < 0 || number >= len(m.state.Pools) {
		return nil
	}
	return &m.state.Pools[number]
}

// poolServing takes note of a loop at work. A loop of an earlier tenure that the news is late about
// changes nothing.
func (m *Machine) poolServing(e PoolServing) {
	p := m.pool(e.Pool)
	if p == nil || e.Tenure <= p.Tenure {
		return
	}
	m.release(e.Pool, 0)
	*p = Pool{Serving: true, Tenure: e.Tenure, Worker: e.Worker, Since: m.now}
	for other := range m.state.Pools {
		m.release(other, m.spec().Slots) // what the others have not begun is shared anew
	}
	m.note("pool %d is served by %s (tenure %d)", e.Pool, e.Worker, e.Tenure)
}

// poolLost gives the groups of a pool without a loop to the others.
func (m *Machine) poolLost(e PoolLost) {
	p := m.pool(e.Pool)
	if p == nil || e.Tenure != 0 && e.Tenure < p.Tenure {
		return
	}
	if !p.Serving {
		p.Reason = e.Reason
		return
	}
	m.release(e.Pool, 0)
	*p = Pool{Tenure: max(p.Tenure, e.Tenure), Since: m.now, Reason: e.Reason}
	m.note("pool %d is not served any more: %s", e.Pool, e.Reason)
}

// release takes the groups of a pool's share back, but for the first ones. Their turns so far are recorded.
func (m *Machine) release(pool, keep int) {
	for i := range m.state.Open {
		g := &m.state.Open[i]
		if g.Place != Playing || g.Pool != pool {
			continue
		}
		if keep--; keep < 0 {
			g.Place, g.Pool, g.Moved = Waiting, 0, true
		}
	}
}

func (m *Machine) poolQuiet(e PoolQuiet) {
	s, p := &m.state, m.pool(e.Pool)
	if p == nil || !p.Serving || e.Tenure != p.Tenure || !s.Paused || s.PausedAt == 0 || e.Revision < s.PausedAt {
		return
	}
	p.Quiet = true
}

// restless counts the pools whose episodes do not wait yet.
func (m *Machine) restless() int {
	n := 0
	for _, p := range m.state.Pools {
		if p.Serving && !p.Quiet {
			n++
		}
	}
	return n
}
