package decode

// prefix is the part of some tokens whose keys and values are in the pool.
type prefix struct {
	// pages are full and hold the first len(pages)·pageTokens tokens.
	pages []int32
	// tail is a page whose first common tokens follow; none when there is none.
	tail   int32
	common int
}

// tokens is the number of tokens found.
func (f prefix) tokens() int { return len(f.pages)*pageTokens + f.common }

// find looks up the longest computed beginning of tokens and holds no reference to what it found. It
// appends to pages, which is empty.
func (p *pool) find(tokens, pages []int32) prefix {
	parent := none
	for len(tokens) >= pageTokens {
		head := tokens[:pageTokens]
		id := p.lookup(parent, p.chain(p.hashOf(parent), head), head)
		if id == none {
			break
		}
		pages = append(pages, id)
		parent, tokens = id, tokens[pageTokens:]
	}
	tail, common := p.closest(parent, tokens)
	return prefix{pages, tail, common}
}

// lookup is the full page with these tokens behind a parent, or none. The hash leads to it; the tokens
// decide.
func (p *pool) lookup(parent int32, hash uint64, tokens []int32) int32 {
	for id := *p.bucket(hash); id != none; id = p.pages[id].bucket {
		x := &p.pages[id]
		if x.hash == hash && x.parent == parent && commonTokens(x.tokens[:], tokens) == pageTokens {
			return id
		}
	}
	return none
}

// closest is the child of a parent that shares most tokens with the beginning of tokens. Of equals it
// prefers one that can be continued where it is over one that must be copied.
func (p *pool) closest(parent int32, tokens []int32) (id int32, common int) {
	id = none
	if len(tokens) == 0 {
		return none, 0
	}
	child := p.roots
	if parent != none {
		child = p.pages[parent].child
	}
	for ; child != none; child = p.pages[child].next {
		x := &p.pages[child]
		n := commonTokens(x.tokens[:x.filled], tokens)
		if n > common || n == common && n > 0 && p.continues(child, n) && !p.continues(id, n) {
			id, common = child, n
		}
	}
	return id, common
}

// continues reports whether a table may take the page over and write behind its first n tokens.
func (p *pool) continues(id int32, n int) bool {
	x := &p.pages[id]
	return x.refs == 0 && int(x.filled) == n && n < pageTokens
}

func (p *pool) hashOf(parent int32) uint64 {
	if parent == none {
		return 0
	}
	return p.pages[parent].hash
}

func (p *pool) bucket(hash uint64) *int32 { return &p.index[hash&uint64(len(p.index)-1)] }

// chainHash mixes each token into the hash with SplitMix64's finaliser.
func chainHash(parent uint64, tokens []int32) uint64 {
	h := parent
	for _, t := range tokens {
		h = mix(h + golden + uint64(uint32(t)))
	}
	return h
}

// commonTokens is the length of the longest common beginning.
func commonTokens(a, b []int32) int {
	n := min(len(a), len(b))
	b = b[:n]
	for i, t := range a[:n] {
		if b[i] != t {
			return i
		}
	}
	return n
}
