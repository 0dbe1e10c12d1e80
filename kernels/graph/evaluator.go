package graph

import (
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/turnwise-rl/turnwise/kernels"

	_ "go4.org/unsafe/assume-no-moving-gc" // gorgonia's own pin of it refuses to start under recent Go versions
)

// Evaluator evaluates loss programs in one element type. It caches compiled graphs and may be
// used from several goroutines; evaluations take turns.
type Evaluator[T kernels.Float] struct {
	options Options
	mu      sync.Mutex
	single  map[key]*compiled[float32] // guarded by mu; used when T is float32
	double  map[key]*compiled[float64] // guarded by mu; used when T is float64
}

// Options are optional settings of an [Evaluator]. The zero value works.
type Options struct {
	// Threads is the most goroutines that compute one evaluation; results do not depend on it. Default
	// GOMAXPROCS, asked anew at each evaluation.
	Threads int
}

func (o Options) threads() int {
	if o.Threads > 0 {
		return o.Threads
	}
	return runtime.GOMAXPROCS(0)
}

// New returns an Evaluator with default options and without graphs; they are built when first needed.
func New[T kernels.Float]() *Evaluator[T] { return NewWith[T](Options{}) }

// NewWith returns an Evaluator without graphs.
func NewWith[T kernels.Float](options Options) *Evaluator[T] {
	return &Evaluator[T]{options: options, single: map[key]*compiled[float32]{}, double: map[key]*compiled[float64]{}}
}

// Evaluate returns the batch's share of the loss of p, its gradient and metrics. totals count the whole
// update, of which b may be a micro-batch: shares and gradients of micro-batches add up. A batch
// without a sampled token has loss 0 and gradient 0. It is an error when p is invalid, when b lacks a
// stream that p needs, or when a value at a sampled token is NaN or infinite; the error names them.
func (e *Evaluator[T]) Evaluate(p kernels.Program, b kernels.Batch[T], totals kernels.Totals) (kernels.Result[T], error) {
	if err := p.Validate(); err != nil {
		return kernels.Result[T]{}, fmt.Errorf("loss program: %w", err)
	}
	if b.CheckLayout(p) != nil || totals.Weightless(p) {
		if err := b.Check(p, totals); err != nil { // which reports the first of all mistakes
			return kernels.Result[T]{}, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch batch := any(b).(type) {
	case kernels.Batch[float32]:
		result, err := evaluate(e.single, e.options.threads(), p, batch, totals)
		return any(result).(kernels.Result[T]), err
	case kernels.Batch[float64]:
		result, err := evaluate(e.double, e.options.threads(), p, batch, totals)
		return any(result).(kernels.Result[T]), err
	}
	return kernels.Result[T]{}, fmt.Errorf("element type %T: use float32 or float64", *new(T))
}

// key says which graph serves an evaluation.
type key struct {
	// program is the Program as it prints, which tells programs apart.
	program string
	// capacity is the length of vectors as the graph declares them. Its plan serves batches of any size.
	capacity int
	has      present
}

// nominal is the declared length of vectors: any but 1, the length of single values.
const nominal = 256

func evaluate[T element](graphs map[key]*compiled[T], threads int, p kernels.Program, b kernels.Batch[T], totals kernels.Totals) (kernels.Result[T], error) {
	result := blank[T](p, b.Tokens())
	if !slices.Contains(b.Sampled, true) {
		return result, totals.Check(p, kernels.Totals{})
	}
	k := key{program: p.String(), capacity: nominal, has: presentIn(b)}
	c := graphs[k]
	if c == nil {
		var err error
		if c, err = compile[T](p, k, objectiveOf(p.Objective)); err != nil {
			return kernels.Result[T]{}, fmt.Errorf("compile the loss program (%s): %w", p, err)
		}
		if len(graphs) >= maxGraphs {
			clear(graphs)
		}
		graphs[k] = c
	}
	c.threads = threads
	err := c.run(b, totals, &result)
	if err != nil {
		result = kernels.Result[T]{}
	}
	return result, err
}

// maxGraphs bounds the cache. A run needs a handful; a sweep over programs would fill memory.
const maxGraphs = 32

// blank is the result of a batch without a sampled token: gradients of 0 for what p differentiates.
func blank[T element](p kernels.Program, tokens int) kernels.Result[T] {
	result := kernels.Result[T]{DLogProbs: make([]T, tokens)}
	if p.Reads().Has(kernels.ReadsEntropy) {
		result.DEntropy = make([]T, tokens)
	}
	if p.Reads().Has(kernels.ReadsValues) {
		result.DValues = make([]T, tokens)
	}
	return result
}
