package graph

import (
	"fmt"
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
	return tapedObjective(t, p, objectiveOf(p.Objective), b, totals)
}

func tapedObjective[T element](t *rapid.T, p kernels.Program, of objective, b kernels.Batch[T], totals kernels.Totals) kernels.Result[T] {
	result := blank[T](p, b.Tokens())
	if !slices.Contains(b.Sampled, true) {
		return result
	}
	capacity := max(nominal, b.Tokens())
	building.Lock()
	c, builder, err := differentiate[T](p, key{program: p.String(), capacity: capacity, has: presentIn(b)}, of)
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

// large draws a program and a batch of several tiles, in which every token is sampled or not.
func large(t *rapid.T) (kernels.Program, kernels.Batch[float64]) {
	p, b := randombatch.Program(t), randombatch.Batch(t)
	if rapid.Bool().Draw(t, "all sampled") {
		b = randombatch.AllSampled(b)
	}
	if rapid.IntRange(0, 3).Draw(t, "large") == 0 {
		b = randombatch.Repeat(b, 2*tileSize/max(b.Tokens(), 10)+2)
	}
	return p, b
}

// The fused evaluation of a graph is gorgonia's own evaluation of it.
func TestFusedIsTheTapeMachine(t *testing.T) {
	double := New[float64]()
	rapid.Check(t, func(t *rapid.T) {
		p, b := large(t)
		got, err := double.Evaluate(p, b, kernels.Count(b))
		if err != nil {
			t.Fatal(err)
		}
		sameNumbers(t, p, taped(t, p, b, kernels.Count(b)), got, 1e-12)
	})
}

// In single precision, too: both compute with the same kernels.
func TestFusedIsTheTapeMachineInSinglePrecision(t *testing.T) {
	single := New[float32]()
	rapid.Check(t, func(t *rapid.T) {
		p, wide := large(t)
		b, _ := randombatch.Rounded(wide)
		got, err := single.Evaluate(p, b, kernels.Count(b))
		if err != nil {
			t.Fatal(err)
		}
		sameNumbers(t, p, taped(t, p, b, kernels.Count(b)), got, 1e-5)
	})
}

// The number of threads changes no bit, in either precision.
func TestThreadsDoNotMatter(t *testing.T) {
	counts := []int{1, 2, 5}
	var single []*Evaluator[float32]
	var double []*Evaluator[float64]
	for _, n := range counts {
		single, double = append(single, NewWith[float32](Options{Threads: n})), append(double, NewWith[float64](Options{Threads: n}))
	}
	rapid.Check(t, func(t *rapid.T) {
		p, wide := large(t)
		narrow, _ := randombatch.Rounded(wide)
		for i := range counts {
			sameBits(t, p, evaluated(t, double[0], p, wide), evaluated(t, double[i], p, wide))
			sameBits(t, p, evaluated(t, single[0], p, narrow), evaluated(t, single[i], p, narrow))
		}
	})
}

func evaluated[T element](t *rapid.T, e *Evaluator[T], p kernels.Program, b kernels.Batch[T]) kernels.Result[T] {
	t.Helper()
	result, err := e.Evaluate(p, b, kernels.Count(b))
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func sameBits[T element](t *rapid.T, p kernels.Program, want, got kernels.Result[T]) {
	t.Helper()
	// Values that print alike with all their digits have the same bits, NaN included.
	if want, got := fmt.Sprintf("%v", want), fmt.Sprintf("%v", got); want != got {
		t.Fatalf("%s: one thread says\n%s\nseveral say\n%s", p, want, got)
	}
}

// Sequences of a large batch add up to it, whatever tiles they fall into.
func TestPartsOfALargeBatchAddUp(t *testing.T) {
	evaluator := New[float64]()
	rapid.Check(t, func(t *rapid.T) {
		p, b := large(t)
		if p.Scope() == kernels.WholeUpdate {
			return // is evaluated in one piece
		}
		b.Pair, b.Chosen = nil, nil // a cut may part them
		totals := kernels.Count(b)
		whole := evaluated(t, evaluator, p, b)
		sum := blank[float64](p, b.Tokens())
		half := b.Sequences() / 2
		for _, bounds := range [][2]int{{0, half}, {half, b.Sequences()}} {
			from := b.Offsets[bounds[0]]
			part, err := evaluator.Evaluate(p, randombatch.Sequences(b, bounds[0], bounds[1]), totals)
			if err != nil {
				t.Fatal(err)
			}
			sum.Loss += part.Loss
			sum.Metrics.Add(part.Metrics)
			copy(sum.DLogProbs[from:], part.DLogProbs)
			copy(sum.DEntropy[min(int(from), len(sum.DEntropy)):], part.DEntropy)
			copy(sum.DValues[min(int(from), len(sum.DValues)):], part.DValues)
		}
		sameNumbers(t, p, whole, sum, 1e-11)
	})
}

// What a token's loss needs is one region that keeps nothing in memory; a ratio over turns adds one barrier.
func TestTokenLossesAreOneRegion(t *testing.T) {
	p := kernels.Program{
		Ratio: kernels.RatioToken, RatioGradient: kernels.GradientOwn, Anchor: kernels.AnchorProximal,
		Objective: kernels.Clip{ClipLow: 0.2, ClipHigh: 0.2}, Rejected: kernels.RejectedStay, Aggregate: kernels.TokenMean,
		Regularizers: []kernels.Regularizer{kernels.NewKL()},
	}
	for _, test := range []struct {
		ratio                 kernels.Ratio
		regions, wholes, kept int
	}{{kernels.RatioToken, 1, 0, 0}, {kernels.RatioTurn, 2, 1, 1}} {
		p.Ratio = test.ratio
		c, err := compile[float32](p, key{program: p.String(), capacity: nominal, has: present{}}, objectiveOf(p.Objective))
		if err != nil {
			t.Fatal(err)
		}
		regions, wholes, kept := 0, 0, 0
		for _, s := range c.plan.stages {
			wholes += len(s.wholes)
			if len(s.steps) > 0 {
				regions++
			}
		}
		for i, buffer := range c.plan.buffers {
			if buffer != nil && c.plan.values[i].source == fromElements {
				kept++
			}
		}
		if regions != test.regions || wholes != test.wholes || kept != test.kept {
			t.Errorf("ratio %s: %d regions, %d operations on whole vectors, %d element-wise vectors kept; want %d, %d, %d",
				test.ratio, regions, wholes, kept, test.regions, test.wholes, test.kept)
		}
	}
}
