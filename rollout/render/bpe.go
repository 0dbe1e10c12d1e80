package render

import "container/heap"

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
		symbols[i] = symbol{id: t.bytes[piece[i]], previous: i - 1, next: i + 1}
	}
	var places placeHeap
	propose := func(at int) {
		if at < 0 || symbols[at].next >= len(symbols) {
			return
		}
		p := pair{symbols[at].id, symbols[symbols[at].next].id}
		if m, ok := t.ranks[p]; ok {
			heap.Push(&places, place{at: at, pair: p, merged: m})
		}
	}
	for i := range symbols {
		propose(i)
	}
	for len(places) > 0 {
		p := heap.Pop(&places).(place)
		left := &symbols[p.at]
		if left.id != p.left || left.next >= len(symbols) || symbols[left.next].id != p.right {
			continue // an earlier merge changed this place
		}
		symbols[left.next].id = gone
		left.id, left.next = p.id, symbols[left.next].next
		if left.next < len(symbols) {
			symbols[left.next].previous = p.at
		}
		propose(left.previous)
		propose(p.at)
	}
	ids := make([]int32, 0, len(piece)/2+1)
	for i := 0; i < len(symbols); i = symbols[i].next {
		ids = append(ids, symbols[i].id)
	}
	return ids
}

// symbol is an element of the linked list of tokens that a piece currently consists of.
type symbol struct {
	id             int32
	previous, next int
}

// gone marks a symbol that was merged into its left neighbour.
const gone = -1

// place is a pair that may be merged: the pair and its position.
type place struct {
	at int
	pair
	merged
}

type placeHeap []place

func (h placeHeap) Len() int { return len(h) }
func (h placeHeap) Less(i, j int) bool {
	if h[i].rank != h[j].rank {
		return h[i].rank < h[j].rank
	}
	return h[i].at < h[j].at
}
func (h placeHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *placeHeap) Push(x any)   { *h = append(*h, x.(place)) }
func (h *placeHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
