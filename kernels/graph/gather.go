package graph

import (
	G "gorgonia.org/gorgonia"
)

// index names an array of token numbers that the layout keeps; −1 stands for no token.
type index uint8

const (
	following index = iota // the next token of the same sequence
	better                 // a token of the sequence with the higher score, for each comparison
	worse                  // and one of the sequence with the lower score
)

func (x index) String() string { return [...]string{"following", "better", "worse"}[x] }

// domain is what the index has a token number for.
func (x index) domain() domain {
	if x == following {
		return tokens
	}
	return comparisons
}

func (l *layout) index(x index) []int32 {
	switch x {
	case better:
		return l.better
	case worse:
		return l.worse
	}
	l.follow()
	return l.following
}

// gather is x at the tokens of an index, 0 where there is none.
func (b *builder) gather(from index, x *G.Node) *G.Node {
	return b.whole(whole{
		name: "gather " + from.String(), to: from.domain(), float32: gatherBy[float32](from), float64: gatherBy[float64](from),
		pullback: func(b *builder, in G.Nodes, out, grad *G.Node) G.Nodes { return G.Nodes{b.scatter(from, grad)} },
	}, x)
}

// scatter adds up the values of x at the tokens of an index: the transpose of gather.
func (b *builder) scatter(to index, x *G.Node) *G.Node {
	return b.whole(whole{
		name: "scatter " + to.String(), to: tokens, float32: scatterBy[float32](to), float64: scatterBy[float64](to),
		pullback: func(b *builder, in G.Nodes, out, grad *G.Node) G.Nodes { return G.Nodes{b.gather(to, grad)} },
	}, x)
}

func gatherBy[T element](from index) func(*layout, []T, [][]T) {
	return func(l *layout, out []T, in [][]T) {
		for i, t := range l.index(from) {
			out[i] = 0
			if t >= 0 {
				out[i] = in[0][t]
			}
		}
	}
}

func scatterBy[T element](to index) func(*layout, []T, [][]T) {
	return func(l *layout, out []T, in [][]T) {
		clear(out[:l.tokens])
		for i, t := range l.index(to) {
			if t >= 0 {
				out[t] += in[0][i]
			}
		}
	}
}

// follow indexes the next token of each sequence.
func (l *layout) follow() {
	l.following = resized(l.following, l.tokens)
	for i := 0; i+1 < len(l.sequences); i++ {
		for t := l.sequences[i]; t < l.sequences[i+1]; t++ {
			l.following[t] = t + 1
		}
		l.following[l.sequences[i+1]-1] = -1
	}
}
