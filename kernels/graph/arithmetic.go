package graph

import (
	"fmt"
	"slices"
	"sync"

	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// Arithmetic is [kernels.Arithmetic], computed in float64 with the operations that losses are made of. It may be used
// from several goroutines; computations take turns.
type Arithmetic struct {
	mu sync.Mutex
	// graphs are built when first needed; guarded by mu.
	graphs map[string]*calculation
}

// NewArithmetic returns an Arithmetic without graphs.
func NewArithmetic() *Arithmetic { return &Arithmetic{graphs: map[string]*calculation{}} }

// calculation is a compiled expression and what it reads in the computation at hand.
type calculation struct {
	*compiled[float64]
	vectors [][]float64
	numbers []float64
}

// operands declare the inputs of an expression: vector is one value per token, number a single one, each in the order in
// which compute gets them.
type operands struct{ vector, number func() *G.Node }

// compute evaluates the vectors that an expression returns, at most two, over sequences of at least one value.
func (a *Arithmetic) compute(name string, bounds []int32, vectors [][]float64, numbers []float64, of func(b *builder, in operands) []*G.Node) ([][]float64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.graphs[name]
	if c == nil {
		var err error
		if c, err = newCalculation(of); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		a.graphs[name] = c
	}
	n := len(vectors[0])
	b := kernels.Batch[float64]{Offsets: bounds, Sampled: slices.Repeat([]bool{true}, n)}
	result := kernels.Result[float64]{DLogProbs: make([]float64, n), DEntropy: make([]float64, n)}
	if n == 0 {
		return [][]float64{result.DLogProbs, result.DEntropy}, nil
	}
	c.vectors, c.numbers, c.threads = vectors, numbers, 1
	err := c.run(b, kernels.Totals{Tokens: n, Sequences: n}, &result)
	c.vectors = nil // which belong to the caller
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return [][]float64{result.DLogProbs, result.DEntropy}, nil
}

func newCalculation(of func(b *builder, in operands) []*G.Node) (*calculation, error) {
	building.Lock()
	defer building.Unlock()
	c := &calculation{compiled: &compiled[float64]{layout: &layout{}}}
	b := &builder{graph: G.NewGraph(), newOp: maker[float64]{c.layout, nominal}, varies: map[*G.Node]bool{}}
	vectors, numbers := 0, 0
	out := of(b, operands{
		vector: func() *G.Node {
			i := vectors
			vectors++
			return c.filled(b, fmt.Sprint("vector ", i), nominal, func(_ kernels.Batch[float64], _ kernels.Totals, values []float64) {
				copy(values, c.vectors[i])
			})
		},
		number: func() *G.Node {
			i := numbers
			numbers++
			return c.single(b, fmt.Sprint("number ", i), func(kernels.Batch[float64], kernels.Totals) float64 { return c.numbers[i] })
		},
	})
	if b.err != nil {
		return nil, b.err
	}
	into := []func(*kernels.Result[float64]) []float64{
		func(r *kernels.Result[float64]) []float64 { return r.DLogProbs },
		func(r *kernels.Result[float64]) []float64 { return r.DEntropy },
	}
	for i, node := range out {
		c.gradients = append(c.gradients, gradient[float64]{node: node, into: into[i]})
	}
	c.sums = []sum{{node: c.single(b, "nothing", func(kernels.Batch[float64], kernels.Totals) float64 { return 0 })}}
	var err error
	c.plan, err = newPlan(c.compiled, b.graph)
	return c, err
}
