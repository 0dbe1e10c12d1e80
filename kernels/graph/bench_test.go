package graph

import (
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
)

func BenchmarkEvaluate(b *testing.B) {
	withKL := clip
	withKL.KL, withKL.KLCoef = kernels.KLK3, 0.001
	for name, p := range map[string]kernels.Program{"clip": clip, "clip+k3": withKL} {
		b.Run(name, func(b *testing.B) { benchmark(b, p, 32<<10) })
	}
}

func benchmark(b *testing.B, p kernels.Program, n int) {
	wave := func(scale, shift float32) []float32 {
		values := make([]float32, n)
		for i := range values {
			values[i] = shift + scale*float32(i%17)/17
		}
		return values
	}
	batch := kernels.Batch[float32]{Offsets: []int32{0, int32(n)}, LogProbs: wave(-1, 0), Proximal: wave(-1.1, 0), Advantages: wave(2, -1), Sampled: make([]bool, n)}
	if p.UsesReference() {
		batch.Reference = wave(-0.9, -0.1)
	}
	for i := range batch.Sampled {
		batch.Sampled[i] = true
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
