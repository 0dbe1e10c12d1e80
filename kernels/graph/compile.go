package graph

import (
	"fmt"
	"sync"

	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// compiled is a graph ready to run: what it reads, where its results go, and the plan that computes them.
type compiled[T element] struct {
	program kernels.Program
	layout  *layout
	// threads is the most goroutines that a run computes on.
	threads int
	inputs  []*input[T]
	// sums are the results with one value, the loss first.
	sums []sum
	// gradients are the results with one value per token.
	gradients []gradient[T]
	// seed is the derivative of the loss with respect to itself: 1.
	seed *G.Node
	plan *plan[T]
}

// input is a vector the graph reads.
type input[T element] struct {
	node *G.Node
	// of is the stream of the batch that it is; nil when fill makes it.
	of func(kernels.Batch[T]) []T
	// fill writes one value for each packed token, or a single one, before each run. The layout is that of
	// the batch already.
	fill func(b kernels.Batch[T], totals kernels.Totals, values []T)
	// one says that it has a single value.
	one bool
	// values are what fill wrote.
	values []T
}

// sum is a result of one value.
type sum struct {
	node *G.Node
	into func(*kernels.Metrics) *float64
}

// gradient is the derivative of the loss with respect to the stream variable.
type gradient[T element] struct {
	variable, node *G.Node
	into           func(*kernels.Result[T]) []T
}

// building serialises graph construction: gorgonia counts nodes in unguarded package variables.
var building sync.Mutex

// compile builds the graph of p with the given objective, differentiates it and plans its evaluation.
func compile[T element](p kernels.Program, k key, of objective) (*compiled[T], error) {
	building.Lock()
	defer building.Unlock()
	c, b, err := differentiate[T](p, k, of)
	if err != nil {
		return nil, err
	}
	c.plan, err = newPlan(c, b.graph)
	return c, err
}

// differentiate builds the graph of p and of the loss's derivatives.
func differentiate[T element](p kernels.Program, k key, of objective) (*compiled[T], *builder, error) {
	if of == nil {
		return nil, nil, fmt.Errorf("objective: no expression for %T", p.Objective)
	}
	c := &compiled[T]{program: p, layout: &layout{}}
	b := &builder{graph: G.NewGraph(), newOp: maker[T]{c.layout, k.capacity}, varies: map[*G.Node]bool{}}
	in := c.declare(b, p, k)
	out := build(b, p, of, in)
	if b.err != nil {
		return nil, nil, b.err
	}
	c.sums = out.sums()
	c.gradients = c.variables(p, in)
	c.seed = c.single(b, "one", func(kernels.Batch[T], kernels.Totals) T { return 1 })
	var wrt G.Nodes
	for _, g := range c.gradients {
		wrt = append(wrt, g.variable)
	}
	nodes, err := G.Backpropagate(G.Nodes{out.loss}, G.Nodes{c.seed}, wrt)
	if err == nil {
		err = b.err
	}
	if err != nil {
		return nil, nil, fmt.Errorf("differentiate: %w", err)
	}
	for i, node := range nodes {
		c.gradients[i].node = node
	}
	return c, b, nil
}

// stream declares a stream of the batch as an input, capacity long in the graph.
func (c *compiled[T]) stream(b *builder, name string, capacity int, of func(kernels.Batch[T]) []T) *G.Node {
	return c.input(b, name, capacity, &input[T]{of: of})
}

// filled declares an input whose values fill writes before each run, one for each packed token.
func (c *compiled[T]) filled(b *builder, name string, capacity int, fill func(kernels.Batch[T], kernels.Totals, []T)) *G.Node {
	return c.input(b, name, capacity, &input[T]{fill: fill})
}

// single declares an input of one value.
func (c *compiled[T]) single(b *builder, name string, value func(kernels.Batch[T], kernels.Totals) T) *G.Node {
	fill := func(b kernels.Batch[T], totals kernels.Totals, values []T) { values[0] = value(b, totals) }
	return c.input(b, name, 1, &input[T]{fill: fill, one: true})
}

func (c *compiled[T]) input(b *builder, name string, capacity int, in *input[T]) *G.Node {
	in.node = G.NewTensor(b.graph, dtype[T](), 1, G.WithShape(capacity), G.WithName(name))
	c.inputs = append(c.inputs, in)
	return in.node
}

// run evaluates the graph on a batch with a sampled token, into a result whose gradients are 0.
func (c *compiled[T]) run(b kernels.Batch[T], totals kernels.Totals, result *kernels.Result[T]) error {
	c.layout.read(c.threads, b.Offsets, b.Sampled, b.Turn, c.program.Reads().Has(kernels.ReadsTurns))
	if totals.Check(c.program, c.layout.count()) != nil {
		return b.Check(c.program, totals) // which reports the first of all mistakes
	}
	for _, in := range c.inputs {
		if in.fill != nil {
			n := c.layout.tokens
			if in.one {
				n = 1
			}
			in.values = resized(in.values, n)
			in.fill(b, totals, in.values)
		}
	}
	if !c.plan.run(c, b, result) {
		return b.Check(c.program, totals)
	}
	result.Loss = c.plan.sum(0)
	result.Metrics.Tokens = float64(c.layout.tokens)
	for i, s := range c.sums[1:] {
		*s.into(&result.Metrics) = c.plan.sum(i + 1)
	}
	return nil
}

func dtype[T element]() tensor.Dtype {
	if _, single := any(T(0)).(float32); single {
		return tensor.Float32
	}
	return tensor.Float64
}
