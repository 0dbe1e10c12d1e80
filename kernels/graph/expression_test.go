package graph

import (
	"fmt"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/internal/randombatch"

	G "gorgonia.org/gorgonia"
	"pgregory.net/rapid"
)

// recipe is a random expression: each step applies an operation to values made before.
type recipe []struct{ operation, first, second int }

func drawRecipe(t *rapid.T) recipe {
	out := make(recipe, rapid.IntRange(1, 25).Draw(t, "steps"))
	for i := range out {
		out[i].operation = rapid.IntRange(0, 17).Draw(t, "operation")
		out[i].first, out[i].second = rapid.IntRange(0, i+3).Draw(t, "first"), rapid.IntRange(0, i+3).Draw(t, "second")
	}
	return out
}

// objective is the recipe as a loss of each token.
func (r recipe) objective(b *builder, in inputs) terms {
	pool := []*G.Node{in.logProbs, in.proximal, in.advantages, in.ratio}
	for _, step := range r {
		x, y := pool[step.first], pool[step.second]
		pool = append(pool, [...]func() *G.Node{
			func() *G.Node { return b.neg(x) },
			func() *G.Node { return b.exp(b.clip(x, -3, 3)) },
			func() *G.Node { return b.square(b.clip(x, -9, 9)) },
			func() *G.Node { return b.stop(x) },
			func() *G.Node { return b.scale(1, x) },
			func() *G.Node { return b.scale(-0.5, x) },
			func() *G.Node { return b.shift(x, 0.25) },
			func() *G.Node { return b.abs(x) },
			func() *G.Node { return b.sigmoid(x) },
			func() *G.Node { return b.add(x, y) },
			func() *G.Node { return b.sub(x, y) },
			func() *G.Node { return b.mul(x, y) },
			func() *G.Node { return b.min(x, y) },
			func() *G.Node { return b.max(x, y) },
			func() *G.Node { return b.less(x, y) },
			func() *G.Node { return b.segmentMean(turns, x) },
			func() *G.Node { return b.segmentSum(sequences, x) },
			func() *G.Node { return b.spread(b.scale(0.1, b.total(x))) },
		}[step.operation]())
	}
	loss := b.add(in.logProbs, pool[len(pool)-1])
	return terms{loss: loss, clipped: b.differs(loss, pool[len(pool)-2])}
}

// Any expression, its derivative included, has the value that gorgonia's own machine gives it, to the last bit as long
// as sums are added in one order: in one block.
func TestRandomExpressionsAreThoseOfTheTapeMachine(t *testing.T) {
	p := kernels.Program{
		Ratio: kernels.RatioToken, RatioGradient: kernels.GradientOwn, Anchor: kernels.AnchorProximal,
		Objective: kernels.Clip{}, Rejected: kernels.RejectedStay, Aggregate: kernels.StepMean,
	}
	rapid.Check(t, func(t *rapid.T) {
		recipe, b := drawRecipe(t), randombatch.Batch(t)
		if rapid.Bool().Draw(t, "all sampled") {
			b = randombatch.AllSampled(b)
		}
		if !slices.Contains(b.Sampled, true) {
			return // nothing to compute
		}
		k := key{program: p.String(), capacity: max(nominal, b.Tokens()), has: presentIn(b)}
		c, err := compile[float64](p, k, recipe.objective)
		if err != nil {
			t.Fatal(err)
		}
		got := blank[float64](p, b.Tokens())
		if err := c.run(b, kernels.Count(b), &got); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprint(tapedObjective(t, p, recipe.objective, b, kernels.Count(b))); fmt.Sprint(got) != want {
			t.Fatalf("%v\nthe tape machine says %v\nthe plan %v", recipe, want, got)
		}
	})
}
