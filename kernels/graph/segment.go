package graph

import (
	"fmt"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
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

// segment is the sum or mean over each segment, at every token of the segment. Both are symmetric
// linear maps, so the pullback is the operation itself. Sums run in float64, in token order.
func (m maker[T]) segment(b *builder, s segment, mean bool, varies []bool) G.Op {
	name := "sum"
	if mean {
		name = "mean"
	}
	o := &op[T]{builder: b, layout: m.layout, name: fmt.Sprintf("%s over %s", name, s), arity: 1, varies: varies, shape: tensor.Shape{m.capacity}}
	o.compute = func(out []T, in [][]T) {
		bounds := m.layout.bounds(s)
		for i := 0; i+1 < len(bounds); i++ {
			x, y := in[0][bounds[i]:bounds[i+1]], out[bounds[i]:bounds[i+1]]
			sum := 0.0
			for _, v := range x {
				sum += float64(v)
			}
			if mean {
				sum /= float64(len(x))
			}
			for j := range y {
				y[j] = T(sum)
			}
		}
	}
	o.pullback = func(in G.Nodes, out, grad *G.Node) G.Nodes { return G.Nodes{b.overSegment(s, mean, grad)} }
	return o
}
