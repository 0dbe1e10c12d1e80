package policy

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/turnwise-rl/turnwise/rollout/sampler"
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
	m, err := New(c, 1)
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
		err := m.Accumulate(context.Background(), p, 1, func(_, _ []float32) ([]float32, []float32, error) { return ones, nil, nil })
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(p.Tokens))/b.Elapsed().Seconds(), "tokens/s")
}

func BenchmarkScore(b *testing.B) {
	c := benchmarkConfig()
	m, err := New(c, 1)
	if err != nil {
		b.Fatal(err)
	}
	p := benchmarkBatch(c, 32, 256)
	for b.Loop() {
		score(b, m, p, 1)
	}
	b.ReportMetric(float64(b.N*len(p.Tokens))/b.Elapsed().Seconds(), "tokens/s")
}

// BenchmarkGenerate decodes 128 sequences at once: 64 tokens after prompts of 128.
func BenchmarkGenerate(b *testing.B) {
	const sequences, prompt, sampled = 128, 128, 64
	c := benchmarkConfig()
	m, err := New(c, 1)
	if err != nil {
		b.Fatal(err)
	}
	e := newEngine(b, m, sequences)
	p := benchmarkBatch(c, sequences, prompt)
	round := 0
	b.ReportAllocs()
	for b.Loop() {
		round++
		var wait sync.WaitGroup
		for i := range sequences {
			wait.Go(func() {
				name := fmt.Sprint(round, "/", i)
				_, err := e.Generate(context.Background(), sampler.Request{
					Sequence: name, Tokens: p.Tokens[i*prompt : (i+1)*prompt], MaxTokens: sampled, Temperature: 1, Seed: uint64(i),
				})
				if err != nil {
					b.Error(err)
				}
				e.Release(name)
			})
		}
		wait.Wait()
	}
	b.ReportMetric(float64(b.N*sequences*sampled)/b.Elapsed().Seconds(), "tokens/s")
}
