package graph

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
)

// An objective that the program does not have: a soft gate 4/τ·σ(τ(ρ − 1)) times the advantage, pulled
// back by the squared log-ratio and by how far the turn's mean log-probability is from 1. It is written
// as an expression; nobody derives anything.
func TestNewObjectiveNeedsNoDerivative(t *testing.T) {
	const tau = 1.3
	soft := func(b *builder, in inputs) terms {
		gate := b.scale(4/tau, b.sigmoid(b.scale(tau, b.shift(in.ratio, -1))))
		drift := b.square(b.sub(in.logProbs, in.anchor))
		turn := b.abs(b.shift(b.segmentMean(turns, b.mul(in.advantages, in.logProbs)), 1))
		return terms{loss: b.add(b.neg(b.mul(gate, in.advantages)), b.add(b.scale(0.1, drift), turn))}
	}
	batch := kernels.Batch[float64]{
		Offsets: []int32{0, 4, 6}, LogProbs: []float64{-0.7, -2.5, 9, -1.5, -1.9, -0.4}, Proximal: []float64{-1, -2, 9, -1.2, -1.7, -0.6},
		Advantages: []float64{1, -1.5, 9, 2, -1, 0.5}, Sampled: []bool{true, true, false, true, true, true}, Turn: []int32{0, 0, -1, 1, 0, 0},
	}
	evaluate := evaluationOf(t, ppo(ratio(kernels.RatioToken), aggregate(kernels.StepMean)), soft, batch)
	gradient := evaluate().DLogProbs
	for i := range batch.LogProbs {
		want := difference(batch.LogProbs, i, func() float64 { return evaluate().Loss })
		if math.Abs(gradient[i]-want) > 1e-7 {
			t.Errorf("token %d: gradient %v, finite difference %v", i, gradient[i], want)
		}
	}
}

// What a table of parts names, a graph can compute.
func TestEveryPartHasAnExpression(t *testing.T) {
	var programs []kernels.Program
	for _, variant := range kernels.ObjectiveTable {
		p := program(variant.New().(kernels.Objective))
		if variant.Name == "gmpo" {
			p.Ratio = kernels.RatioSequenceGeometric
		}
		programs = append(programs, p)
	}
	for _, variant := range kernels.CorrectionTable {
		programs = append(programs, ppo(offPolicy(variant.New().(kernels.Correction))))
	}
	for _, variant := range kernels.MaskTable {
		programs = append(programs, ppo(masked(variant.New().(kernels.Mask))))
	}
	for _, variant := range kernels.RegularizerTable {
		programs = append(programs, ppo(regularized(variant.New().(kernels.Regularizer))))
	}
	for _, p := range programs {
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", p, err)
		}
		k := key{capacity: nominal, has: present{behavior: true, entropy: true, lossWeights: true, clipHigh: true}}
		if _, err := compile[float32](p, k, objectiveOf(p.Objective)); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// evaluationOf compiles a program with any objective. The batch is read anew at every call.
func evaluationOf(t testing.TB, p kernels.Program, of objective, b kernels.Batch[float64]) func() kernels.Result[float64] {
	t.Helper()
	c, err := compile[float64](p, key{capacity: nominal, has: presentIn(b)}, of)
	if err != nil {
		t.Fatal(err)
	}
	return func() kernels.Result[float64] {
		t.Helper()
		result := blank[float64](p, b.Tokens())
		if err := c.run(b, kernels.Count(b), &result); err != nil {
			t.Fatal(err)
		}
		return result
	}
}

// difference is the central difference quotient of f by value i.
func difference(values []float64, i int, f func() float64) float64 {
	const step = 1e-6
	at := values[i]
	defer func() { values[i] = at }()
	values[i] = at + step
	up := f()
	values[i] = at - step
	return (up - f()) / (2 * step)
}
