package decode

import (
	"context"
	"sync"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// BenchmarkDecode samples 96 tokens behind each of 16 prompts of 32 tokens that arrive at once, at the
// quickstart's shape.
func BenchmarkDecode(b *testing.B) {
	const sequences, prompt, sampled = 16, 32, 96
	c := policy.DefaultConfig()
	c.VocabSize, c.MaxPositions = 512, prompt+sampled
	for name, threads := range map[string]int{"one thread": 1, "all threads": 0} {
		b.Run(name, func(b *testing.B) {
			cpu.SetThreads(threads)
			defer cpu.SetThreads(0)
			e := newEngine(b, Config{Slots: sequences}, snapshot(b, newModel(b, c, 1)))
			round := 0
			for b.Loop() {
				round++
				var wait sync.WaitGroup
				for i := range sequences {
					r := sampler.Request{Tokens: counting(prompt, c.VocabSize), MaxTokens: sampled, Temperature: 1, Seed: uint64(i)}
					r.Tokens[0], r.Tokens[1] = int32(i), int32(round%c.VocabSize) // nothing is found in the cache
					wait.Go(func() {
						if _, err := e.Generate(context.Background(), r); err != nil {
							b.Error(err)
						}
					})
				}
				wait.Wait()
			}
			b.ReportMetric(float64(b.N*sequences*sampled)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
