package graph

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// scattered is a batch of seven sequences with observations and several turns, its numbers drawn from a fixed seed:
// log-probabilities are the operand x, loss weights the derivative with respect to an operation's result.
func scattered() kernels.Batch[float64] {
	random := rand.New(rand.NewPCG(7, 11))
	b := kernels.Batch[float64]{Offsets: []int32{0}, Pair: []int32{4, -1, 9, 4, 9, -1, -1}, Chosen: []bool{false, false, true, true, false, false, false}}
	for sequence, length := range []int{5, 1, 8, 3, 6, 2, 4} {
		for i := range length {
			b.Sampled, b.Turn = append(b.Sampled, i == 0 || i%3 != 1), append(b.Turn, int32(i/3))
			b.LogProbs, b.LossWeights = append(b.LogProbs, 2*random.NormFloat64()), append(b.LossWeights, random.NormFloat64())
		}
		b.Offsets = append(b.Offsets, int32(len(b.Sampled)))
		b.RankScores = append(b.RankScores, float64(sequence%4))
	}
	b.Proximal, b.Reference, b.Advantages = constant(len(b.Sampled), 0), constant(len(b.Sampled), 0), constant(len(b.Sampled), 1)
	return b
}

// comparePullback holds the derivative of Σ u·f(x), u drawn, to its difference quotients.
func comparePullback(t *testing.T, p kernels.Program, f func(b *builder, x, u *G.Node) *G.Node) {
	t.Helper()
	batch := scattered()
	evaluate := evaluationOf(t, p, func(b *builder, in inputs) terms {
		out := f(b, in.logProbs, in.lossWeights)
		return terms{whole: b.add(b.total(b.scale(0, in.logProbs)), out)}
	}, batch)
	moved := false
	for i, got := range evaluate().DLogProbs {
		want := difference(batch.LogProbs, i, func() float64 { return evaluate().Loss })
		if math.Abs(got-want) > 1e-6*max(1, math.Abs(want)) {
			t.Errorf("token %d: derivative %v, difference quotient %v", i, got, want)
		}
		moved = moved || got != 0
	}
	if !moved {
		t.Error("every derivative is 0")
	}
}

func TestPullbacksOfElementwiseOperations(t *testing.T) {
	for c := range codes {
		r := c.rule()
		if r.pullback == nil {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			comparePullback(t, ppo(summed), func(b *builder, x, u *G.Node) *G.Node {
				if c == opLog || c == opSqrt || c == opInvert {
					x = b.shift(b.square(x), 0.5)
				}
				operands := []*G.Node{x, b.scale(0.7, b.shift(b.square(x), -1))}[:r.arity]
				return b.total(b.mul(u, b.apply(c, [2]float64{-0.8, 1.3}, operands...)))
			})
		})
	}
}

func TestPullbacksOfWholeOperations(t *testing.T) {
	ofTokens := func(f func(b *builder, x *G.Node) *G.Node) func(b *builder, x, u *G.Node) *G.Node {
		return func(b *builder, x, u *G.Node) *G.Node { return b.total(b.mul(u, f(b, x))) }
	}
	tests := map[string]func(b *builder, x, u *G.Node) *G.Node{
		"total and spread": ofTokens(func(b *builder, x *G.Node) *G.Node { return b.spread(b.square(b.total(x))) }),
		"single operands":  ofTokens(func(b *builder, x *G.Node) *G.Node { return b.mul(x, b.total(x)) }),
		"gather following": ofTokens(func(b *builder, x *G.Node) *G.Node { return b.gather(following, b.square(x)) }),
		"scatter":          ofTokens(func(b *builder, x *G.Node) *G.Node { return b.scatter(following, b.square(x)) }),
		"gather worse": func(b *builder, x, u *G.Node) *G.Node {
			return b.total(b.mul(b.gather(better, u), b.gather(worse, b.square(x))))
		},
		"scatter worse": ofTokens(func(b *builder, x *G.Node) *G.Node {
			return b.scatter(worse, b.mul(b.gather(better, x), b.gather(worse, x)))
		}),
		"a comparison twice": func(b *builder, x, u *G.Node) *G.Node {
			d := b.sub(b.gather(better, x), b.gather(worse, x))
			return b.total(b.mul(b.gather(better, u), b.mul(d, b.exp(b.scale(0.1, d)))))
		},
		"total of comparisons": func(b *builder, x, u *G.Node) *G.Node {
			of := b.gather(better, b.mul(u, x))
			return b.total(b.mul(of, b.spreadTo(comparisons, b.total(b.gather(worse, x)))))
		},
	}
	for _, s := range []segment{turns, sequences} {
		tests["sum over "+s.String()] = ofTokens(func(b *builder, x *G.Node) *G.Node { return b.segmentSum(s, b.square(x)) })
		tests["mean over "+s.String()] = ofTokens(func(b *builder, x *G.Node) *G.Node { return b.segmentMean(s, b.square(x)) })
		tests["max over "+s.String()] = ofTokens(func(b *builder, x *G.Node) *G.Node { return b.segmentMax(s, b.square(x)) })
		tests["min over "+s.String()] = ofTokens(func(b *builder, x *G.Node) *G.Node { return b.segmentMin(s, x) })
	}
	coefficient := func(b *builder, x *G.Node) *G.Node { return b.stop(b.sigmoid(b.scale(1e-9, x))) }
	tests["scan"] = ofTokens(func(b *builder, x *G.Node) *G.Node { return b.scan(b.square(x), coefficient(b, x)) })
	tests["scan forward"] = ofTokens(func(b *builder, x *G.Node) *G.Node { return b.scanForward(b.square(x), coefficient(b, x)) })
	ranked := program(kernels.Rank{Coef: 1}, aggregate(kernels.StepMean))
	for name, f := range tests {
		t.Run(name, func(t *testing.T) { comparePullback(t, ranked, f) })
	}
	paired := program(kernels.DPO{Beta: 1})
	for name, f := range map[string]func(b *builder, x *G.Node) *G.Node{
		"contrast":   func(b *builder, x *G.Node) *G.Node { return b.contrast(b.square(x)) },
		"uncontrast": func(b *builder, x *G.Node) *G.Node { return b.uncontrast(b.square(x)) },
	} {
		t.Run(name, func(t *testing.T) { comparePullback(t, paired, ofTokens(f)) })
	}
}

// A scan is the recursion that it says it is, and its transpose is ⟨u, S x⟩ = ⟨Sᵀ u, x⟩.
func TestScansAreTransposes(t *testing.T) {
	l := &layout{tokens: 7, sequences: []int32{0, 4, 5, 7}}
	random := rand.New(rand.NewPCG(1, 2))
	draw := func() []float64 {
		out := make([]float64, l.tokens)
		for i := range out {
			out[i] = random.NormFloat64()
		}
		return out
	}
	x, a, u, back, on := draw(), draw(), draw(), make([]float64, 7), make([]float64, 7)
	scanBack(l, back, [][]float64{x, a})
	scanOn(l, on, [][]float64{u, a})
	if want := x[4]; back[4] != want {
		t.Errorf("a sequence of one value scans to %v, want %v", back[4], want)
	}
	if want := x[5] + a[5]*x[6]; math.Abs(back[5]-want) > 1e-15 {
		t.Errorf("scan %v, want %v", back[5], want)
	}
	left, right := 0.0, 0.0
	for i := range x {
		left, right = left+u[i]*back[i], right+on[i]*x[i]
	}
	if math.Abs(left-right) > 1e-12 {
		t.Errorf("⟨u, S x⟩ is %v, ⟨Sᵀ u, x⟩ is %v", left, right)
	}
}

// What chooses tokens passes no gradient, and neither does what is stopped.
func TestChoicesPassNoGradient(t *testing.T) {
	batch := scattered()
	for name, f := range map[string]func(b *builder, x *G.Node) *G.Node{
		"stop":        func(b *builder, x *G.Node) *G.Node { return b.stop(x) },
		"quantile":    func(b *builder, x *G.Node) *G.Node { return b.spread(b.quantile(0.3, x)) },
		"highest":     func(b *builder, x *G.Node) *G.Node { return b.highest(0.3, x) },
		"within mean": func(b *builder, x *G.Node) *G.Node { return b.withinMean(0.3, b.square(x)) },
		"draw":        func(b *builder, x *G.Node) *G.Node { return b.draw("draw", 0.3, kernels.ClipCov{}.Lot, x) },
		"less":        func(b *builder, x *G.Node) *G.Node { return b.above(x, 0) },
	} {
		r := evaluationOf(t, ppo(summed), func(b *builder, in inputs) terms {
			return terms{whole: b.total(b.add(b.scale(2, in.logProbs), b.mul(in.lossWeights, f(b, in.logProbs))))}
		}, batch)()
		for i, gradient := range r.DLogProbs {
			if batch.Sampled[i] && gradient != 2 {
				t.Errorf("%s: token %d: gradient %v, want that of the rest, 2", name, i, gradient)
			}
		}
	}
}

func TestChoices(t *testing.T) {
	x := []float64{3, -1, 4, 1, -5, 9, 2, 6}
	l := &layout{tokens: len(x)}
	for _, test := range []struct {
		name string
		of   func(*layout, []float64, [][]float64)
		want []float64
	}{
		{"quantile 0.5", quantileOf[float64](0.5), []float64{2.5}},
		{"quantile 0", quantileOf[float64](0), []float64{-5}},
		{"quantile 1", quantileOf[float64](1), []float64{9}},
		{"highest, 2 of 8", highestOf[float64](0.3), []float64{0, 0, 0, 0, 0, 1, 0, 1}},
		{"highest, at least one", highestOf[float64](0), []float64{0, 0, 0, 0, 0, 1, 0, 0}},
		{"within mean 1.8", withinMeanOf[float64](1.8), []float64{1, 1, 1, 1, 1, 0, 1, 1}},
		{"within mean, at least one", withinMeanOf[float64](-7), []float64{0, 0, 0, 0, 1, 0, 0, 0}},
		{"draw, 2 of 8", drawOf[float64](0.25, func(place int) uint64 { return uint64(100 - place) }), []float64{0, 0, 0, 0, 0, 0, 1, 1}},
	} {
		out := make([]float64, len(test.want))
		test.of(l, out, [][]float64{x})
		same(t, test.name, test.want, out)
	}
	if got, want := fmt.Sprint(descending([]float64{1, 2, 1, 2})), "[1 3 0 2]"; got != want {
		t.Errorf("order %v, want %v", got, want)
	}
}
