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
	// following, better and worse are token numbers to gather from; pairs are sequences to compare. They are laid out
	// for the programs that need them.
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
		for k := l.sequences[i] + 1; k < l.sequences[i+1]; k++ {
			if turn[l.position(k)] != turn[l.position(k-1)] {
				l.turns = append(l.turns, k)
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

// gather writes the values at packed tokens from, from+1, … of a stream of the batch into out.
func gather[T element](l *layout, out, stream []T, from int) {
	if l.dense {
		copy(out, stream[from:])
		return
	}
	for i, position := range l.positions[from : from+len(out)] {
		out[i] = stream[position]
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
