package graph

import (
	G "gorgonia.org/gorgonia"
)

// total is the sum over all tokens, in float64 and token order.
func (m maker[T]) total(b *builder, varies []bool) G.Op {
	o := &op[T]{builder: b, layout: m.layout, name: "total", kind: kindTotal, arity: 1, varies: varies, shape: m.shape(single)}
	o.compute = func(out []T, in [][]T) {
		sum := 0.0
		for _, v := range in[0][:m.layout.tokens] {
			sum += float64(v)
		}
		out[0] = T(sum)
	}
	o.pullback = func(in G.Nodes, out, grad *G.Node) G.Nodes { return G.Nodes{b.spread(grad)} }
	return o
}

// spread is one value at every token: the transpose of total.
func (m maker[T]) spread(b *builder, varies []bool) G.Op {
	o := &op[T]{builder: b, layout: m.layout, name: "spread", kind: kindSpread, arity: 1, varies: varies, shape: m.shape(tokens), domain: tokens}
	o.compute = func(out []T, in [][]T) {
		out = out[:m.layout.tokens]
		for i := range out {
			out[i] = in[0][0]
		}
	}
	o.pullback = func(in G.Nodes, out, grad *G.Node) G.Nodes { return G.Nodes{b.total(grad)} }
	return o
}
