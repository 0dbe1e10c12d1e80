package cuda

import "fmt"

// scratch is a piece of memory that replays work in. Replays follow one another in one stream, so that what one recording
// has given back another may take.
type scratch struct {
	address pointer
	bytes   int64
	// graphs is how many recordings work in it, the one under way too.
	graphs int
	// busy says that it is handed out, to the recording under way.
	busy bool
}

// hand takes memory from the arena. What an operation needs for a moment comes, in a recording, first from what recordings
// work in. The caller holds mu, by enter.
func (d *Device) hand(bytes int64, moment bool) (pointer, error) {
	if d.recording == nil {
		address, err := d.memory.arena.Take(bytes)
		return pointer(address), err
	}
	var best *scratch
	if moment {
		best = d.memory.spare(bytes)
	}
	if best == nil {
		address, err := d.memory.arena.Take(bytes)
		if err != nil {
			return 0, err
		}
		best = &scratch{address: pointer(address), bytes: bytes}
		d.memory.scratch[best.address] = best
	}
	best.busy = true
	d.recording.keep(best)
	return best.address, nil
}

// spare is the smallest piece of so many bytes that recordings work in and nobody has; nil when there is none.
func (m *memory) spare(bytes int64) *scratch {
	var best *scratch
	for _, s := range m.scratch {
		if s.busy || s.bytes < bytes {
			continue
		}
		if best == nil || s.bytes < best.bytes || s.bytes == best.bytes && s.address < best.address {
			best = s
		}
	}
	return best
}

// keep notes that a recording works in a piece.
func (g *Graph) keep(s *scratch) {
	for _, own := range g.scratch {
		if own == s {
			return
		}
	}
	g.scratch = append(g.scratch, s)
	s.graphs++
}

// takeBack is the opposite of hand. The caller holds mu, by enter.
func (d *Device) takeBack(address pointer, bytes int64) {
	s := d.memory.scratch[address]
	if s == nil && d.recording != nil { // taken before the recording, which has used it: each replay does again
		s = &scratch{address: address, bytes: max(bytes, 1)}
		d.memory.scratch[address] = s
		d.recording.keep(s)
	}
	if s != nil {
		s.busy = false
		return
	}
	d.fail("Free", d.memory.arena.Give(uint64(address)))
}

// unreturned is the error of an operation that keeps what recordings work in. The caller holds mu.
func (d *Device) unreturned(g *Graph) error {
	for _, s := range g.scratch {
		if s.busy && s.graphs > 1 {
			return &Mistake{Device: d.name, Noticed: "Record", Reason: fmt.Sprintf("what was recorded keeps %d bytes for later", s.bytes)}
		}
	}
	return nil
}

// unkeep gives up the memory that a graph works in. The caller holds mu, by enter.
func (d *Device) unkeep(g *Graph) {
	for _, s := range g.scratch {
		if s.graphs--; s.graphs > 0 {
			continue
		}
		delete(d.memory.scratch, s.address)
		if !s.busy { // else whoever holds it gives it back
			d.fail("Free", d.memory.arena.Give(uint64(s.address)))
		}
	}
	g.scratch = nil
}
