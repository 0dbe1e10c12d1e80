package graph

import (
	G "gorgonia.org/gorgonia"
)

// segment names a partition of the packed tokens into contiguous runs.
type segment uint8

const (
	turns segment = iota
	sequences
)

func (s segment) String() string { return [...]string{"turn", "sequence"}[s] }

func (l *layout) bounds(s segment) []int32 {
	if s == turns {
		return l.turns
	}
	return l.sequences
}

// segmentSum is the sum of x over the tokens of each segment, at every token of the segment; segmentMean is the mean.
// Both are symmetric linear maps, so the pullback is the operation itself. Sums run in float64, in token order.
func (b *builder) segmentSum(s segment, x *G.Node) *G.Node {
	return b.whole(whole{
		name: "sum over " + s.String(), to: tokens, float32: reduce(s, sumOf[float32]), float64: reduce(s, sumOf[float64]),
		pullback: func(b *builder, in G.Nodes, out, grad *G.Node) G.Nodes { return G.Nodes{b.segmentSum(s, grad)} },
	}, x)
}

func (b *builder) segmentMean(s segment, x *G.Node) *G.Node {
	return b.whole(whole{
		name: "mean over " + s.String(), to: tokens, float32: reduce(s, meanOf[float32]), float64: reduce(s, meanOf[float64]),
		pullback: func(b *builder, in G.Nodes, out, grad *G.Node) G.Nodes { return G.Nodes{b.segmentMean(s, grad)} },
	}, x)
}

// segmentMax is the largest value of each segment, at every token of it; the gradient goes to the first token that
// has it.
func (b *builder) segmentMax(s segment, x *G.Node) *G.Node {
	return b.whole(whole{
		name: "max over " + s.String(), to: tokens, float32: reduce(s, maxOf[float32]), float64: reduce(s, maxOf[float64]),
		pullback: func(b *builder, in G.Nodes, out, grad *G.Node) G.Nodes {
			return G.Nodes{b.mul(b.firstMax(s, in[0]), b.segmentSum(s, grad))}
		},
	}, x)
}

// segmentMin is the smallest value of each segment.
func (b *builder) segmentMin(s segment, x *G.Node) *G.Node { return b.neg(b.segmentMax(s, b.neg(x))) }

// firstMax is 1 at the first token of each segment that has the segment's largest value, 0 at the others.
func (b *builder) firstMax(s segment, x *G.Node) *G.Node {
	return b.whole(whole{name: "first of max over " + s.String(), to: tokens, float32: markMax[float32](s), float64: markMax[float64](s)}, x)
}

func reduce[T element](s segment, of func([]T) float64) func(*layout, []T, [][]T) {
	return func(l *layout, out []T, in [][]T) {
		bounds := l.bounds(s)
		for i := 0; i+1 < len(bounds); i++ {
			fill(out[bounds[i]:bounds[i+1]], T(of(in[0][bounds[i]:bounds[i+1]])))
		}
	}
}

func meanOf[T element](x []T) float64 { return sumOf(x) / float64(len(x)) }

func maxOf[T element](x []T) float64 {
	largest := x[0]
	for _, v := range x {
		largest = max(largest, v)
	}
	return float64(largest)
}

func markMax[T element](s segment) func(*layout, []T, [][]T) {
	return func(l *layout, out []T, in [][]T) {
		bounds := l.bounds(s)
		for i := 0; i+1 < len(bounds); i++ {
			x, y := in[0][bounds[i]:bounds[i+1]], out[bounds[i]:bounds[i+1]]
			fill(y, 0)
			first := 0
			for j, v := range x {
				if v > x[first] {
					first = j
				}
			}
			y[first] = 1
		}
	}
}
