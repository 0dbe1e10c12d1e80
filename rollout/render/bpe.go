package render

// The cache holds pieces of everyday length and stops growing at a bound: rare long pieces would
// crowd out nothing and only cost memory.
const (
	cachedPieces     = 1 << 15
	cachedPieceBytes = 64
)

// appendPiece appends the ids of one piece.
func (t *Tokenizer) appendPiece(ids []int32, piece string) []int32 {
	if len(piece) == 1 {
		return append(ids, t.bytes[piece[0]])
	}
	t.cacheLock.RLock()
	known, ok := t.cache[piece]
	t.cacheLock.RUnlock()
	if ok {
		return append(ids, known...)
	}
	encoded := t.encodePiece(piece)
	if len(piece) <= cachedPieceBytes {
		t.cacheLock.Lock()
		if len(t.cache) < cachedPieces {
			t.cache[string([]byte(piece))] = encoded // a copy: the piece may pin a long text
		}
		t.cacheLock.Unlock()
	}
	return append(ids, encoded...)
}

// encodePiece applies the merges to the bytes of a piece: always the rule of smallest rank, the
// leftmost place first, until none applies. A heap of candidate places keeps long pieces (a tool can
// return a megabyte without a space) at n log n.
func (t *Tokenizer) encodePiece(piece string) []int32 {
	if t.ignoreMerges {
		if id, ok := t.whole[piece]; ok {
			return []int32{id}
		}
	}
	symbols := make([]symbol, len(piece))
	for i := range symbols {
		symbols[i] = symbol{id: t.bytes[piece[i]], previous: int32(i) - 1, next: int32(i) + 1, rank: never}
	}
	places := make(placeHeap, 0, len(piece))
	for i := range symbols[1:] {
		if rank := t.rankAt(symbols, int32(i)); rank != never {
			places = append(places, placeOf(rank, int32(i)))
		}
	}
	places.order()
	for len(places) > 0 {
		rank, at := places.pop()
		left := &symbols[at]
		if left.rank != rank {
			continue // an earlier merge changed this place
		}
		left.id = t.merges[rank].id
		symbols[left.next].rank = never
		left.next = symbols[left.next].next
		if int(left.next) < len(symbols) {
			symbols[left.next].previous = at
		}
		for _, changed := range [2]int32{left.previous, at} {
			if rank := t.rankAt(symbols, changed); rank != never {
				places.push(placeOf(rank, changed))
			}
		}
	}
	ids := make([]int32, 0, len(piece)/2+1)
	for i := int32(0); int(i) < len(symbols); i = symbols[i].next {
		ids = append(ids, symbols[i].id)
	}
	return ids
}

// symbol is an element of the linked list of tokens that a piece currently consists of.
type symbol struct {
	id             int32
	previous, next int32 // -1 and len(piece) at the ends
	rank           int32 // of the merge with the next symbol, or never
}

// never is the rank of what does not merge.
const never = -1

// rankAt looks up the merge of a symbol with its successor and remembers it in the symbol.
func (t *Tokenizer) rankAt(symbols []symbol, at int32) int32 {
	if at < 0 {
		return never
	}
	left := &symbols[at]
	left.rank = never
	if int(left.next) < len(symbols) {
		if m, ok := t.ranks[pair{left.id, symbols[left.next].id}]; ok {
			left.rank = m.rank
		}
	}
	return left.rank
}

// placeHeap is a binary heap of places that may be merged, the smallest rank first and then the
// leftmost: rank and position stand in one number in this order.
type placeHeap []uint64

func placeOf(rank, at int32) uint64 { return uint64(rank)<<32 | uint64(at) }

// order makes a heap of numbers in any order.
func (h placeHeap) order() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

func (h *placeHeap) push(place uint64) {
	*h = append(*h, place)
	for i := len(*h) - 1; i > 0; {
		parent := (i - 1) / 2
		if (*h)[parent] <= (*h)[i] {
			return
		}
		(*h)[parent], (*h)[i] = (*h)[i], (*h)[parent]
		i = parent
	}
}

func (h *placeHeap) pop() (rank, at int32) {
	first := (*h)[0]
	last := len(*h) - 1
	(*h)[0] = (*h)[last]
	*h = (*h)[:last]
	h.down(0)
	return int32(first >> 32), int32(first & (1<<32 - 1))
}

func (h placeHeap) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h[child+1] < h[child] {
			child++
		}
		if h[i] <= h[child] {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}
