package graph

import G "gorgonia.org/gorgonia"

// code names an element-wise operation.
type code uint8

const (
	opNeg      code = iota
	opExp           // e^a
	opAbs           // |a|
	opSquare        // a²
	opScale         // c0·a
	opShift         // a + c0
	opClip          // a limited to [c0, c1]
	opInside        // 1 where c0 ≤ a ≤ c1, else 0; no gradient
	opSign          // −1, 0 or 1; no gradient
	opStop          // a without its gradient
	opSigmoid       // 1/(1 + e^−a)
	opSoftplus      // log(1 + e^a)
	opLog           // natural logarithm
	opSqrt          // √a
	opInvert        // 1/a, 0 where a = 0
	opAdd           // a + b
	opSub           // a − b
	opMul           // a·b
	opMin           // the smaller one; a where equal
	opMax           // the larger one; a where equal
	opLess          // 1 where a < b, else 0; no gradient
	opLessEq        // 1 where a ≤ b, else 0; no gradient
	opDiffers       // 1 where a ≠ b, else 0; no gradient
	codes           // number of codes
)

// rule is what the graph needs to know of an element-wise operation besides its arithmetic.
type rule struct {
	name  string
	arity int
	// constants is how many of c0, c1 the operation has.
	constants int
	// pullback returns, for each operand, the derivative of the loss given grad, the derivative with
	// respect to out. nil when the operation passes no gradient.
	pullback func(b *builder, in G.Nodes, out, grad *G.Node, c [2]float64) G.Nodes
}

// rule is the calculus: one row per operation. Every objective is an expression of these rows. It is a
// function because the pullbacks build further nodes and so refer to it.
func (c code) rule() rule {
	return [codes]rule{
		opNeg: {"neg", 1, 0, func(b *builder, in G.Nodes, out, g *G.Node, c [2]float64) G.Nodes {
			return G.Nodes{b.neg(g)}
		}},
		opExp: {"exp", 1, 0, func(b *builder, in G.Nodes, out, g *G.Node, c [2]float64) G.Nodes {
			return G.Nodes{b.mul(g, out)}
		}},
		opAbs: {"abs", 1, 0, func(b *builder, in G.Nodes, out, g *G.Node, c [2]float64) G.Nodes {
			return G.Nodes{b.mul(g, b.sign(in[0]))}
		}},
		opSquare: {"square", 1, 0, func(b *builder, in G.Nodes, out, g *G.Node, c [2]float64) G.Nodes {
			return G.Nodes{b.mul(g, b.scale(2, in[0]))}
		}},
		opScale: {"scale", 1, 1, func(b *builder, in G.Nodes, out, g *G.Node, c [2]float64) G.Nodes {
			return G.Nodes{b.scale(c[0], g)}
		}},
		opShift: {"shift", 1, 1, func(b *builder, in G.Nodes, out, g *G.Node, c [2]float64) G.Nodes {
			return G.Nodes{g}
		}},
		opClip: {"clip", 1, 2, func(b *builder, in G.Nodes, out, g *G.Node, c [2]float64) G.Nodes {
			return G.Nodes{b.mul(g, b.inside(in[0], c[0], c[1]))}
		}},
		opInside: {"inside", 1, 2, nil},
		opSign:   {"sign", 1, 0, nil},
		opStop:   {"stop", 1, 0, nil},
		opSigmoid: {"sigmoid", 1, 0, func(b *builder, in G.Nodes, out, g *G.Node, c [2]float64) G.Nodes {
			return G.Nodes{b.mul(g, b.sub(out, b.square(out)))}
		}},
		opSoftplus: {"softplus", 1, 0, func(b *builder, in G.Nodes, out, g *G.Node, c [2]float64) G.Nodes {
			return G.Nodes{b.mul(g, b.sigmoid(in[0]))}
		}},
		opLog: {"log", 1, 0, func(b *builder, in G.Nodes, out, g *G.Node, c [2]float64) G.Nodes {
			return G.Nodes{b.mul(g, b.invert(in[0]))}
		}},
		opSqrt: {"sqrt", 1, 0, func(b *builder, in G.Nodes, out, g *G.Node, c [2]float64) G.Nodes {
			return G.Nodes{b.mul(g, b.scale(0.5, b.invert(out)))}
		}},
		opInvert: {"invert", 1, 0, func(b *builder, in G.Nodes, out, g *G.Node, c [2]float64) G.Nodes {
			return G.Nodes{b.neg(b.mul(g, b.square(out)))}
		}},
		opAdd: {"add", 2, 0, func(b *builder, in G.Nodes, out, g *G.Node, c [2]float64) G.Nodes {
			return G.Nodes{g, g}
		}},
		opSub: {"sub", 2, 0, func(b *builder, in G.Nodes, out, g *G.Node, c [2]float64) G.Nodes {
			return G.Nodes{g, b.neg(g)}
		}},
		opMul: {"mul", 2, 0, func(b *builder, in G.Nodes, out, g *G.Node, c [2]float64) G.Nodes {
			return G.Nodes{b.mul(g, in[1]), b.mul(g, in[0])}
		}},
		opMin: {"min", 2, 0, func(b *builder, in G.Nodes, out, g *G.Node, c [2]float64) G.Nodes {
			first := b.mul(g, b.lessEq(in[0], in[1]))
			return G.Nodes{first, b.sub(g, first)}
		}},
		opMax: {"max", 2, 0, func(b *builder, in G.Nodes, out, g *G.Node, c [2]float64) G.Nodes {
			first := b.mul(g, b.lessEq(in[1], in[0]))
			return G.Nodes{first, b.sub(g, first)}
		}},
		opLess:    {"less", 2, 0, nil},
		opLessEq:  {"lesseq", 2, 0, nil},
		opDiffers: {"differs", 2, 0, nil},
	}[c]
}
