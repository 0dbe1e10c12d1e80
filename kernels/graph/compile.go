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

// compile builds the graph of k's program with the given objective, differentiates it and prepares
// the machine that runs it.
func compile[T element](k key, of objective) (*compiled[T], error) {
	if of == nil {
		return nil, fmt.Errorf("objective: no expression for %q", k.program.Objective)
	}
	building.Lock()
	defer building.Unlock()
	c := &compiled[T]{program: k.program, layout: &layout{}}
	b := &builder{graph: G.NewGraph(), newOp: maker[T]{c.layout, k.capacity}, varies: map[*G.Node]bool{}}
	in := c.declare(b, k)
	c.out = build(b, k.program, of, in)
	if b.err != nil {
		return nil, b.err
	}
	one, _ := c.input(b, "one", 1, nil)
	wrt := G.Nodes{in.logProbs}
	if k.program.UsesEntropy() {
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

// declare makes the input nodes of the streams the batch has.
func (c *compiled[T]) declare(b *builder, k key) inputs {
	declare := func(name string, present bool, of func(kernels.Batch[T]) []T) *G.Node {
		if !present {
			return nil
		}
		node, _ := c.input(b, name, k.capacity, of)
		return node
	}
	var in inputs
	in.logProbs = declare("log-probabilities", true, func(b kernels.Batch[T]) []T { return b.LogProbs })
	in.proximal = declare("proximal", k.proximal, func(b kernels.Batch[T]) []T { return b.Proximal })
	in.behavior = declare("behavior", k.behavior, func(b kernels.Batch[T]) []T { return b.Behavior })
	in.reference = declare("reference", k.reference, func(b kernels.Batch[T]) []T { return b.Reference })
	in.entropy = declare("entropy", k.entropy, func(b kernels.Batch[T]) []T { return b.Entropy })
	in.advantages = declare("advantages", true, func(b kernels.Batch[T]) []T { return b.Advantages })
	in.lossWeights = declare("loss weights", k.lossWeights, func(b kernels.Batch[T]) []T { return b.LossWeights })
	in.share, c.share = c.input(b, "share", k.capacity, nil)
	b.varies[in.logProbs] = true
	if k.program.UsesEntropy() {
		b.varies[in.entropy] = true
	}
	return in
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
