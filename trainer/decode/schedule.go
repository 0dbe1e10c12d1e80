package decode

import "slices"

// sequence is one request's tokens and where their keys and values are.
type sequence struct {
	// name is that of the growing context, empty when there is none.
	name string
	// order is the request's place in the order of arrival.
	order uint64
	// tokens is the context, sampled tokens included.
	tokens []int32
	// table holds the pages of positions from 0; those of the first cached tokens are computed.
	table  []int32
	cached int
	// rows is the number of tokens that the planned pass computes.
	rows int
	// pending says that a pass under way chooses one more token behind tokens, after which the sequence most likely goes on; place
	// is where in that pass.
	pending bool
	place   int32
	// forget says that the name was released while the request was under way.
	forget     bool
	generation *generation
}

// length is the number of tokens, with the one that is being chosen.
func (s *sequence) length() int {
	if s.pending {
		return len(s.tokens) + 1
	}
	return len(s.tokens)
}

// sampling reports whether the planned pass yields the sequence's next token.
func (s *sequence) sampling() bool { return s.cached+s.rows == s.length() }

// kept is what stays of a named sequence between its turns.
type kept struct {
	table []int32
	// since orders kept sequences by when they became idle.
	since uint64
}

// pageCopy is a page whose contents must be copied before the pass.
type pageCopy struct{ to, from int32 }

// schedule decides which sequences run, on which pages, and what each pass computes. It is a plain
// data structure; the caller computes what it planned and reports back.
//
// Requests are served in the order of their arrival. The oldest one keeps its pages whatever happens,
// and every request fits the pool alone, so there is always one that comes to its end.
type schedule struct {
	pool  *pool
	slots int
	// passTokens bounds the tokens of one pass, apart from what progress needs.
	passTokens int
	waiting    []*sequence // sorted by order
	running    []*sequence // sorted by order; at most slots
	idle       map[string]*kept
	// turn is the sequence whose turn it is among those of one name.
	turn   map[string]*sequence
	clock  uint64
	batch  []*sequence // of the planned pass
	copies []pageCopy  // of the planned pass
	found  []int32     // scratch of admission
	counts counts
}

// counts are totals since the start.
type counts struct{ prefix, preempted, copied int64 }

func newSchedule(pages, slots, passTokens int) *schedule {
	return &schedule{
		pool: newPool(pages), slots: slots, passTokens: passTokens,
		idle: map[string]*kept{}, turn: map[string]*sequence{},
	}
}

// pagesFor is the number of pages that hold n positions.
func pagesFor(n int) int { return (n + pageTokens - 1) / pageTokens }

// add queues a sequence with tokens and a name behind all others.
func (s *schedule) add(q *sequence) {
	s.clock++
	q.order = s.clock
	s.waiting = append(s.waiting, q)
}

// plan decides the next pass: its sequences and how many tokens of each, and the pages to copy before
// it. It returns nothing when nothing is to be computed. The result is valid until the next plan.
func (s *schedule) plan() []*sequence {
	s.batch, s.copies = s.batch[:0], s.copies[:0]
	if len(s.waiting) > 0 {
		s.admit()
	}
	steps := 0
	for _, q := range s.running {
		if q.length()-q.cached == 1 {
			steps++
		}
	}
	// Prompts take what single steps leave, but always enough to get on.
	left := max(s.passTokens-steps, pageTokens)
	for i := 0; i < len(s.running); i++ {
		q := s.running[i]
		q.rows = q.length() - q.cached
		if q.rows > 1 {
			q.rows = min(q.rows, left)
			left -= q.rows
		}
		if q.rows == 0 {
			continue
		}
		if !s.cover(q) {
			break // it was the youngest and has given way
		}
		s.batch = append(s.batch, q)
	}
	return s.batch
}

// cover gives a running sequence the pages of its planned rows. Where there are none, idle sequences
// give theirs back, then the youngest running one. It reports false when that was the sequence itself.
func (s *schedule) cover(q *sequence) bool {
	for len(q.table)*pageTokens < q.cached+q.rows {
		id := s.pool.allocate()
		switch {
		case id != none:
			q.table = append(q.table, id)
		case s.dropIdle():
		default:
			youngest := s.running[len(s.running)-1]
			s.suspend(youngest)
			s.counts.preempted++
			if youngest == q {
				return false
			}
		}
	}
	return true
}

// suspend takes the pages of a running sequence and lets it wait to be computed again.
func (s *schedule) suspend(q *sequence) {
	s.stop(q)
	at, _ := slices.BinarySearchFunc(s.waiting, q.order, func(w *sequence, order uint64) int { return compare(w.order, order) })
	s.waiting = slices.Insert(s.waiting, at, q)
}

// stop takes a sequence out of running and its pages from it.
func (s *schedule) stop(q *sequence) {
	s.running = slices.DeleteFunc(s.running, func(r *sequence) bool { return r == q })
	s.pool.releaseAll(q.table)
	q.table, q.cached, q.rows, q.pending = q.table[:0], 0, 0, false
}

// dropIdle gives back the pages of the sequence that has been idle for longest.
func (s *schedule) dropIdle() bool {
	var oldest string
	var found *kept
	for name, k := range s.idle {
		if found == nil || k.since < found.since {
			oldest, found = name, k
		}
	}
	if found == nil {
		return false
	}
	s.dropKept(oldest)
	return true
}

// dropKept gives back the pages of an idle sequence.
func (s *schedule) dropKept(name string) {
	if k := s.idle[name]; k != nil {
		delete(s.idle, name)
		s.pool.releaseAll(k.table)
	}
}

// release forgets an idle sequence, and waiting and running ones of the name as soon as they end.
func (s *schedule) release(name string) {
	s.dropKept(name)
	for _, under := range [][]*sequence{s.running, s.waiting} {
		for _, q := range under {
			q.forget = q.forget || q.name == name
		}
	}
}

// commit records that the rows of a pass are computed before what is queued next. Their tokens are known.
func (s *schedule) commit(f *flight) {
	f.samples = f.samples[:0]
	for i, q := range f.planned {
		if q.rows == 0 { // it has ended, or given way
			f.planned[i], f.samples = nil, append(f.samples, false)
			continue
		}
		for end := q.cached + q.rows; q.cached < end; q.cached++ {
			at := q.cached / pageTokens
			parent := none
			if at > 0 {
				parent = q.table[at-1]
			}
			q.table[at] = s.pool.fill(q.table[at], parent, q.tokens[q.cached])
		}
		q.rows = 0
		samples := q.cached == len(q.tokens)
		f.samples = append(f.samples, samples)
		q.pending, q.place = samples && f.queued && !q.generation.closing(), int32(i)
	}
}

// end takes a sequence out, running or waiting. A named one keeps its pages for its next turn.
func (s *schedule) end(q *sequence) {
	if s.turn[q.name] == q {
		delete(s.turn, q.name)
	}
	if i := slices.Index(s.waiting, q); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		return
	}
	for last := len(q.table) - 1; last >= pagesFor(q.cached); last-- { // taken for a token that is not computed
		s.pool.release(q.table[last])
		q.table = q.table[:last]
	}
	if q.name != "" && !q.forget {
		s.clock++
		s.idle[q.name] = &kept{table: q.table, since: s.clock}
		q.table = nil
	}
	s.stop(q)
}

// invalidate forgets everything computed, because the weights or the memory are no longer what they
// were. Running sequences wait to be computed again.
func (s *schedule) invalidate() {
	for len(s.running) > 0 {
		s.suspend(s.running[len(s.running)-1])
	}
	for s.dropIdle() {
	}
	s.pool.reset()
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
