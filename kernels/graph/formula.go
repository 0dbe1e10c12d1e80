package graph

import (
	"math"

	G "gorgonia.org/gorgonia"
)

// The element-wise operations as formulas spell them.

func (b *builder) neg(x *G.Node) *G.Node     { return b.apply(opNeg, [2]float64{}, x) }
func (b *builder) exp(x *G.Node) *G.Node     { return b.apply(opExp, [2]float64{}, x) }
func (b *builder) log(x *G.Node) *G.Node     { return b.apply(opLog, [2]float64{}, x) }
func (b *builder) abs(x *G.Node) *G.Node     { return b.apply(opAbs, [2]float64{}, x) }
func (b *builder) square(x *G.Node) *G.Node  { return b.apply(opSquare, [2]float64{}, x) }
func (b *builder) sqrt(x *G.Node) *G.Node    { return b.apply(opSqrt, [2]float64{}, x) }
func (b *builder) sigmoid(x *G.Node) *G.Node { return b.apply(opSigmoid, [2]float64{}, x) }

// softplus is log(1 + e^x), which is −log σ(−x).
func (b *builder) softplus(x *G.Node) *G.Node { return b.apply(opSoftplus, [2]float64{}, x) }

// invert is 1/x, 0 where x is 0.
func (b *builder) invert(x *G.Node) *G.Node { return b.apply(opInvert, [2]float64{}, x) }

// stop is x as a constant: no gradient flows through it.
func (b *builder) stop(x *G.Node) *G.Node { return b.apply(opStop, [2]float64{}, x) }

// scale is c·x and shift is x + c.
func (b *builder) scale(c float64, x *G.Node) *G.Node { return b.apply(opScale, [2]float64{c}, x) }
func (b *builder) shift(x *G.Node, c float64) *G.Node { return b.apply(opShift, [2]float64{c}, x) }

// clip limits x to [low, high]; its gradient is 1 inside, bounds included, and 0 outside.
func (b *builder) clip(x *G.Node, low, high float64) *G.Node {
	return b.apply(opClip, [2]float64{low, high}, x)
}

func (b *builder) add(x, y *G.Node) *G.Node { return b.apply(opAdd, [2]float64{}, x, y) }
func (b *builder) sub(x, y *G.Node) *G.Node { return b.apply(opSub, [2]float64{}, x, y) }
func (b *builder) mul(x, y *G.Node) *G.Node { return b.apply(opMul, [2]float64{}, x, y) }
func (b *builder) min(x, y *G.Node) *G.Node { return b.apply(opMin, [2]float64{}, x, y) }
func (b *builder) max(x, y *G.Node) *G.Node { return b.apply(opMax, [2]float64{}, x, y) }

// What follows is 1 where something holds and 0 elsewhere, and passes no gradient. The product of two is "and".

func (b *builder) less(x, y *G.Node) *G.Node    { return b.apply(opLess, [2]float64{}, x, y) }
func (b *builder) lessEq(x, y *G.Node) *G.Node  { return b.apply(opLessEq, [2]float64{}, x, y) }
func (b *builder) differs(x, y *G.Node) *G.Node { return b.apply(opDiffers, [2]float64{}, x, y) }

// inside is low ≤ x ≤ high; above is x > c and below is x < c.
func (b *builder) inside(x *G.Node, low, high float64) *G.Node {
	return b.apply(opInside, [2]float64{low, high}, x)
}
func (b *builder) above(x *G.Node, c float64) *G.Node { return b.not(b.inside(x, math.Inf(-1), c)) }
func (b *builder) below(x *G.Node, c float64) *G.Node { return b.not(b.inside(x, c, math.Inf(1))) }

// nonzero is x ≠ 0, and not is 1 − x.
func (b *builder) nonzero(x *G.Node) *G.Node { return b.not(b.inside(x, 0, 0)) }
func (b *builder) not(x *G.Node) *G.Node     { return b.shift(b.neg(x), 1) }

// sign is −1, 0 or 1.
func (b *builder) sign(x *G.Node) *G.Node { return b.apply(opSign, [2]float64{}, x) }

// choose is x where a condition holds and y elsewhere.
func (b *builder) choose(condition, x, y *G.Node) *G.Node {
	return b.add(b.mul(condition, x), b.mul(b.not(condition), y))
}

// either is the number x where a condition holds and y elsewhere.
func (b *builder) either(condition *G.Node, x, y float64) *G.Node {
	return b.add(b.scale(x, condition), b.scale(y, b.not(condition)))
}

// all is the product of conditions, nil being one that always holds.
func (b *builder) all(conditions ...*G.Node) *G.Node {
	var out *G.Node
	for _, c := range conditions {
		switch {
		case out == nil:
			out = c
		case c != nil:
			out = b.mul(out, c)
		}
	}
	return out
}
