package gpucheck

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer/decode"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// wide is two layers of Qwen3-0.6B: the widths that the fast mode's kernels are for.
func wide() policy.Config {
	c := large()
	c.Layers = 2
	if emulated {
		c.Hidden, c.Heads, c.KVHeads, c.FFN, c.VocabSize, c.MaxPositions = 64, 4, 2, 96, 131, 1024
	}
	return c
}

// mostGradientOff is how far the fast mode's gradient may be from the exact mode's, both in bf16, as a share of its size.
const mostGradientOff = 1.0 / 32

// TestFastGradientsAreNearTheExact computes scores and gradients in bf16 by the fast mode's kernels and by the exact mode's, which
// have none of them in common but those of the optimizer and of the embedding.
func TestFastGradientsAreNearTheExact(t *testing.T) {
	c := wide()
	p := packed(c, on([]int{1, 63, 64, 65, 500, 1024, 2048}, []int{1, 63, 64, 65, 70})...)
	fast, exact := open(t, false), open(t, true)
	o := policy.Options{Compute: device.BF16}
	most, mean := apart(logProbs(t, fast, c, o, p), logProbs(t, exact, c, o, p))
	t.Logf("log-probabilities differ by %.3g at most, %.3g on average", most, mean)
	if !(most > 0 && most <= inBF16) {
		t.Errorf("log-probabilities differ by %.3g, want some, and %.3g at most", most, inBF16)
	}
	got, _ := gradients(t, fast, c, o, p)
	want, _ := gradients(t, exact, c, o, p)
	off := distance(slices.Concat(got...), slices.Concat(want...))
	if !(off <= mostGradientOff) {
		t.Errorf("the gradient is off by %.3g of its size, want %.3g at most", off, mostGradientOff)
	}
	t.Logf("the gradient is off by %.3g of its size", off)
}

// TestFastDecodingIsNearScores samples a group behind one long prompt at once, as GRPO does, so that attention reads shared parts and
// passes are replayed, and scores what was sampled.
func TestFastDecodingIsNearScores(t *testing.T) {
	c := wide()
	m := newModel(t, open(t, false), c, policy.Options{Seed: 3, Frozen: true, Compute: device.BF16})
	const group = 8
	engine, err := decode.New(decode.Config{Slots: group, MaxTokens: 1024})
	must(t, err)
	defer engine.Close()
	network, err := m.Share()
	must(t, err)
	network.RecordAfter(1)
	must(t, engine.Load(network, 1))
	prompt := packed(c, on(600, 270)).Tokens
	results, errs := make([]sampler.Result, group), make([]error, group)
	ask := func(i, tokens int) {
		results[i], errs[i] = engine.Generate(t.Context(), sampler.Request{Sequence: fmt.Sprint(i), Tokens: prompt, MaxTokens: tokens, Temperature: 0.8, Seed: uint64(i)})
	}
	ask(0, 1) // the others find the prompt's keys and values
	var asked sync.WaitGroup
	for i := range group {
		asked.Go(func() { ask(i, on(200, 14)) })
	}
	asked.Wait()
	for i, result := range results {
		must(t, errs[i])
		all := append(slices.Clone(prompt), result.Tokens...)
		scores, err := m.Score(t.Context(), policy.Packed{Tokens: all, Offsets: []int32{0, int32(len(all))}}, 0.8)
		must(t, err)
		most, mean := apart(result.LogProbs, scores.LogProbs[len(prompt):])
		t.Logf("sequence %d: log-probabilities of %d tokens differ by %.3g at most, %.3g on average", i, len(result.Tokens), most, mean)
		if !(most <= inBF16) || len(result.Tokens) < 2 {
			t.Errorf("sequence %d: log-probabilities of %d tokens differ by %.3g, want %.3g at most", i, len(result.Tokens), most, inBF16)
		}
	}
	stats := engine.Stats()
	t.Logf("%d replays of %d recordings, %d tokens of prompts found", stats.Replays, stats.Recordings, stats.PrefixTokens)
	if stats.Replays == 0 || stats.PrefixTokens < (group-1)*256 {
		t.Errorf("%d passes were replayed and %d tokens of prompts found, want some, and a part for all but the first", stats.Replays, stats.PrefixTokens)
	}
}
