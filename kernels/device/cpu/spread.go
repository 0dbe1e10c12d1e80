package cpu

// rowWork computes rows [lo, hi) of an operation whose rows do not depend on each other.
type rowWork interface{ run(lo, hi int) }

// spread shares one kind of work among cores. Its zero value is ready. Where the work is shared, helpers
// find it behind a pointer; those that are not in use are kept, so that sharing allocates nothing.
type spread[W rowWork] struct{ unused free[rowTask[W]] }

// spreads are those of a device.
type spreads struct {
	norm       spread[normWork]
	swiglu     spread[swigluWork]
	swigluBack spread[swigluBackWork]
	gather     spread[gatherWork]
	bias       spread[biasWork]
	heads      spread[headsWork]
	attention  spread[attentionWork]
	pages      spread[pagesWork]
	score      spread[headWork]
	logitsBack spread[logitsBackWork]
	sample     spread[sampleWork]
	adamW      spread[adamWWork]
	scale      spread[scaleWork]
	round      spread[roundWork]
	add        spread[addWork]
	copyF32    spread[copyWork[float32]]
	copyI32    spread[copyWork[int32]]
	copyHalf   spread[copyWork[uint16]]
}

// rowTask is a job whose parts are some of the rows each.
type rowTask[W rowWork] struct {
	work W
	rows int
}

func (t *rowTask[W]) part(part, parts int) { t.work.run(part*t.rows/parts, (part+1)*t.rows/parts) }

// Rows are shared among cores where there are so many elements, in parts of at least so many: less is
// done before another goroutine starts.
const (
	sharedElements = 64 << 10
	partElements   = 16 << 10
)

// overRows runs the work on rows of so many elements.
func (s *spread[W]) overRows(w W, rows, width int) {
	if rows*width < sharedElements || alone() {
		w.run(0, rows)
		return
	}
	s.run(w, rows, (partElements+width-1)/max(width, 1))
}

// run runs the work in parts of at least so many rows, as Parallel does.
func (s *spread[W]) run(w W, rows, minPerPart int) {
	j := takeJob(partsOf(rows, minPerPart))
	if j == nil {
		w.run(0, rows)
		return
	}
	t := s.unused.take()
	t.work, t.rows = w, rows
	done := j.run(t)
	var none W
	t.work = none // keeps no matrix alive
	s.unused.give(t)
	if !done {
		w.run(0, rows)
	}
}

// alone reports whether work is better not shared: there is one thread, or the others are busy.
func alone() bool { return shared.Load() != nil || Threads() == 1 }
