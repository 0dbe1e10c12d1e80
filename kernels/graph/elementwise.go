package graph

import (
	"fmt"
	"hash"
	"hash/fnv"
	"math"

	"github.com/chewxy/hm"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// element is a type gorgonia has vectors of.
type element interface{ float32 | float64 }

// kind says how the fused executor runs an operation.
type kind uint8

const (
	// kindWhole reads and writes whole vectors, by compute: everything before it is finished first.
	kindWhole kind = iota
	// kindElementwise computes each token from the same token of its operands: code and constants say how, and
	// it runs block by block with its neighbors.
	kindElementwise
	// kindTotal sums over the tokens, kindSpread is one value at every token.
	kindTotal
	kindSpread
)

// op is what all operations of this package have in common. It owns its result's memory, so a
// run allocates nothing.
type op[T element] struct {
	builder   *builder
	layout    *layout
	name      string
	kind      kind
	arity     int
	varies    []bool
	shape     tensor.Shape
	domain    domain
	code      code
	constants [2]float64
	out       *tensor.Dense
	values    []T
	compute   func(out []T, in [][]T)
	pullback  func(in G.Nodes, out, grad *G.Node) G.Nodes
	operands  [][]T
}

func (o *op[T]) Arity() int { return o.arity }

// Type is a → a, a → a → a, …: all operands and the result are vectors of one element type.
func (o *op[T]) Type() hm.Type {
	types := make([]hm.Type, o.arity+1)
	for i := range types {
		types[i] = hm.TypeVariable('a')
	}
	return hm.NewFnType(types...)
}

func (o *op[T]) InferShape(...G.DimSizer) (tensor.Shape, error) { return o.shape.Clone(), nil }
func (o *op[T]) ReturnsPtr() bool                               { return true }
func (o *op[T]) CallsExtern() bool                              { return false }
func (o *op[T]) OverwritesInput() int                           { return -1 }
func (o *op[T]) String() string                                 { return o.name }
func (o *op[T]) WriteHash(h hash.Hash)                          { fmt.Fprintf(h, "turnwise %s", o.name) }

func (o *op[T]) Hashcode() uint32 {
	h := fnv.New32a()
	o.WriteHash(h)
	return h.Sum32()
}

// DiffWRT says which operands to differentiate: those that depend on a variable.
func (o *op[T]) DiffWRT(int) []bool { return o.varies }

// SymDiff is the operation's pullback as further nodes.
func (o *op[T]) SymDiff(in G.Nodes, out, grad *G.Node) (G.Nodes, error) {
	if o.pullback == nil {
		return nil, fmt.Errorf("%s passes no gradient", o.name)
	}
	grads := o.pullback(in, out, grad)
	return grads, o.builder.err
}

// Do computes the result into the operation's own memory.
func (o *op[T]) Do(in ...G.Value) (G.Value, error) {
	if o.out == nil {
		o.values = make([]T, o.shape[0])
		o.out = tensor.New(tensor.WithShape(o.shape...), tensor.WithBacking(o.values))
		o.operands = make([][]T, len(in))
	}
	for i, value := range in {
		values, ok := value.Data().([]T)
		if !ok {
			return nil, fmt.Errorf("%s: operand %d is %T, want %T", o.name, i, value.Data(), o.values)
		}
		o.operands[i] = values
	}
	o.compute(o.values, o.operands)
	return o.out, nil
}

// maker makes operations on vectors of capacity values of type T.
type maker[T element] struct {
	layout   *layout
	capacity int
}

func (m maker[T]) elementwise(b *builder, c code, constants [2]float64, d domain, varies []bool) G.Op {
	r := c.rule()
	name := r.name
	for _, constant := range constants[:r.constants] {
		name += fmt.Sprintf(" %v", constant)
	}
	o := &op[T]{builder: b, layout: m.layout, name: name, kind: kindElementwise, arity: r.arity, varies: varies,
		shape: m.shape(d), domain: d, code: c, constants: constants}
	if d == comparisons {
		o.kind = kindWhole // which are few, so that fusing them with each other would gain nothing
	}
	c0, c1, kernel := T(constants[0]), T(constants[1]), kernelsOf[T]()
	o.compute = func(out []T, in [][]T) {
		n := m.layout.length(d)
		var second []T // stays nil for operations of one operand
		if len(in) > 1 {
			second = in[1][:n]
		}
		kernel.elementwise(c, out[:n], in[0][:n], second, c0, c1)
	}
	if r.pullback != nil {
		o.pullback = func(in G.Nodes, out, grad *G.Node) G.Nodes { return r.pullback(b, in, out, grad, constants) }
	}
	return o
}

// elementwise computes out[i] = c(a[i], b[i]). b is nil for operations of one operand.
func elementwise[T element](c code, out, a, b []T, c0, c1 T) {
	a = a[:len(out)]
	if b != nil {
		binary(c, out, a, b[:len(out)])
		return
	}
	switch c {
	case opNeg:
		for i := range out {
			out[i] = -a[i]
		}
	case opExp:
		for i := range out {
			out[i] = T(math.Exp(float64(a[i])))
		}
	case opAbs:
		for i := range out {
			out[i] = T(math.Abs(float64(a[i])))
		}
	case opSquare:
		for i := range out {
			out[i] = a[i] * a[i]
		}
	case opScale:
		for i := range out {
			out[i] = c0 * a[i]
		}
	case opShift:
		for i := range out {
			out[i] = a[i] + c0
		}
	case opClip:
		for i := range out {
			out[i] = min(max(a[i], c0), c1)
		}
	case opInside:
		for i := range out {
			out[i] = indicator[T](c0 <= a[i] && a[i] <= c1)
		}
	case opSign:
		for i := range out {
			out[i] = indicator[T](a[i] > 0) - indicator[T](a[i] < 0)
		}
	case opStop:
		copy(out, a)
	case opSigmoid:
		for i := range out {
			out[i] = T(1 / (1 + math.Exp(-float64(a[i]))))
		}
	case opSoftplus:
		for i := range out {
			out[i] = T(math.Max(float64(a[i]), 0) + math.Log1p(math.Exp(-math.Abs(float64(a[i])))))
		}
	case opLog:
		for i := range out {
			out[i] = T(math.Log(float64(a[i])))
		}
	case opSqrt:
		for i := range out {
			out[i] = T(math.Sqrt(float64(a[i])))
		}
	case opInvert:
		for i := range out {
			out[i] = 0
			if a[i] != 0 {
				out[i] = 1 / a[i]
			}
		}
	}
}

func binary[T element](c code, out, a, b []T) {
	switch c {
	case opAdd:
		for i := range out {
			out[i] = a[i] + b[i]
		}
	case opSub:
		for i := range out {
			out[i] = a[i] - b[i]
		}
	case opMul:
		for i := range out {
			out[i] = a[i] * b[i]
		}
	case opMin:
		for i := range out {
			out[i] = min(a[i], b[i])
		}
	case opMax:
		for i := range out {
			out[i] = max(a[i], b[i])
		}
	case opLess:
		for i := range out {
			out[i] = indicator[T](a[i] < b[i])
		}
	case opLessEq:
		for i := range out {
			out[i] = indicator[T](a[i] <= b[i])
		}
	case opDiffers:
		for i := range out {
			out[i] = indicator[T](a[i] != b[i])
		}
	}
}

func indicator[T element](condition bool) T {
	if condition {
		return 1
	}
	return 0
}
