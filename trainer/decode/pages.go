package decode

import (
	"slices"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// pageTokens is the number of positions of a page.
const pageTokens = device.PageTokens

// none is the absence of a page: the parent of first pages, the end of a list, a refused allocation.
const none int32 = -1

// page is what the pool knows of one page of the cache. Pages with contents form a tree: the parent
// of a page holds the positions before its own, so a path from the root is the beginning of a sequence.
type page struct {
	tokens [pageTokens]int32 // whose keys and values are at the page's positions; the first filled ones
	filled int32
	// refs is the number of tables that hold the page. A page that is not full is in at most one
	// table, so it has one writer; a full page is never written.
	refs int32
	// linked says that the page is in the tree, where others find it.
	linked bool
	parent int32
	hash   uint64 // of a full page: of its tokens and its parent's hash
	// child is the first child; next and prev are its siblings.
	child, next, prev int32
	// bucket is the next full page in the same bucket of the index.
	bucket int32
	// newer and older are the neighbours among the unreferenced pages.
	newer, older int32
}

// pool hands out pages and finds computed ones by the tokens they hold. It is a plain data structure:
// which page is chosen depends on the calls before and on nothing else.
//
// A page in a table has its parent in the same table. So an unreferenced page has no referenced
// descendants, and because a table gives its pages back last page first, it was given back after all
// of them: the page unreferenced longest is a leaf of the tree.
type pool struct {
	pages []page
	// free are pages without contents, taken from the end.
	free []int32
	// oldest and newest are the ends of the list of unreferenced pages that are in the tree.
	oldest, newest int32
	unreferenced   int
	// roots is the first of the pages that hold positions from 0.
	roots int32
	// index finds full pages: heads of the lists of its buckets, a power of two of them.
	index []int32
	// chain is the hash of a page's tokens behind a parent's.
	chain func(parent uint64, tokens []int32) uint64
}

func newPool(pages int) *pool {
	buckets := 1
	for buckets < 2*pages {
		buckets *= 2
	}
	p := &pool{pages: make([]page, pages), free: make([]int32, 0, pages), index: make([]int32, buckets), chain: chainHash}
	p.reset()
	return p
}

// reset forgets all contents. No table may hold a page.
func (p *pool) reset() {
	p.free = p.free[:0]
	for id := int32(len(p.pages)) - 1; id >= 0; id-- {
		p.pages[id] = page{parent: none, child: none, next: none, prev: none, bucket: none, newer: none, older: none}
		p.free = append(p.free, id)
	}
	p.oldest, p.newest, p.roots, p.unreferenced = none, none, none, 0
	for i := range p.index {
		p.index[i] = none
	}
}

// available is the number of pages that can be allocated.
func (p *pool) available() int { return len(p.free) + p.unreferenced }

// allocate returns an empty page with one reference, none when all are referenced. It takes a free
// page, else the page that has been unreferenced for longest.
func (p *pool) allocate() int32 {
	id := p.oldest
	switch n := len(p.free); {
	case n > 0:
		id = p.free[n-1]
		p.free = p.free[:n-1]
	case id == none:
		return none
	default:
		p.unqueue(id)
		p.unlink(id)
	}
	p.pages[id].refs = 1
	p.pages[id].filled = 0
	return id
}

func (p *pool) retain(id int32) {
	if p.pages[id].refs == 0 {
		p.unqueue(id)
	}
	p.pages[id].refs++
}

// release takes a reference away. A page with contents can still be found until it is allocated anew.
func (p *pool) release(id int32) {
	x := &p.pages[id]
	x.refs--
	switch {
	case x.refs > 0:
	case x.linked:
		p.queue(id)
	default:
		p.free = append(p.free, id)
	}
}

// releaseAll gives back a table, last page first.
func (p *pool) releaseAll(table []int32) {
	for _, id := range slices.Backward(table) {
		p.release(id)
	}
}

// fill records that the keys and values of a token were computed at the page's next position. Parent is
// the page before it, none for the first. It returns the page that now belongs into the table: when the
// page has become the equal of one that is known, that one, with the reference moved to it.
func (p *pool) fill(id, parent, token int32) int32 {
	x := &p.pages[id]
	if x.filled == 0 {
		p.link(id, parent)
	}
	x.tokens[x.filled] = token
	x.filled++
	if x.filled < pageTokens {
		return id
	}
	x.hash = p.chain(p.hashOf(parent), x.tokens[:])
	if same := p.lookup(parent, x.hash, x.tokens[:]); same != none {
		p.retain(same)
		p.unlink(id)
		p.release(id)
		return same
	}
	bucket := p.bucket(x.hash)
	x.bucket, *bucket = *bucket, id
	return id
}

// branch allocates a page with the first n tokens of another one, whose contents the caller copies;
// none when there is no page.
func (p *pool) branch(source int32, n int) int32 {
	p.retain(source) // it must not be the page that is taken
	id := p.allocate()
	p.release(source)
	if id == none {
		return none
	}
	from, to := &p.pages[source], &p.pages[id]
	to.tokens = from.tokens
	to.filled = int32(n)
	p.link(id, from.parent)
	return id
}

// link puts a page into the tree.
func (p *pool) link(id, parent int32) {
	first := &p.roots
	if parent != none {
		first = &p.pages[parent].child
	}
	x := &p.pages[id]
	x.linked, x.parent, x.prev, x.next = true, parent, none, *first
	if x.next != none {
		p.pages[x.next].prev = id
	}
	*first = id
}

// unlink takes a leaf out of the tree and out of the index.
func (p *pool) unlink(id int32) {
	x := &p.pages[id]
	switch {
	case x.prev != none:
		p.pages[x.prev].next = x.next
	case x.parent != none:
		p.pages[x.parent].child = x.next
	default:
		p.roots = x.next
	}
	if x.next != none {
		p.pages[x.next].prev = x.prev
	}
	if x.filled == pageTokens {
		for at := p.bucket(x.hash); *at != none; at = &p.pages[*at].bucket {
			if *at == id {
				*at = x.bucket
				break
			}
		}
	}
	x.linked, x.parent, x.next, x.prev, x.bucket = false, none, none, none, none
}

// queue appends to the list of unreferenced pages.
func (p *pool) queue(id int32) {
	x := &p.pages[id]
	x.older, x.newer = p.newest, none
	if p.newest == none {
		p.oldest = id
	} else {
		p.pages[p.newest].newer = id
	}
	p.newest = id
	p.unreferenced++
}

func (p *pool) unqueue(id int32) {
	x := &p.pages[id]
	if x.older == none {
		p.oldest = x.newer
	} else {
		p.pages[x.older].newer = x.newer
	}
	if x.newer == none {
		p.newest = x.older
	} else {
		p.pages[x.newer].older = x.older
	}
	x.older, x.newer = none, none
	p.unreferenced--
}
