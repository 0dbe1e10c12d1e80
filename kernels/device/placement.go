package device

// PartPages is the number of pages of a part of a sequence, the unit in which placements have room: see
// [Placement.Capacity].
const PartPages = 8

// Placement says where the rows of a decoding pass stand in a cache.
type Placement struct {
	// Offsets are those of the new rows. len = sequences + 1.
	Offsets []int32
	// Cached is the number of a sequence's positions that the cache holds before its new rows: the position
	// of the first of them.
	Cached []int32
	// Tables are the pages of each sequence in order; page j holds positions j·PageTokens and on. They
	// cover the new rows.
	Tables [][]int32
	// Capacity is 0, or the number of parts that there is room for: Place refuses more. With it, where the device keeps
	// its copy and how much room operations leave for work depend on Offsets and Capacity alone, so that what was
	// recorded may be replayed after another Place of the same Offsets and Capacity.
	Capacity int
	// Device is for the device to keep its copy in; Place writes it. It is replaced only where it has become too small.
	Device Buffer

	// checked is what the last CheckPlace has found.
	checked placementSize
}

// placementSize is what checks of a layer need of a placement, without looking at all of it.
type placementSize struct {
	sequences int
	rows      int32
	// highest is the highest page of the tables; −1 where there is none.
	highest int32
}

// Sequences is the number of sequences.
func (p *Placement) Sequences() int { return max(0, len(p.Offsets)-1) }

// Rows is the number of new rows.
func (p *Placement) Rows() int {
	if len(p.Offsets) == 0 {
		return 0
	}
	return int(p.Offsets[len(p.Offsets)-1])
}

// Parts is the number of parts that the sequences reach into, each with its new rows: ⌈positions / (PartPages·PageTokens)⌉ of each.
func (p *Placement) Parts() int {
	const part = PartPages * PageTokens
	parts := 0
	for i, cached := range p.Cached {
		parts += (int(cached+p.Offsets[i+1]-p.Offsets[i]) + part - 1) / part
	}
	return parts
}

// CheckPlace checks what a placement says of itself, and notes for the checks of WritePages and AttendPages that it has
// done so.
func CheckPlace(at *Placement) {
	const o = operation("Place")
	o.placement(at)
	if at.Capacity < 0 {
		o.fail("Capacity", "want at least 0, got %d", at.Capacity)
	}
	if parts := at.Parts(); at.Capacity > 0 && parts > at.Capacity {
		o.fail("Capacity", "want room for %d parts of %d positions, got %d", parts, PartPages*PageTokens, at.Capacity)
	}
}

// placement checks all numbers of a placement but those of what was placed before.
func (o operation) placement(at *Placement) {
	o.offsets("Offsets", at.Offsets)
	if n := at.Sequences(); len(at.Cached) != n || len(at.Tables) != n {
		o.fail("at", "want Cached and Tables of %d sequences, got %d and %d", n, len(at.Cached), len(at.Tables))
	}
	highest := int32(-1)
	for i, table := range at.Tables {
		if at.Cached[i] < 0 {
			o.fail("Cached", "want at least 0, got %d for sequence %d", at.Cached[i], i)
		}
		end := int(at.Cached[i] + at.Offsets[i+1] - at.Offsets[i])
		if len(table)*PageTokens < end {
			o.fail("Tables", "want pages for %d positions of sequence %d, got %d pages of %d", end, i, len(table), PageTokens)
		}
		for j, page := range table {
			if page < 0 {
				o.fail("Tables", "want pages from 0 on, got %d as page %d of sequence %d", page, j, i)
			}
			highest = max(highest, page)
		}
	}
	at.checked = placementSize{sequences: at.Sequences(), rows: int32(at.Rows()), highest: highest}
}

// placed checks a placement against the cache; it returns the number of new rows. What Place has looked at it does not look
// at again, for it is called for every layer.
func (o operation) placed(p Pages, layer int, at *Placement) int {
	s := p.Shape()
	if layer < 0 || layer >= s.Layers {
		o.fail("layer", "want one of %d, got %d", s.Layers, layer)
	}
	n := at.Sequences()
	if at.checked.sequences != n || int(at.checked.rows) != at.Rows() || len(at.Cached) != n || len(at.Tables) != n {
		o.placement(at) // not as it was placed, or never placed
	}
	if n > 0 && int(at.checked.highest) >= s.Pages {
		o.tooHigh(at, s.Pages)
	}
	return at.Rows()
}

// tooHigh says which page the cache does not have.
func (o operation) tooHigh(at *Placement, pages int) {
	for i, table := range at.Tables {
		for j, page := range table {
			if int(page) >= pages {
				o.fail("Tables", "want one of %d pages, got %d as page %d of sequence %d", pages, page, j, i)
			}
		}
	}
}
