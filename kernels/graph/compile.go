package graph

import (
	"errors"
	"fmt"
	"sync"

	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// compiled is a graph ready to run: the machine, the memory of its inputs and where its results are.
type compiled[T element] struct {
	program kernels.Program
	layout  *layout
	machine G.VM
	streams []stream[T]
	share   []T
	out     outputs
	// dLogProbs and dEntropy are the gradient nodes; dEntropy is nil when the loss does not use it.
	dLogProbs, dEntropy *G.Node
	// positions are the batch positions of the packed tokens.
	positions []int32
}

// stream is one input of the graph.
type stream[T element] struct {
	of     func(kernels.Batch[T]) []T
	packed []T
}

// building serialises graph construction: gorgonia counts nodes in unguarded package variables.
var building sync.Mutex

// compile builds the graph of p with the given objective, differentiates it and prepares
// the machine that runs it.
func compile[T element](p kernels.Program, k key, of objective) (*compiled[T], error) {
	if of == nil {
		return nil, fmt.Errorf("objective: no expression for %T", p.Objective)
	}
	building.Lock()
	defer building.Unlock()
	c := &compiled[T]{program: p, layout: &layout{}}
	b := &builder{graph: G.NewGraph(), newOp: maker[T]{c.layout, k.capacity}, varies: map[*G.Node]bool{}}
	in := c.declare(b, p, k)
	c.out = build(b, p, of, in)
	if b.err != nil {
		return nil, b.err
	}
	one, _ := c.input(b, "one", 1, nil)
	wrt := G.Nodes{in.logProbs}
	if p.Reads().Has(kernels.ReadsEntropy) {
		wrt = append(wrt, in.entropy)
	}
	grads, err := G.Backpropagate(G.Nodes{c.out.loss}, G.Nodes{one}, wrt)
	if err == nil {
		err = b.err
	}
	if err != nil {
		return nil, fmt.Errorf("differentiate: %w", err)
	}
	c.dLogProbs = grads[0]
	if len(grads) > 1 {
		c.dEntropy = grads[1]
	}
	c.machine = G.NewTapeMachine(b.graph)
	return c, nil
}

// input makes an input node and its memory, all ones. A nil of means the memory is not a stream.
func (c *compiled[T]) input(b *builder, name string, capacity int, of func(kernels.Batch[T]) []T) (*G.Node, []T) {
	values := make([]T, capacity)
	for i := range values {
		values[i] = 1
	}
	dense := tensor.New(tensor.WithShape(capacity), tensor.WithBacking(values))
	node := G.NewTensor(b.graph, dense.Dtype(), 1, G.WithShape(capacity), G.WithName(name), G.WithValue(dense))
	if of != nil {
		c.streams = append(c.streams, stream[T]{of, values})
	}
	return node, values
}

// run packs the batch's sampled tokens, runs the graph and scatters its results into result.
func (c *compiled[T]) run(b kernels.Batch[T], totals kernels.Totals, result *kernels.Result[T]) error {
	c.pack(b, totals)
	c.machine.Reset()
	if err := c.machine.RunAll(); err != nil {
		return err
	}
	loss, err := c.sum(c.out.loss)
	result.Loss = loss
	m := &result.Metrics
	m.Tokens = float64(c.layout.tokens)
	for _, metric := range []struct {
		node *G.Node
		into *float64
	}{
		{c.out.clipped, &m.Clipped}, {c.out.ratio, &m.RatioSum}, {c.out.behaviorK3, &m.BehaviorK3Sum},
		{c.out.referenceKL, &m.ReferenceKLSum}, {c.out.entropy, &m.EntropySum},
	} {
		if metric.node != nil {
			value, e := c.sum(metric.node)
			err, *metric.into = errors.Join(err, e), value
		}
	}
	err = errors.Join(err, c.scatter(c.dLogProbs, result.DLogProbs))
	if c.dEntropy != nil {
		err = errors.Join(err, c.scatter(c.dEntropy, result.DEntropy))
	}
	return err
}

func (c *compiled[T]) values(node *G.Node) ([]T, error) {
	if node.Value() != nil {
		if values, ok := node.Value().Data().([]T); ok {
			return values, nil
		}
	}
	return nil, fmt.Errorf("the graph left no value at %v", node)
}

func (c *compiled[T]) sum(node *G.Node) (float64, error) {
	values, err := c.values(node)
	if err != nil {
		return 0, err
	}
	return float64(values[0]), nil
}

func (c *compiled[T]) scatter(node *G.Node, into []T) error {
	values, err := c.values(node)
	if err != nil {
		return err
	}
	for i, position := range c.positions {
		into[position] = values[i]
	}
	return nil
}
