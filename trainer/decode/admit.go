package decode

import "slices"

// admit starts waiting sequences in order while there are slots and pages. One that waits for its own
// earlier turn, or for another that is about to compute what both begin with, does not hold up the
// others; one that waits for pages does, so that it gets them.
func (s *schedule) admit() {
	for i := 0; i < len(s.waiting) && len(s.running) < s.slots; {
		q := s.waiting[i]
		if !s.takeTurn(q) || s.followsLeader(q) {
			i++
			continue
		}
		if !s.start(q) {
			return
		}
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
}

// takeTurn reports whether the requests before this one in its named sequence have ended.
func (s *schedule) takeTurn(q *sequence) bool {
	if q.name == "" {
		return true
	}
	first := s.turn[q.name]
	if first == nil {
		s.turn[q.name] = q
		return true
	}
	return first == q
}

// followsLeader reports whether a running sequence is still computing enough of what q begins with that
// waiting for it beats computing the same at the same time: a page, or half of what q lacks.
func (s *schedule) followsLeader(q *sequence) bool {
	last := len(q.tokens) - 1 // its row is always computed, for what comes behind it
	known := -1
	for _, r := range s.running {
		if r.cached+1 >= len(r.tokens) {
			continue
		}
		shared := commonTokens(r.tokens, q.tokens[:last])
		if shared <= r.cached {
			continue
		}
		if known < 0 {
			s.found = s.found[:0]
			f := s.pool.find(q.tokens[:last], s.found)
			s.found, known = f.pages, f.tokens()
		}
		if gain := shared - known; gain > 0 && gain >= min(pageTokens, (last-known+1)/2) {
			return true
		}
	}
	return false
}

// start gives a sequence the computed pages that it begins with and lets it run. It reports false, and
// changes nothing that matters, when there are not enough pages for its tokens and running sequences
// will give some back.
func (s *schedule) start(q *sequence) bool {
	s.dropKept(q.name)
	f := s.pool.find(q.tokens[:len(q.tokens)-1], q.table[:0])
	q.table = f.pages
	for _, id := range q.table {
		s.pool.retain(id)
	}
	need := pagesFor(len(q.tokens)+1) - len(q.table) + s.promised()
	for s.pool.available() < need && s.dropIdle() {
	}
	if s.pool.available() < need && len(s.running) > 0 {
		s.pool.releaseAll(q.table)
		q.table = q.table[:0]
		return false
	}
	q.cached = len(q.table) * pageTokens
	s.takeTail(q, f)
	s.counts.prefix += int64(q.cached)
	at, _ := slices.BinarySearchFunc(s.running, q.order, func(r *sequence, order uint64) int { return compare(r.order, order) })
	s.running = slices.Insert(s.running, at, q)
	return true
}

// promised is the number of pages that running sequences do not hold yet but need for the tokens they
// have and the next one.
func (s *schedule) promised() int {
	n := 0
	for _, r := range s.running {
		n += pagesFor(r.length()+1) - len(r.table)
	}
	return n
}

// takeTail adds the page that holds a part of what follows the full pages: as it is when the sequence can
// go on writing it, else a copy of the part. Without a page for the copy the part is computed again.
func (s *schedule) takeTail(q *sequence, f prefix) {
	switch {
	case f.tail == none:
		return
	case s.pool.continues(f.tail, f.common):
		s.pool.retain(f.tail)
		q.table = append(q.table, f.tail)
	default:
		id := s.pool.branch(f.tail, f.common)
		if id == none {
			return
		}
		s.copies = append(s.copies, pageCopy{to: id, from: f.tail})
		s.counts.copied++
		q.table = append(q.table, id)
	}
	q.cached += f.common
}
