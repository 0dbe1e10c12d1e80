package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// pair is two of the layout's sequences.
type pair struct{ chosen, rejected int }

// contrast is, at the first token of each pair's chosen sequence, the sum of x over that sequence minus the sum over
// the rejected one, and 0 at all other tokens. Sums and difference run in float64 and are rounded once.
func (b *builder) contrast(x *G.Node) *G.Node {
	return b.whole(whole{
		name: "contrast", to: tokens, float32: contrastPairs[float32], float64: contrastPairs[float64],
		pullback: func(b *builder, in G.Nodes, out, grad *G.Node) G.Nodes { return G.Nodes{b.uncontrast(grad)} },
	}, x)
}

// uncontrast is the transpose of contrast: the value at the first token of a chosen sequence at all its tokens, and
// its negative at those of the rejected one.
func (b *builder) uncontrast(x *G.Node) *G.Node {
	return b.whole(whole{
		name: "uncontrast", to: tokens, float32: uncontrastPairs[float32], float64: uncontrastPairs[float64],
		pullback: func(b *builder, in G.Nodes, out, grad *G.Node) G.Nodes { return G.Nodes{b.contrast(grad)} },
	}, x)
}

func contrastPairs[T element](l *layout, out []T, in [][]T) {
	clear(out[:l.tokens])
	for _, p := range l.pairs {
		chosen, rejected := tokensOf(l, p.chosen, in[0]), tokensOf(l, p.rejected, in[0])
		out[l.sequences[p.chosen]] = T(sumOf(chosen) - sumOf(rejected))
	}
}

func uncontrastPairs[T element](l *layout, out []T, in [][]T) {
	clear(out[:l.tokens])
	for _, p := range l.pairs {
		x := in[0][l.sequences[p.chosen]]
		fill(tokensOf(l, p.chosen, out), x)
		fill(tokensOf(l, p.rejected, out), -x)
	}
}

// tokensOf are the values of one of the layout's sequences.
func tokensOf[T element](l *layout, sequence int, values []T) []T {
	return values[l.sequences[sequence]:l.sequences[sequence+1]]
}

// live are the sequences of a batch that have a sampled token, which are those of the layout.
func (l *layout) live(offsets []int32) []int {
	var live []int
	for i := 0; i+1 < len(offsets); i++ {
		if l.packed(offsets[i]) < l.packed(offsets[i+1]) {
			live = append(live, i)
		}
	}
	return live
}

// pair lays out the batch's pairs, in the order of their chosen sequences.
func layPairs[T element](l *layout, b kernels.Batch[T]) {
	l.pairs = l.pairs[:0]
	rejected := map[int32]int{}
	live := l.live(b.Offsets)
	for at, i := range live {
		if b.Pair[i] >= 0 && !b.Chosen[i] {
			rejected[b.Pair[i]] = at
		}
	}
	for at, i := range live {
		if b.Pair[i] >= 0 && b.Chosen[i] {
			l.pairs = append(l.pairs, pair{at, rejected[b.Pair[i]]})
		}
	}
}
