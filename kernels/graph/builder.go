package graph

import (
	"fmt"

	G "gorgonia.org/gorgonia"
)

// builder makes expressions. Its methods return nodes of one value per packed token unless they say
// otherwise. The first error sticks and is reported once, at the end of building, so that expressions
// read as formulas.
type builder struct {
	graph *G.ExprGraph
	// newOp makes the operations of the element type the graph runs in.
	newOp opMaker
	// varies holds the nodes that depend on a variable being differentiated.
	varies map[*G.Node]bool
	err    error
}

// opMaker makes operations for one element type and layout. varies says which operands depend on a
// differentiated variable.
type opMaker interface {
	// domain is what the vectors of a length in the graph have one value for.
	domain(length int) domain
	elementwise(b *builder, c code, constants [2]float64, d domain, varies []bool) G.Op
	whole(b *builder, w whole, varies []bool) G.Op
	total(b *builder, varies []bool) G.Op
	spread(b *builder, varies []bool) G.Op
}

// apply is an element-wise operation. Where one operand is a vector, the others may be single values.
func (b *builder) apply(c code, constants [2]float64, in ...*G.Node) *G.Node {
	d := single
	for _, node := range in {
		if of := b.domainOf(node); of != single {
			d = of
		}
	}
	for i, node := range in {
		if node != nil && b.domainOf(node) == single {
			in[i] = b.spreadTo(d, node)
		}
	}
	varies := b.variesOf(in)
	if c.rule().pullback == nil {
		clear(varies)
	}
	return b.node(b.newOp.elementwise(b, c, constants, d, varies), varies, in)
}

// domainOf is what a node has values for.
func (b *builder) domainOf(node *G.Node) domain {
	if node == nil {
		return single
	}
	return b.newOp.domain(node.Shape()[0])
}

func (b *builder) variesOf(in []*G.Node) []bool {
	varies := make([]bool, len(in))
	for i, node := range in {
		varies[i] = b.varies[node]
	}
	return varies
}

func (b *builder) node(op G.Op, varies []bool, in []*G.Node) *G.Node {
	if b.err != nil {
		return nil
	}
	for _, node := range in {
		if node == nil {
			b.err = fmt.Errorf("%v: an operand is missing: the expression reads a stream the batch does not have", op)
			return nil
		}
	}
	out, err := G.ApplyOp(op, in...)
	if err != nil {
		b.err = fmt.Errorf("%v: %w", op, err)
		return nil
	}
	for _, v := range varies {
		if v {
			b.varies[out] = true
		}
	}
	return out
}

// total is the sum of x, one value.
func (b *builder) total(x *G.Node) *G.Node {
	if d := b.domainOf(x); d == comparisons {
		return b.whole(totalOf(d), x)
	}
	in := []*G.Node{x}
	varies := b.variesOf(in)
	return b.node(b.newOp.total(b, varies), varies, in)
}

// spread is the one value x at every token.
func (b *builder) spread(x *G.Node) *G.Node { return b.spreadTo(tokens, x) }

func (b *builder) spreadTo(d domain, x *G.Node) *G.Node {
	switch d {
	case single:
		return x
	case comparisons:
		return b.whole(spreadOver(d), x)
	}
	in := []*G.Node{x}
	varies := b.variesOf(in)
	return b.node(b.newOp.spread(b, varies), varies, in)
}

// whole is an operation on whole vectors.
func (b *builder) whole(w whole, in ...*G.Node) *G.Node {
	varies := b.variesOf(in)
	if w.pullback == nil {
		clear(varies)
	}
	return b.node(b.newOp.whole(b, w, varies), varies, in)
}

// average is the mean of x over all packed tokens, one value.
func (b *builder) average(x *G.Node, in inputs) *G.Node {
	return b.mul(b.total(x), b.invert(in.count))
}

// fail remembers the first error.
func (b *builder) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}
