package decode

import (
	"context"
	"os"
	"sync"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/emulator"
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

// BenchmarkHost is the host's work in a decoding pass of 64 sequences of 1024 tokens through as many layers as Qwen3-0.6B has, by
// calls and by replays, in the network alone and with the schedule around it: on an emulated GPU that computes nothing, which
// EMULATED_IDLE=1 asks for. A GPU waits for all of it between two passes, or, where passes are queued ahead, for none of it that is
// shorter than a pass.
func BenchmarkHost(b *testing.B) {
	const sequences, tokens = 64, 1024
	if os.Getenv("EMULATED_IDLE") != "1" {
		b.Skip("set EMULATED_IDLE=1, so that the emulated GPU computes nothing")
	}
	l, err := emulator.Build(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	d, err := cuda.Open(cuda.Libraries(l), cuda.Options{Exact: true})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	c := family(policy.Qwen3)
	c.Layers, c.Hidden, c.FFN, c.HeadDim, c.MaxPositions = 28, 32, 48, 8, 1<<20
	for name, on := range map[string]device.Device{"calls": called{d}, "replays": d} {
		b.Run(name, func(b *testing.B) { hostOfNetwork(b, on, c, sequences, tokens) })
	}
	for name, on := range map[string]device.Device{"batch, waited for": waited{d}, "batch, queued ahead": d} {
		b.Run(name, func(b *testing.B) { hostOfBatch(b, on, c, sequences, tokens) })
	}
}

// hostOfNetwork measures passes at one place, one after the other.
func hostOfNetwork(b *testing.B, on device.Device, c policy.Config, sequences, tokens int) {
	m, err := policy.New(on, c, policy.Options{Frozen: true})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Free()
	n := snapshot(b, m)
	defer n.Free()
	each := tokens / pageTokens
	pages, err := on.NewPages(n.PageShape(sequences * each))
	if err != nil {
		b.Fatal(err)
	}
	defer on.FreePages(pages)
	pass := &policy.Pass{At: device.Placement{Offsets: []int32{0}}, Chosen: make([]device.Sampled, sequences)}
	for i := range sequences {
		table := counting(each, sequences*each)
		for j := range table {
			table[j] = int32(i*each + j)
		}
		pass.Tokens, pass.How = append(pass.Tokens, int32(i)), append(pass.How, device.Sampling{Temperature: 1, TopP: 1})
		pass.At.Offsets, pass.At.Cached, pass.At.Tables = append(pass.At.Offsets, int32(i+1)), append(pass.At.Cached, int32(tokens-1)), append(pass.At.Tables, table)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := n.Extend(pages, pass); err != nil {
			b.Fatal(err)
		}
	}
}

// uncomputed is a network on a device that computes nothing, whose choices are whatever was in memory: here they are tokens.
type uncomputed struct{ *policy.Network }

func (n uncomputed) Extend(pages device.Pages, pass *policy.Pass) error {
	defer choose(pass)
	return n.Network.Extend(pages, pass)
}

func (n uncomputed) Finish(pass *policy.Pass) error {
	defer choose(pass)
	return n.Network.Finish(pass)
}

func choose(pass *policy.Pass) {
	for i := range pass.Chosen {
		pass.Chosen[i] = device.Sampled{Token: int32(i)}
	}
}

// hostOfBatch measures the passes behind prompts of so many tokens, which grow by up to a fourth before they begin anew.
func hostOfBatch(b *testing.B, on device.Device, c policy.Config, sequences, tokens int) {
	m, err := policy.New(on, c, policy.Options{Frozen: true})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Free()
	pages := sequences * pagesFor(tokens+tokens/4+1)
	var playing *batch
	start := func() *batch {
		n := snapshot(b, m)
		cache, err := on.NewPages(n.PageShape(pages))
		if err != nil {
			b.Fatal(err)
		}
		playing := &batch{schedule: newSchedule(pages, sequences, MostPassTokens), pages: cache}
		playing.use(uncomputed{n}, 0)
		for i := range sequences {
			r := sampler.Request{Tokens: counting(tokens, c.VocabSize), MaxTokens: tokens / 4, Temperature: 1, Seed: uint64(i)}
			r.Tokens[0], r.Tokens[1] = int32(i), int32(i/2)
			playing.add(newGeneration(r, r.MaxTokens))
		}
		for range sequences {
			playing.step()
		}
		return playing
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%(tokens/8) == 0 {
			b.StopTimer()
			if playing != nil {
				playing.fail(ErrClosed)
				playing.free()
			}
			playing = start()
			b.StartTimer()
		}
		playing.step()
		if len(playing.schedule.running) != sequences {
			b.Fatalf("%d sequences run, want %d", len(playing.schedule.running), sequences)
		}
	}
	playing.fail(ErrClosed)
	playing.free()
}
