package gpubench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer/decode"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// decoder is an engine, and how many calls it has had.
type decoder struct {
	engine *decode.Engine
	random *rand.Rand
	config policy.Config
	calls  int
}

// newDecoder makes an engine with the weights of a network.
func newDecoder(t *testing.T, m *policy.Model, slots, positions int) *decoder {
	t.Helper()
	engine, err := decode.New(decode.Config{Slots: slots, MaxTokens: positions})
	must(t, err)
	d := &decoder{engine: engine, random: rand.New(rand.NewPCG(7, 8)), config: m.Config()}
	d.load(t, m, 0)
	return d
}

// load hands a network's weights of this moment to the engine.
func (d *decoder) load(t *testing.T, m *policy.Model, version int) {
	t.Helper()
	network, err := m.Share()
	must(t, err)
	must(t, d.engine.Load(network, rollout.Version(version)))
}

// prompts are ones that were never seen before, so that nothing is found in a cache.
func (d *decoder) prompts(n, length int) [][]int32 {
	all := make([][]int32, n)
	for i := range all {
		all[i] = tokens(d.random, d.config, length)
	}
	return all
}

// generate continues each prompt, all at once, by n tokens. Names of sequences are those of no other call.
func (d *decoder) generate(t *testing.T, prompts [][]int32, n int) ([]sampler.Result, time.Duration) {
	t.Helper()
	d.calls++
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	results := make([]sampler.Result, len(prompts))
	var wait sync.WaitGroup
	begun := time.Now()
	for i := range prompts {
		wait.Go(func() {
			name := fmt.Sprint(d.calls, "/", i)
			defer d.engine.Release(name)
			result, err := d.engine.Generate(ctx, sampler.Request{Sequence: name, Tokens: prompts[i], MaxTokens: n, Temperature: 1, Seed: uint64(d.calls)<<32 + uint64(i)})
			if err == nil && len(result.Tokens) != n {
				err = fmt.Errorf("sequence %s has %d new tokens, want %d", name, len(result.Tokens), n)
			}
			if err != nil {
				cancel(err)
			}
			results[i] = result
		})
	}
	wait.Wait()
	took := time.Since(begun)
	must(t, context.Cause(ctx))
	return results, took
}

// decodeBatch measures a batch of prompts that arrive at once.
func decodeBatch(t *testing.T, c policy.Config, ceilings Ceilings) Decoding {
	t.Helper()
	r := Decoding{Sequences: on(*sequences, 3), Prompt: on(*prompt, 7), New: on(*fresh, 5), Rounds: 1 + *steps/5}
	d := open(t)
	defer shut(t, d)
	m, err := policy.New(d, c, policy.Options{Seed: 3, Frozen: true, Compute: device.BF16})
	must(t, err)
	defer m.Free()
	engine := newDecoder(t, m, r.Sequences, r.Prompt+r.New)
	defer engine.close(t)
	var rounds, firsts, passes []float64
	before := int64(0)
	for round := range r.Rounds + 1 {
		if round == 1 { // the one before warms up
			before = engine.engine.Stats().Passes
		}
		_, first := engine.generate(t, engine.prompts(r.Sequences, r.Prompt), 1)
		_, all := engine.generate(t, engine.prompts(r.Sequences, r.Prompt), r.New)
		if round > 0 {
			firsts, rounds = append(firsts, milliseconds(first)), append(rounds, milliseconds(all))
			passes = append(passes, milliseconds(all-first)/float64(r.New-1))
		}
		r.Memory.look(t, d)
	}
	r.RoundMS, r.PrefillMS, r.PassMS = SpreadOf(rounds), SpreadOf(firsts).Median, SpreadOf(passes).Median
	r.TokensPerSecond = 1e3 * float64(r.Sequences*r.New) / r.RoundMS.Median
	r.PassBytes = DecodingBytes(c, r.Sequences, float64(r.Prompt)+float64(r.New)/2)
	if r.PassMS > 0 { // where passes take hardly longer than the first, which is on no GPU, the difference may be anything
		r.BytesPerSecond = 1e3 * r.PassBytes / r.PassMS
		r.OfCopy = r.BytesPerSecond / ceilings.BytesPerSecond
	}
	r.Passes = float64(engine.engine.Stats().Passes-before) / float64(2*r.Rounds)
	return r
}

func (d *decoder) close(t *testing.T) {
	t.Helper()
	must(t, d.engine.Close())
}

// String is a line for who reads along.
func (r Decoding) String() string {
	return fmt.Sprintf("decoding %d × (%d + %d): %.0f ms (%.0f to %.0f), %.0f tokens/s, prefill %.1f ms, a pass %.3f ms, %.2f TB/s, %.1f%% of a copy's, %.2f GiB allocated, %.2f GiB taken",
		r.Sequences, r.Prompt, r.New, r.RoundMS.Median, r.RoundMS.Min, r.RoundMS.Max, r.TokensPerSecond, r.PrefillMS, r.PassMS, r.BytesPerSecond/1e12, 100*r.OfCopy, gib(r.Memory.Allocated), gib(r.Memory.Driver))
}
