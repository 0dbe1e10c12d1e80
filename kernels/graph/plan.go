package graph

import (
	"sync/atomic"

	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// plan evaluates a differentiated graph. Element-wise operations between barriers are fused: a region takes a block of
// tokens through all of them while it is in the cache, so that memory is read and written for inputs, results and what
// outlives a stage only. Operations on whole vectors are barriers. Nothing here knows what is computed.
type plan[T element] struct {
	values []value[T]
	stages []stage[T]
	// sums are the values of the results of one value.
	sums []int
	// packs are the inputs that operations on whole vectors read, which therefore stand packed in memory.
	packs []int

	// What follows belongs to the run in progress. cells and exact are what values that are the same at every
	// token are, exact before it was rounded to T. len = values
	cells []T
	exact []float64
	// buffers are the vectors that outlive a stage. len = values; nil for the others.
	buffers [][]T
	// streams are the inputs, as they stand in the batch or were filled; packed where packs says so.
	streams [][]T
	packed  [][]T
	// partial are the sums of the tiles. len = tiles · totals of the stage
	partial []float64
	workers []*worker[T]
}

// newPlan plans the sums and gradients of a graph.
func newPlan[T element](c *compiled[T], graph *G.ExprGraph) (*plan[T], error) {
	e := &expression[T]{maker: maker[T]{layout: c.layout}, graph: graph, inputs: map[*G.Node]int{}, known: map[*G.Node]int{}, same: map[string]int{}}
	for i, in := range c.inputs {
		e.inputs[in.node] = i
		e.maker.capacity = max(e.maker.capacity, in.node.Shape()[0])
	}
	e.known[c.seed] = e.add(value[T]{source: fromConstant, one: true, constant: 1})
	p := &plan[T]{}
	for _, s := range c.sums {
		i, err := e.of(s.node)
		if err != nil {
			return nil, err
		}
		p.sums = append(p.sums, i)
	}
	var gradients []int
	for _, g := range c.gradients {
		i, err := e.of(g.node)
		if err != nil {
			return nil, err
		}
		gradients = append(gradients, i)
	}
	p.values = pruned(e.values, p.sums, gradients)
	s := newSchedule(p.values, gradients)
	for number := range s.stages {
		p.stages = append(p.stages, s.emit(number, gradients))
	}
	p.allocate(s, len(c.inputs))
	return p, nil
}

// allocate makes room for what every run needs and finds the inputs that have to be packed.
func (p *plan[T]) allocate(s schedule[T], inputs int) {
	n := len(p.values)
	p.cells, p.exact, p.buffers = make([]T, n), make([]float64, n), make([][]T, n)
	p.streams, p.packed = make([][]T, inputs), make([][]T, inputs)
	for i, v := range p.values {
		if v.source == fromConstant {
			p.setCell(i, float64(v.constant))
		}
		if s.kept[i] || v.source == fromWhole && !v.one {
			p.buffers[i] = []T{}
		}
		for k, operand := range v.of {
			if v.source == fromWhole && v.vector[k] && p.values[operand].source == fromInput && !p.values[operand].one {
				p.packs = append(p.packs, p.values[operand].input)
			}
		}
	}
}

func (p *plan[T]) setCell(i int, value float64) { p.exact[i], p.cells[i] = value, T(value) }

// sum is result i of one value.
func (p *plan[T]) sum(i int) float64 { return p.exact[p.sums[i]] }

// run evaluates a batch and writes the gradients. It reports false when a value at a sampled token is not finite.
func (p *plan[T]) run(c *compiled[T], b kernels.Batch[T], result *kernels.Result[T]) (finite bool) {
	l := c.layout
	r := &run[T]{plan: p, layout: l, threads: max(c.threads, 1), tiles: tilesOf(l.tokens)}
	for i, in := range c.inputs {
		p.streams[i] = in.values
		if in.of != nil {
			p.streams[i] = in.of(b)
		}
		r.fromBatch, r.scattered = append(r.fromBatch, in.of != nil), append(r.scattered, in.of != nil && !l.dense)
	}
	for _, g := range c.gradients {
		r.results = append(r.results, g.into(result))
	}
	for len(p.workers) < min(r.threads, r.tiles) {
		p.workers = append(p.workers, &worker[T]{})
	}
	for i := range p.buffers {
		if p.buffers[i] != nil {
			p.buffers[i] = resized(p.buffers[i], p.values[i].length(l))
		}
	}
	for i, v := range p.values {
		if v.source == fromInput && v.one {
			p.setCell(i, float64(p.streams[v.input][0]))
		}
	}
	r.pack()
	r.unchecked = b.TokenStreams()
	for i := range p.stages {
		r.stage(&p.stages[i])
		if r.infinite.Load() {
			return false
		}
		r.unchecked = nil
	}
	return true
}

// run is one evaluation in progress.
type run[T element] struct {
	*plan[T]
	layout         *layout
	threads, tiles int
	// fromBatch says of each input that it is a stream of the batch, scattered that its packed tokens are spread over
	// it.
	fromBatch, scattered []bool
	results              [][]T
	// unchecked are the streams of the batch in whose values the region looks for what is not finite, unread those
	// among them that no step reads; infinite says that it found some.
	unchecked [][]T
	unread    [][]T
	infinite  atomic.Bool
}

// pack writes the sampled tokens of the inputs that operations on whole vectors read side by side.
func (r *run[T]) pack() {
	for _, input := range r.packs {
		if !r.scattered[input] {
			continue
		}
		r.packed[input] = resized(r.packed[input], r.layout.tokens)
		stream, packed := r.streams[input], r.packed[input]
		inTiles(r.threads, r.tiles, func(_, tile int) {
			from := tile * tileSize
			gather(r.layout, packed[from:min(from+tileSize, len(packed))], stream, from)
		})
		r.streams[input], r.scattered[input] = packed, false
	}
}

// stage runs one stage.
func (r *run[T]) stage(s *stage[T]) {
	for _, i := range s.singles {
		r.single(i)
	}
	for i := range s.steps {
		if single := s.steps[i].single; single >= 0 {
			s.steps[i].c0 = r.cells[single]
			if s.steps[i].negated {
				s.steps[i].c0 = -s.steps[i].c0
			}
		}
	}
	r.region(s)
	for k, i := range s.totals {
		sum := 0.0
		for tile := range r.tiles {
			sum += r.partial[tile*len(s.totals)+k]
		}
		r.setCell(i, sum)
	}
	for _, i := range s.wholes {
		r.whole(i)
	}
}

// single computes an element-wise operation on values that are the same at every token.
func (r *run[T]) single(i int) {
	v := r.values[i]
	out, a, b := []T{0}, []T{r.cells[v.of[0]]}, []T(nil)
	if len(v.of) > 1 {
		b = []T{r.cells[v.of[1]]}
	}
	kernelsOf[T]().elementwise(v.code, out, a, b, T(v.constants[0]), T(v.constants[1]))
	r.setCell(i, float64(out[0]))
}

// whole computes an operation on whole vectors.
func (r *run[T]) whole(i int) {
	v := r.values[i]
	operands := make([][]T, len(v.of))
	for k, operand := range v.of {
		switch from := r.values[operand]; {
		case from.one && v.vector[k]:
			operands[k] = make([]T, r.layout.tokens)
			fill(operands[k], r.cells[operand])
		case from.one:
			operands[k] = []T{r.cells[operand]}
		case from.source == fromInput:
			operands[k] = r.streams[from.input][:r.layout.tokens]
		default:
			operands[k] = r.buffers[operand]
		}
	}
	if !v.one {
		v.op.compute(r.buffers[i], operands)
		return
	}
	out := []T{0}
	v.op.compute(out, operands)
	r.setCell(i, float64(out[0]))
}
