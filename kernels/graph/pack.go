package graph

import (
	"sort"

	"github.com/turnwise-rl/turnwise/kernels"
)

// layout says which tokens an evaluation uses. The graph's operations share one and the evaluator rewrites it before
// every run.
type layout struct {
	// tokens is how many sampled tokens there are: how many of a vector's values are in use.
	tokens int
	// positions are the batch positions of the sampled tokens. len = tokens; unused when dense.
	positions []int32
	// dense is true when every token is sampled, so that a stream of the batch is a vector as it stands.
	dense bool
	// turns and sequences bound the segments: segment i is [turns[i], turns[i+1]).
	turns, sequences []int32
	// following, better and worse are token numbers to gather from, pairs are sequences to compare. Each is laid out for
	// the graphs that look at it.
	following, better, worse []int32
	pairs                    []pair
	// counts are the sampled tokens of each tile of the batch.
	counts []int
}

// read lays out a batch. withTurns says that the program looks at turns; each sequence is one turn otherwise.
func (l *layout) read(threads int, offsets []int32, sampled []bool, turn []int32, withTurns bool) {
	l.find(threads, sampled)
	l.sequences = append(l.sequences[:0], 0)
	for _, offset := range offsets {
		if at := l.packed(offset); at > l.sequences[len(l.sequences)-1] {
			l.sequences = append(l.sequences, at)
		}
	}
	if !withTurns || turn == nil {
		l.turns = append(l.turns[:0], l.sequences...)
		return
	}
	l.turns = append(l.turns[:0], 0)
	for i := 0; i+1 < len(l.sequences); i++ {
		last := turn[l.position(l.sequences[i])]
		for k := l.sequences[i] + 1; k < l.sequences[i+1]; k++ {
			if t := turn[l.position(k)]; t != last {
				l.turns, last = append(l.turns, k), t
			}
		}
		l.turns = append(l.turns, l.sequences[i+1])
	}
}

// find counts the sampled tokens and lists their positions.
func (l *layout) find(threads int, sampled []bool) {
	tiles := tilesOf(len(sampled))
	l.counts = resized(l.counts, tiles)
	inTiles(threads, tiles, func(_, tile int) {
		count := 0
		for _, s := range sampled[tile*tileSize : min((tile+1)*tileSize, len(sampled))] {
			if s {
				count++
			}
		}
		l.counts[tile] = count
	})
	l.tokens = 0
	for tile, count := range l.counts {
		l.counts[tile] = l.tokens
		l.tokens += count
	}
	l.dense = l.tokens == len(sampled)
	if l.dense {
		return
	}
	l.positions = resized(l.positions, l.tokens)
	inTiles(threads, tiles, func(_, tile int) {
		at := l.counts[tile]
		for t := tile * tileSize; t < min((tile+1)*tileSize, len(sampled)); t++ {
			if sampled[t] {
				l.positions[at] = int32(t)
				at++
			}
		}
	})
}

// position is where packed token k stands in the batch.
func (l *layout) position(k int32) int32 {
	if l.dense {
		return k
	}
	return l.positions[k]
}

// packed is how many sampled tokens stand before a position of the batch.
func (l *layout) packed(position int32) int32 {
	if l.dense {
		return position
	}
	return int32(sort.Search(l.tokens, func(k int) bool { return l.positions[k] >= position }))
}

// contiguous is true where packed tokens from … from+n stand side by side in the batch.
func (l *layout) contiguous(from, n int) bool {
	return l.dense || int(l.positions[from+n-1]-l.positions[from]) == n-1
}

// stride is how many packed tokens are moved at once where they stand side by side: turns are longer than that.
const stride = 32

// gather writes the values at packed tokens from, from+1, … of a stream of the batch into out.
func gather[T element](l *layout, out, stream []T, from int) {
	for len(out) > 0 {
		n := min(stride, len(out))
		if l.contiguous(from, n) {
			at := l.position(int32(from))
			copy(out[:n], stream[at:])
		} else {
			for i, position := range l.positions[from : from+n] {
				out[i] = stream[position]
			}
		}
		out, from = out[n:], from+n
	}
}

// scatter writes values to the packed tokens from, from+1, … of a stream of the batch.
func scatter[T element](l *layout, stream, values []T, from int) {
	for len(values) > 0 {
		n := min(stride, len(values))
		if l.contiguous(from, n) {
			copy(stream[l.position(int32(from)):], values[:n])
		} else {
			for i, position := range l.positions[from : from+n] {
				stream[position] = values[i]
			}
		}
		values, from = values[n:], from+n
	}
}

// count is what the batch counts to, as far as the layout knows.
func (l *layout) count() kernels.Totals {
	return kernels.Totals{Tokens: l.tokens, Sequences: len(l.sequences) - 1}
}

// resized is a slice of n values with unspecified contents, in the memory of values where it fits.
func resized[T any](values []T, n int) []T {
	if cap(values) < n {
		return make([]T, n)
	}
	return values[:n]
}
