package ref

import (
	"math"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/internal/randombatch"

	"pgregory.net/rapid"
)

// What a program stops is a number: the loss whose derivative is the gradient is the one with the log-probabilities
// and entropies inside every sg[·], mask and weight frozen.
func TestGradientsAgreeWithFiniteDifferences(t *testing.T) {
	for _, variant := range kernels.ObjectiveTable {
		t.Run(variant.Name, rapid.MakeCheck(func(t *rapid.T) {
			p := randombatch.Draw{Objectives: []string{variant.Name}}.Program(t)
			compareGradients(t, p, randombatch.Batch(t))
		}))
	}
}

// Every objective with every ratio, gradient of the ratio, aggregation and rule for rejected tokens that fits it, each
// on batches of fixed seeds.
func TestGradientsOfEveryCombination(t *testing.T) {
	combinations := 0
	for _, p := range combinationsOf(func(p kernels.Program) bool { return p.Validate() == nil }) {
		compared := 0
		for seed := 0; compared < 10; seed++ {
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

func combinationsOf(valid func(kernels.Program) bool) []kernels.Program {
	var programs []kernels.Program
	for _, variant := range kernels.ObjectiveTable {
		for _, ratio := range kernels.Ratios {
			for _, gradient := range kernels.RatioGradients {
				for _, aggregate := range kernels.Aggregations {
					for _, rejected := range kernels.Rejecteds {
						p := of(variant.New().(kernels.Objective), ratioOf(ratio, gradient), aggregated(aggregate))
						if p.Rejected = rejected; p.Objective.UsesRatio() {
							p.OffPolicy = []kernels.Correction{kernels.TIS{Level: kernels.LevelToken, Cap: 1.2, Normalize: kernels.NormalizeNone}}
						}
						if valid(p) {
							programs = append(programs, p)
						}
					}
				}
			}
		}
	}
	return programs
}

// compareGradients differences the loss by every log-probability, entropy and value, and returns how many.
func compareGradients(t rapid.TB, p kernels.Program, b kernels.Batch[float64]) int {
	totals := kernels.Count(b)
	at, err := evaluate(p, b, b, totals)
	if err != nil {
		t.Fatal(err)
	}
	if at.kink < 2e-4 || steep(b) {
		return 0
	}
	compared := 0
	frozen := b
	frozen.LogProbs, frozen.Entropy = slices.Clone(b.LogProbs), slices.Clone(b.Entropy)
	for name, stream := range map[string]struct{ values, gradient []float64 }{
		"log-probability": {b.LogProbs, at.result.DLogProbs},
		"entropy":         {b.Entropy, at.result.DEntropy},
		"value":           {b.Values, at.result.DValues},
	} {
		for position, gradient := range stream.gradient {
			if !b.Sampled[position] {
				if gradient != 0 {
					t.Fatalf("%s: token %d is not sampled and has gradient %v", p, position, gradient)
				}
				continue
			}
			difference := centralDifference(t, p, b, frozen, stream.values, position, totals)
			if !close(gradient, difference) {
				t.Fatalf("%s: token %d: %s gradient %v, finite difference %v", p, position, name, gradient, difference)
			}
			compared++
		}
	}
	return compared
}

const step = 1e-5

func centralDifference(t rapid.TB, p kernels.Program, b, frozen kernels.Batch[float64], values []float64, position int, totals kernels.Totals) float64 {
	at := values[position]
	defer func() { values[position] = at }()
	var loss [2]float64
	for i, sign := range []float64{1, -1} {
		values[position] = at + sign*step
		e, err := evaluate(p, b, frozen, totals)
		if err != nil {
			t.Fatal(err)
		}
		loss[i] = e.result.Loss
	}
	return (loss[0] - loss[1]) / (2 * step)
}

// steep is true where a ratio may be so extreme that the other tokens' parts of the loss drown in its rounding.
func steep(b kernels.Batch[float64]) bool {
	for t, sampled := range b.Sampled {
		for _, other := range [][]float64{b.Proximal, b.Behavior, b.Reference} {
			if sampled && math.Abs(b.LogProbs[t]-other[t]) > 4 {
				return true
			}
		}
	}
	return false
}

func close(a, b float64) bool { return math.Abs(a-b) <= 1e-5*max(1, math.Abs(a), math.Abs(b)) }
