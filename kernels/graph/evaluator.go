package graph

import (
	"fmt"
	"sync"

	"github.com/turnwise-rl/turnwise/kernels"

	_ "go4.org/unsafe/assume-no-moving-gc" // gorgonia's own pin of it refuses to start under recent Go versions
)

// Evaluator evaluates loss programs in one element type. It caches compiled graphs and may be
// used from several goroutines; evaluations take turns.
type Evaluator[T kernels.Float] struct {
	mu     sync.Mutex
	single map[key]*compiled[float32] // guarded by mu; used when T is float32
	double map[key]*compiled[float64] // guarded by mu; used when T is float64
}

// New returns an Evaluator without graphs; they are built when first needed.
func New[T kernels.Float]() *Evaluator[T] {
	return &Evaluator[T]{single: map[key]*compiled[float32]{}, double: map[key]*compiled[float64]{}}
}

// Evaluate returns the batch's share of the loss of p, its gradient and metrics. totals count the whole
// update, of which b may be a micro-batch: shares and gradients of micro-batches add up. A batch
// without a sampled token has loss 0 and gradient 0. It is an error when p is invalid, when b lacks a
// stream that p needs, or when a value at a sampled token is NaN or infinite; the error names them.
func (e *Evaluator[T]) Evaluate(p kernels.Program, b kernels.Batch[T], totals kernels.Totals) (kernels.Result[T], error) {
	if err := p.Validate(); err != nil {
		return kernels.Result[T]{}, fmt.Errorf("loss program: %w", err)
	}
	if err := b.Check(p, totals); err != nil {
		return kernels.Result[T]{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch batch := any(b).(type) {
	case kernels.Batch[float32]:
		result, err := evaluate(e.single, p, batch, totals)
		return any(result).(kernels.Result[T]), err
	case kernels.Batch[float64]:
		result, err := evaluate(e.double, p, batch, totals)
		return any(result).(kernels.Result[T]), err
	}
	return kernels.Result[T]{}, fmt.Errorf("element type %T: use float32 or float64", *new(T))
}

// key says which graph serves an evaluation.
type key struct {
	// program is the Program as it prints, which tells programs apart.
	program  string
	capacity int
	has      present
}

func evaluate[T element](graphs map[key]*compiled[T], p kernels.Program, b kernels.Batch[T], totals kernels.Totals) (kernels.Result[T], error) {
	result := kernels.Result[T]{DLogProbs: make([]T, b.Tokens())}
	if p.Reads().Has(kernels.ReadsEntropy) {
		result.DEntropy = make([]T, b.Tokens())
	}
	count := kernels.Count(b)
	if count.Tokens == 0 {
		return result, nil
	}
	k := key{program: p.String(), capacity: capacityFor(count.Tokens), has: presentIn(b)}
	c := graphs[k]
	if c == nil {
		var err error
		if c, err = compile[T](p, k, objectiveOf(p.Objective)); err != nil {
			return result, fmt.Errorf("compile the loss program (%s): %w", p, err)
		}
		if len(graphs) >= maxGraphs {
			clear(graphs)
		}
		graphs[k] = c
	}
	if err := c.run(b, totals, &result); err != nil {
		return result, fmt.Errorf("evaluate the loss program (%s): %w", p, err)
	}
	return result, nil
}

// maxGraphs bounds the cache. A run needs a handful; a sweep over programs would fill memory.
const maxGraphs = 32

// capacityFor rounds a token count up to a power of two, at least 256, so that few graphs serve
// batches of all sizes.
func capacityFor(tokens int) int {
	capacity := 256
	for capacity < tokens {
		capacity *= 2
	}
	return capacity
}
