package graph

import (
	"fmt"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
)

func BenchmarkEvaluate(b *testing.B) {
	plain := kernels.Program{
		Ratio: kernels.RatioToken, RatioGradient: kernels.GradientOwn, Anchor: kernels.AnchorProximal, Objective: kernels.Clip{ClipLow: 0.2, ClipHigh: 0.2},
		Rejected: kernels.RejectedStay, Aggregate: kernels.TokenMean,
	}
	withKL, turns := plain, plain
	withKL.Regularizers = []kernels.Regularizer{kernels.NewKL()}
	turns.Ratio, turns.Aggregate = kernels.RatioTurn, kernels.StepMean
	for _, program := range []struct {
		name string
		p    kernels.Program
	}{{"clip", plain}, {"clip+k3", withKL}, {"turns", turns}} {
		for _, n := range []int{32 << 10, 1 << 20} {
			for _, all := range []bool{true, false} {
				b.Run(fmt.Sprintf("%s/%d/all=%v", program.name, n, all), func(b *testing.B) { benchmark(b, program.p, n, all) })
			}
		}
	}
}

// benchmark evaluates n tokens in sequences of 1024; with all false, 64 of every 128 are sampled.
func benchmark(b *testing.B, p kernels.Program, n int, all bool) {
	wave := func(scale, shift float32) []float32 {
		values := make([]float32, n)
		for i := range values {
			values[i] = shift + scale*float32(i%17)/17
		}
		return values
	}
	batch := kernels.Batch[float32]{
		Offsets: []int32{0}, LogProbs: wave(-1, 0), Proximal: wave(-1.1, 0), Advantages: wave(2, -1), Reference: wave(-0.9, -0.1),
		Sampled: make([]bool, n), Turn: make([]int32, n),
	}
	for i := range batch.Sampled {
		batch.Sampled[i] = all || i/64%2 == 0
		batch.Turn[i] = int32(i % 1024 / 128)
		if i%1024 == 1023 {
			batch.Offsets = append(batch.Offsets, int32(i+1))
		}
	}
	evaluator, totals := New[float32](), kernels.Count(batch)
	if _, err := evaluator.Evaluate(p, batch, totals); err != nil { // compiles the graph
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := evaluator.Evaluate(p, batch, totals); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/token")
}
