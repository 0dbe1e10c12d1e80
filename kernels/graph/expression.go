package graph

import (
	"fmt"
	"math"

	G "gorgonia.org/gorgonia"
)

// source is where a value of an expression comes from.
type source uint8

const (
	fromInput    source = iota // an input of the graph
	fromConstant               // the same in every run
	fromElements               // an element-wise operation
	fromTotal                  // the sum over the tokens of its operand
	fromWhole                  // an operation on whole vectors
)

// value is one sub-expression of what an evaluation computes.
type value[T element] struct {
	source source
	// one says that it is the same at every token, so that it is computed once.
	one bool
	// input is the index of an input.
	input int
	// constant is the value of a constant.
	constant T
	code     code
	// constants are those of an element-wise operation.
	constants [2]float64
	// op is the operation on whole vectors, of which vector says for each operand whether it is one value per token.
	op     *op[T]
	vector []bool
	// of are the operands, which come before the value in the expression.
	of []int
}

// expression is the differentiated graph as values in the order of evaluation, without what no result needs and
// with equal sub-expressions once.
type expression[T element] struct {
	maker  maker[T]
	graph  *G.ExprGraph
	inputs map[*G.Node]int
	values []value[T]
	known  map[*G.Node]int
	same   map[string]int
}

// add appends a value, or finds the equal one.
func (e *expression[T]) add(v value[T]) int {
	print := fmt.Sprint(v.source, v.one, v.input, math.Float64bits(float64(v.constant)), v.code, v.constants, v.of)
	if v.source == fromWhole {
		print += v.op.name + fmt.Sprint(v.op.shape, v.vector)
	}
	if i, ok := e.same[print]; ok {
		return i
	}
	e.values = append(e.values, v)
	e.same[print] = len(e.values) - 1
	return len(e.values) - 1
}

// of is the value of a node. Nodes of the graph are this package's operations, inputs, and the sums of
// gradients that gorgonia itself makes.
func (e *expression[T]) of(node *G.Node) (int, error) {
	if i, ok := e.known[node]; ok {
		return i, nil
	}
	i, err := e.derive(node)
	if err == nil {
		e.known[node] = i
	}
	return i, err
}

func (e *expression[T]) derive(node *G.Node) (int, error) {
	if input, ok := e.inputs[node]; ok {
		return e.add(value[T]{source: fromInput, input: input, one: node.Shape()[0] == 1}), nil
	}
	var of []int
	var vector []bool
	for children := e.graph.From(node.ID()); children.Next(); {
		child := children.Node().(*G.Node)
		i, err := e.of(child)
		if err != nil {
			return 0, err
		}
		of, vector = append(of, i), append(vector, child.Shape()[0] != 1)
	}
	o, ours := node.Op().(*op[T])
	if !ours {
		if len(of) != 2 || !isAddition(node.Op()) {
			return 0, fmt.Errorf("%v: an operation that the plan does not know", node)
		}
		o = e.maker.elementwise(nil, opAdd, [2]float64{}, e.maker.domain(node.Shape()[0]), []bool{false, false}).(*op[T])
	}
	switch {
	case o.kind == kindElementwise:
		return e.element(o.code, o.constants, of...), nil
	case o.kind == kindSpread:
		return of[0], nil
	case o.kind == kindTotal:
		return e.add(value[T]{source: fromTotal, one: true, of: of}), nil
	}
	return e.add(value[T]{source: fromWhole, one: node.Shape()[0] == 1, op: o, vector: vector, of: of}), nil
}

// isAddition is true for the operation with which gorgonia sums the gradients of a value that is used several times.
func isAddition(op G.Op) bool {
	binary, ok := op.(G.BinaryOp)
	return ok && binary.IsBinary() && len(op.String()) > 0 && op.String()[0] == '+'
}

// element is an element-wise operation, simplified where that changes no bit of the result, except that −(−x), x·1 and
// the like drop the operation.
func (e *expression[T]) element(c code, constants [2]float64, of ...int) int {
	first := e.values[of[0]]
	second := first
	if len(of) > 1 {
		second = e.values[of[1]]
	}
	switch {
	case c == opStop, c == opScale && constants[0] == 1, c == opMul && second.is(1):
		return of[0]
	case c == opMul && first.is(1):
		return of[1]
	case c == opNeg && first.code == opNeg && first.source == fromElements:
		return first.of[0]
	case c == opAdd && second.negates():
		return e.element(opSub, constants, of[0], second.of[0])
	case c == opAdd && first.negates():
		return e.element(opSub, constants, of[1], first.of[0])
	case c == opSub && second.negates():
		return e.element(opAdd, constants, of[0], second.of[0])
	case (c == opAdd || c == opMul) && of[0] > of[1]:
		of = []int{of[1], of[0]}
	}
	v := value[T]{source: fromElements, one: true, code: c, constants: constants, of: of}
	constant := true
	for _, i := range of {
		v.one = v.one && e.values[i].one
		constant = constant && e.values[i].source == fromConstant
	}
	if !constant {
		return e.add(v)
	}
	out, a, b := []T{0}, []T{first.constant}, []T(nil)
	if len(of) > 1 {
		b = []T{second.constant}
	}
	kernelsOf[T]().elementwise(c, out, a, b, T(constants[0]), T(constants[1]))
	return e.add(value[T]{source: fromConstant, one: true, constant: out[0]})
}

// length is how many values a vector has.
func (v value[T]) length(l *layout) int {
	if v.source == fromWhole {
		return l.length(v.op.domain)
	}
	return l.tokens
}

func (v value[T]) is(constant T) bool { return v.source == fromConstant && v.constant == constant }

func (v value[T]) negates() bool { return v.source == fromElements && v.code == opNeg }

// pruned are the values that sums and gradients need, which are renumbered: simplification leaves values that nothing
// reads.
func pruned[T element](values []value[T], sums, gradients []int) []value[T] {
	needed := make([]bool, len(values))
	for _, results := range [][]int{sums, gradients} {
		for _, i := range results {
			needed[i] = true
		}
	}
	for i := len(values) - 1; i >= 0; i-- {
		for _, operand := range values[i].of {
			needed[operand] = needed[operand] || needed[i]
		}
	}
	var out []value[T]
	number := make([]int, len(values))
	for i, v := range values {
		if !needed[i] {
			continue
		}
		number[i] = len(out)
		renumber(v.of, number)
		out = append(out, v)
	}
	renumber(sums, number)
	renumber(gradients, number)
	return out
}

func renumber(list, number []int) {
	for k, i := range list {
		list[k] = number[i]
	}
}
