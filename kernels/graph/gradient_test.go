package graph

import (
	"math"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/internal/randombatch"

	G "gorgonia.org/gorgonia"
	"pgregory.net/rapid"
)

// differenced is a program whose loss can be differenced: what it stops is a function of streams that stay where they
// were.
type differenced struct {
	*compiled[float64]
	// frozen is the batch that stopped values are computed from.
	frozen kernels.Batch[float64]
}

// freeze compiles p with a copy of each stopped sub-expression that reads frozen streams.
func freeze(t rapid.TB, p kernels.Program, b kernels.Batch[float64]) *differenced {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	c, builder, err := differentiate[float64](p, key{capacity: nominal, has: presentIn(b)}, objectiveOf(p.Objective))
	if err != nil {
		t.Fatal(err)
	}
	d := &differenced{compiled: c, frozen: b}
	twin := func(name string, of func(kernels.Batch[float64]) []float64) *G.Node {
		return c.stream(builder, name, nominal, func(kernels.Batch[float64]) []float64 { return of(d.frozen) })
	}
	twins := map[*G.Node]*G.Node{}
	for _, variable := range c.gradients {
		switch variable.variable.Name() {
		case "log-probabilities":
			twins[variable.variable] = twin("frozen log-probabilities", func(b kernels.Batch[float64]) []float64 { return b.LogProbs })
		case "entropy":
			twins[variable.variable] = twin("frozen entropy", func(b kernels.Batch[float64]) []float64 { return b.Entropy })
		case "values":
			twins[variable.variable] = twin("frozen values", func(b kernels.Batch[float64]) []float64 { return b.Values })
		}
	}
	c.sums = []sum{{node: unstopped(t, builder.graph, c.sums[0].node, twins)}}
	c.gradients = nil
	if c.plan, err = newPlan(c, builder.graph); err != nil {
		t.Fatal(err)
	}
	return d
}

// unstopped is an expression with every stop replaced by its operand, in which twins take the place of variables.
func unstopped(t rapid.TB, graph *G.ExprGraph, node *G.Node, twins map[*G.Node]*G.Node) *G.Node {
	type place struct {
		node   *G.Node
		inside bool
	}
	known := map[place]*G.Node{}
	var walk func(at place) *G.Node
	walk = func(at place) *G.Node {
		if done, ok := known[at]; ok {
			return done
		}
		out := at.node
		o, ours := at.node.Op().(*op[float64])
		switch {
		case ours && o.kind == kindElementwise && o.code == opStop:
			out = walk(place{operandsOf(graph, at.node)[0], true})
		case ours:
			var operands []*G.Node
			for _, operand := range operandsOf(graph, at.node) {
				operands = append(operands, walk(place{operand, at.inside}))
			}
			var err error
			if out, err = G.ApplyOp(o, operands...); err != nil {
				t.Fatal(err)
			}
		case at.inside && twins[at.node] != nil:
			out = twins[at.node]
		}
		known[at] = out
		return out
	}
	return walk(place{node, false})
}

func operandsOf(graph *G.ExprGraph, node *G.Node) []*G.Node {
	var operands []*G.Node
	for of := graph.From(node.ID()); of.Next(); {
		operands = append(operands, of.Node().(*G.Node))
	}
	return operands
}

func (d *differenced) loss(t rapid.TB, b kernels.Batch[float64]) float64 {
	t.Helper()
	var result kernels.Result[float64]
	if err := d.run(b, kernels.Count(b), &result); err != nil {
		t.Fatal(err)
	}
	return result.Loss
}

// Every objective with every ratio, gradient of the ratio, aggregation and rule for rejected tokens that fits it, each
// on batches of fixed seeds.
func TestGradientsOfEveryCombination(t *testing.T) {
	combinations := 0
	for _, p := range everyCombination() {
		compared := 0
		for seed := 0; compared < 8; seed++ {
			if seed == 100 {
				t.Fatalf("%s: only %d gradients compared in %d batches", p, compared, seed)
			}
			compared += compareGradients(t, p, rapid.Custom(randombatch.Batch).Example(seed))
		}
		combinations++
	}
	if combinations < 200 {
		t.Errorf("only %d combinations", combinations)
	}
}

// everyCombination varies the plain settings of a program with each objective; off-policy parts make rejected tokens.
func everyCombination() []kernels.Program {
	var programs []kernels.Program
	for _, variant := range kernels.ObjectiveTable {
		for _, r := range kernels.Ratios {
			for _, gradient := range kernels.RatioGradients {
				for _, a := range kernels.Aggregations {
					for _, rejected := range kernels.Rejecteds {
						p := program(variant.New().(kernels.Objective), ratio(r), aggregate(a))
						p.RatioGradient, p.Rejected, p.AggregateConst = gradient, rejected, 7
						if p.Objective.UsesRatio() && rejected == kernels.RejectedLeave {
							p.OffPolicy = []kernels.Correction{kernels.IcePop{Low: 0.8, High: 5}}
						}
						if p.Validate() == nil {
							programs = append(programs, p)
						}
					}
				}
			}
		}
	}
	return programs
}

// And random programs, with every part: some of fixed seeds, so that as many are compared each time, and others.
func TestGradientsAgreeWithFiniteDifferences(t *testing.T) {
	compared := 0
	for seed := range 100 {
		compared += compareGradients(t, rapid.Custom(randombatch.Program).Example(seed), rapid.Custom(randombatch.Batch).Example(seed))
	}
	t.Logf("%d gradients compared", compared)
	if compared < 100 {
		t.Errorf("only %d gradients compared: nearly all batches are near a kink", compared)
	}
	rapid.Check(t, func(t *rapid.T) { compareGradients(t, randombatch.Program(t), randombatch.Batch(t)) })
}

// compareGradients differences the loss by every log-probability, entropy and value, and returns how many. Near a
// bound there is nothing to difference.
func compareGradients(t rapid.TB, p kernels.Program, b kernels.Batch[float64]) int {
	t.Helper()
	if !slices.Contains(b.Sampled, true) || margin(t, p, b) < 2e-4 || steep(b, 4) {
		return 0
	}
	result := resultOf(t, New[float64](), p, b, kernels.Count(b))
	d := freeze(t, p, b)
	d.frozen.LogProbs, d.frozen.Entropy, d.frozen.Values = slices.Clone(b.LogProbs), slices.Clone(b.Entropy), slices.Clone(b.Values)
	if slices.ContainsFunc(p.Mask, func(m kernels.Mask) bool { return kernels.NameOf(m) == "entropy_quantile" }) {
		result.DEntropy = nil // the entropy that is the quantile moves the mask with it, through which nothing is differentiated
	}
	compared := 0
	for _, stream := range []struct{ values, gradient []float64 }{{b.LogProbs, result.DLogProbs}, {b.Entropy, result.DEntropy}, {b.Values, result.DValues}} {
		for i, got := range stream.gradient {
			if !b.Sampled[i] {
				continue
			}
			want := difference(stream.values, i, func() float64 { return d.loss(t, b) })
			if math.Abs(got-want) > 1e-5*max(1, math.Abs(got), math.Abs(want)) {
				t.Fatalf("%s: token %d: derivative %v, difference quotient %v", p, i, got, want)
			}
			compared++
		}
	}
	return compared
}
