package graph

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// An objective that the program does not have: a soft gate 4/τ·σ(τ(ρ − 1)) times the advantage, pulled
// back by the squared log-ratio and by how far the turn's mean log-probability is from 1. It is written
// as an expression; nobody derives anything.
func TestNewObjectiveNeedsNoDerivative(t *testing.T) {
	const tau = 1.3
	expression := func(b *builder, p kernels.Program, in inputs, ratio *G.Node) (loss, surrogate *G.Node) {
		gate := b.scale(4/tau, b.apply(opSigmoid, [2]float64{}, b.scale(tau, b.shift(ratio, -1))))
		drift := b.square(b.sub(in.logProbs, in.proximal))
		turn := b.apply(opAbs, [2]float64{}, b.shift(b.segmentMean(turns, b.mul(in.advantages, in.logProbs)), 1))
		loss = b.add(b.neg(b.mul(gate, in.advantages)), b.add(b.scale(0.1, drift), turn))
		return loss, loss
	}
	batch := kernels.Batch[float64]{
		Offsets: []int32{0, 4, 6}, LogProbs: []float64{-0.7, -2.5, 9, -1.5, -1.9, -0.4}, Proximal: []float64{-1, -2, 9, -1.2, -1.7, -0.6},
		Advantages: []float64{1, -1.5, 9, 2, -1, 0.5}, Sampled: []bool{true, true, false, true, true, true}, Turn: []int32{0, 0, -1, 1, 0, 0},
	}
	k := key{program: sum(clip), capacity: 256, proximal: true}
	c, err := compile[float64](k, expression)
	if err != nil {
		t.Fatal(err)
	}
	evaluate := func() kernels.Result[float64] {
		t.Helper()
		result := kernels.Result[float64]{DLogProbs: make([]float64, batch.Tokens())}
		if err := c.run(batch, kernels.Count(batch), &result); err != nil {
			t.Fatal(err)
		}
		return result
	}
	gradient := evaluate().DLogProbs
	for i := range batch.LogProbs {
		if !batch.Sampled[i] {
			continue
		}
		const step = 1e-6
		at := batch.LogProbs[i]
		batch.LogProbs[i] = at + step
		up := evaluate().Loss
		batch.LogProbs[i] = at - step
		down := evaluate().Loss
		batch.LogProbs[i] = at
		if want := (up - down) / (2 * step); math.Abs(gradient[i]-want) > 1e-7 {
			t.Errorf("token %d: gradient %v, finite difference %v", i, gradient[i], want)
		}
	}
}
