package graph

import (
	G "gorgonia.org/gorgonia"
)

// whole is an operation that looks at whole vectors: a reduction over segments, a scan, a gather, a choice of tokens.
type whole struct {
	// name tells the operation from all others, its settings included.
	name string
	// to is the result's domain.
	to domain
	// float32 and float64 compute the result, of which out has room for all values, from the operands.
	float32 func(l *layout, out []float32, in [][]float32)
	float64 func(l *layout, out []float64, in [][]float64)
	// pullback returns, for each operand, the derivative of the loss given grad, the derivative with respect to
	// out. nil when the operation passes no gradient.
	pullback func(b *builder, in G.Nodes, out, grad *G.Node) G.Nodes
}

func (m maker[T]) whole(b *builder, w whole, varies []bool) G.Op {
	o := &op[T]{builder: b, layout: m.layout, name: w.name, arity: len(varies), varies: varies, shape: m.shape(w.to), domain: w.to}
	var compute any = w.float64
	if _, narrow := any(T(0)).(float32); narrow {
		compute = w.float32
	}
	of := compute.(func(*layout, []T, [][]T))
	o.compute = func(out []T, in [][]T) { of(m.layout, out, in) }
	if w.pullback != nil {
		o.pullback = func(in G.Nodes, out, grad *G.Node) G.Nodes { return w.pullback(b, in, out, grad) }
	}
	return o
}

// totalOf is the sum over a domain, in float64.
func totalOf(d domain) whole {
	return whole{
		name: "total of comparisons", to: single, float32: sumAll[float32](d), float64: sumAll[float64](d),
		pullback: func(b *builder, in G.Nodes, out, grad *G.Node) G.Nodes { return G.Nodes{b.spreadTo(d, grad)} },
	}
}

// spreadOver is one value everywhere in a domain: the transpose of totalOf.
func spreadOver(d domain) whole {
	return whole{
		name: "spread over comparisons", to: d, float32: repeat[float32](d), float64: repeat[float64](d),
		pullback: func(b *builder, in G.Nodes, out, grad *G.Node) G.Nodes { return G.Nodes{b.total(grad)} },
	}
}

func sumAll[T element](d domain) func(*layout, []T, [][]T) {
	return func(l *layout, out []T, in [][]T) { out[0] = T(sumOf(in[0][:l.length(d)])) }
}

func repeat[T element](d domain) func(*layout, []T, [][]T) {
	return func(l *layout, out []T, in [][]T) { fill(out[:l.length(d)], in[0][0]) }
}
