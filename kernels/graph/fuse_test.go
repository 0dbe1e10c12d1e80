package graph

import (
	"math"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/internal/randombatch"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
	"pgregory.net/rapid"
)

// taped evaluates p on gorgonia's own machine, one operation after the other.
func taped[T element](t *rapid.T, p kernels.Program, b kernels.Batch[T], totals kernels.Totals) kernels.Result[T] {
	result := blank[T](p, b.Tokens())
	if !slices.Contains(b.Sampled, true) {
		return result
	}
	capacity := max(nominal, b.Tokens())
	building.Lock()
	c, builder, err := differentiate[T](p, key{program: p.String(), capacity: capacity, has: presentIn(b)}, objectiveOf(p.Objective))
	building.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	c.layout.read(1, b.Offsets, b.Sampled, b.Turn, true)
	for _, in := range c.inputs {
		values := make([]T, in.node.Shape()[0])
		if in.of != nil {
			gather(c.layout, values[:c.layout.tokens], in.of(b), 0)
		} else if in.one {
			in.fill(b, totals, values)
		} else {
			in.fill(b, totals, values[:c.layout.tokens])
		}
		if err := G.Let(in.node, tensor.New(tensor.WithShape(len(values)), tensor.WithBacking(values))); err != nil {
			t.Fatal(err)
		}
	}
	if err := G.NewTapeMachine(builder.graph).RunAll(); err != nil {
		t.Fatal(err)
	}
	read := func(node *G.Node) []T { return node.Value().Data().([]T) }
	result.Loss = float64(read(c.sums[0].node)[0])
	result.Metrics.Tokens = float64(c.layout.tokens)
	for _, s := range c.sums[1:] {
		*s.into(&result.Metrics) = float64(read(s.node)[0])
	}
	for _, g := range c.gradients {
		for k, v := range read(g.node)[:c.layout.tokens] {
			g.into(&result)[c.layout.position(int32(k))] = v
		}
	}
	return result
}

// sameNumbers compares results at tolerance·max(1, |x|, |y|).
func sameNumbers[T element](t *rapid.T, p kernels.Program, want, got kernels.Result[T], tolerance float64) {
	t.Helper()
	equal := func(what string, x, y float64) {
		if !(math.Abs(x-y) <= tolerance*max(1, math.Abs(x), math.Abs(y))) && !(math.IsNaN(x) && math.IsNaN(y)) && x != y {
			t.Fatalf("%s: %s is %v, the tape machine says %v", p, what, y, x)
		}
	}
	equal("loss", want.Loss, got.Loss)
	for i, w := range metricsOf(want.Metrics) {
		equal("a metric", w, metricsOf(got.Metrics)[i])
	}
	for _, stream := range []struct {
		name      string
		want, got []T
	}{{"DLogProbs", want.DLogProbs, got.DLogProbs}, {"DEntropy", want.DEntropy, got.DEntropy}, {"DValues", want.DValues, got.DValues}} {
		if len(stream.want) != len(stream.got) {
			t.Fatalf("%s: %s has %d values, want %d", p, stream.name, len(stream.got), len(stream.want))
		}
		for i := range stream.want {
			equal(stream.name, float64(stream.want[i]), float64(stream.got[i]))
		}
	}
}

func metricsOf(m kernels.Metrics) []float64 {
	return []float64{m.Tokens, m.Kept, m.Clipped, m.RatioSum, m.WeightSum, m.BehaviorK3Sum, m.ReferenceKLSum, m.EntropySum, m.ValueErrorSum, m.Pairs, m.Ordered}
}

// The fused evaluation of a graph is gorgonia's own evaluation of it.
func TestFusedIsTheTapeMachine(t *testing.T) {
	double := New[float64]()
	rapid.Check(t, func(t *rapid.T) {
		p, b := randombatch.Program(t), randombatch.Batch(t)
		got, err := double.Evaluate(p, b, kernels.Count(b))
		if err != nil {
			t.Fatal(err)
		}
		sameNumbers(t, p, taped(t, p, b, kernels.Count(b)), got, 1e-12)
	})
}
