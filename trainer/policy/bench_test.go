package policy

import (
	"context"
	"testing"
)

// benchmarkConfig is the quickstart's network.
func benchmarkConfig() Config {
	c := DefaultConfig()
	c.VocabSize = 600
	return c
}

func benchmarkBatch(c Config, sequences, length int) Packed {
	lengths := make([]int, sequences)
	for i := range lengths {
		lengths[i] = length
	}
	return randomPacked(c, 1, lengths...)
}

func BenchmarkAccumulate(b *testing.B) {
	c := benchmarkConfig()
	m, err := New(dev, c, Options{Seed: 1})
	if err != nil {
		b.Fatal(err)
	}
	p := benchmarkBatch(c, 32, 256)
	ones := make([]float32, len(p.Tokens))
	for i := range ones {
		ones[i] = 1
	}
	b.ReportAllocs()
	for b.Loop() {
		err := m.Accumulate(context.Background(), p, 1, func(Scores) (Scores, error) { return Scores{LogProbs: ones}, nil })
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(p.Tokens))/b.Elapsed().Seconds(), "tokens/s")
}

func BenchmarkScore(b *testing.B) {
	c := benchmarkConfig()
	m, err := New(dev, c, Options{Seed: 1})
	if err != nil {
		b.Fatal(err)
	}
	p := benchmarkBatch(c, 32, 256)
	for b.Loop() {
		score(b, m, p, 1)
	}
	b.ReportMetric(float64(b.N*len(p.Tokens))/b.Elapsed().Seconds(), "tokens/s")
}

// BenchmarkExtend decodes one token of each of 16 sequences in the middle of a context of 128.
func BenchmarkExtend(b *testing.B) {
	d, pass := steady(b, benchmarkConfig(), 16, 64)
	b.ReportAllocs()
	for b.Loop() {
		if err := d.network.Extend(d.pages, pass); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*16)/b.Elapsed().Seconds(), "tokens/s")
}
