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
	elementwise(b *builder, c code, constants [2]float64, one bool, varies []bool) G.Op
	segment(b *builder, s segment, mean bool, varies []bool) G.Op
	total(b *builder, varies []bool) G.Op
	spread(b *builder, varies []bool) G.Op
}

func (b *builder) apply(c code, constants [2]float64, in ...*G.Node) *G.Node {
	varies := b.variesOf(in)
	if c.rule().pullback == nil {
		clear(varies)
	}
	one := true // an operation on single values has a single value
	for _, node := range in {
		one = one && node != nil && node.Shape()[0] == 1
	}
	return b.node(b.newOp.elementwise(b, c, constants, one, varies), varies, in)
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

func (b *builder) neg(x *G.Node) *G.Node    { return b.apply(opNeg, [2]float64{}, x) }
func (b *builder) exp(x *G.Node) *G.Node    { return b.apply(opExp, [2]float64{}, x) }
func (b *builder) square(x *G.Node) *G.Node { return b.apply(opSquare, [2]float64{}, x) }

// stop is x as a constant: no gradient flows through it.
func (b *builder) stop(x *G.Node) *G.Node { return b.apply(opStop, [2]float64{}, x) }

// scale is c·x and shift is x + c.
func (b *builder) scale(c float64, x *G.Node) *G.Node { return b.apply(opScale, [2]float64{c}, x) }
func (b *builder) shift(x *G.Node, c float64) *G.Node { return b.apply(opShift, [2]float64{c}, x) }

// clip limits x to [low, high]; its gradient is 1 inside, bounds included, and 0 outside.
func (b *builder) clip(x *G.Node, low, high float64) *G.Node {
	return b.apply(opClip, [2]float64{low, high}, x)
}

func (b *builder) add(x, y *G.Node) *G.Node    { return b.apply(opAdd, [2]float64{}, x, y) }
func (b *builder) sub(x, y *G.Node) *G.Node    { return b.apply(opSub, [2]float64{}, x, y) }
func (b *builder) mul(x, y *G.Node) *G.Node    { return b.apply(opMul, [2]float64{}, x, y) }
func (b *builder) min(x, y *G.Node) *G.Node    { return b.apply(opMin, [2]float64{}, x, y) }
func (b *builder) max(x, y *G.Node) *G.Node    { return b.apply(opMax, [2]float64{}, x, y) }
func (b *builder) less(x, y *G.Node) *G.Node   { return b.apply(opLess, [2]float64{}, x, y) }
func (b *builder) lessEq(x, y *G.Node) *G.Node { return b.apply(opLessEq, [2]float64{}, x, y) }

// segmentMean is the mean of x over the tokens of each segment, at every token of the segment;
// segmentSum is the sum.
func (b *builder) segmentMean(s segment, x *G.Node) *G.Node { return b.overSegment(s, true, x) }
func (b *builder) segmentSum(s segment, x *G.Node) *G.Node  { return b.overSegment(s, false, x) }

func (b *builder) overSegment(s segment, mean bool, x *G.Node) *G.Node {
	in := []*G.Node{x}
	varies := b.variesOf(in)
	return b.node(b.newOp.segment(b, s, mean, varies), varies, in)
}

// total is the sum of x over all tokens, one value.
func (b *builder) total(x *G.Node) *G.Node {
	in := []*G.Node{x}
	varies := b.variesOf(in)
	return b.node(b.newOp.total(b, varies), varies, in)
}

// spread is the one value x at every token.
func (b *builder) spread(x *G.Node) *G.Node {
	in := []*G.Node{x}
	varies := b.variesOf(in)
	return b.node(b.newOp.spread(b, varies), varies, in)
}
