package policy

import (
	"context"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// schedules is what the device itself allocates to run tasks so many times.
func schedules(times float64) float64 {
	nothing := func(int) {}
	return times * testing.AllocsPerRun(10, func() { dev.Each(3, nothing) })
}

// TestPassesAllocateNothing holds the steady state of training to it.
func TestPassesAllocateNothing(t *testing.T) {
	for _, recompute := range []bool{false, true} {
		c := shapes()["wide"]
		m := newModelWith(t, c, Options{Seed: 1, Recompute: recompute})
		p := randomPacked(c, 2, 100, 30, 100, 160, 40)
		d := make([]float32, len(p.Tokens))
		for i := range d {
			d[i] = 1
		}
		ctx := context.Background()
		loss := func(Scores) (Scores, error) { return Scores{LogProbs: d}, nil }
		allocated := testing.AllocsPerRun(10, func() {
			m.ZeroGrad()
			if err := m.Accumulate(ctx, p, 1, loss); err != nil {
				t.Error(err)
			}
			m.Refresh()
		})
		if device := schedules(3); allocated > device {
			t.Errorf("recomputation %t: a step allocates %v times, %v of them the device's", recompute, allocated, device)
		}
	}
}

func TestExtendAllocatesNothing(t *testing.T) {
	d, pass := steady(t, shapes()["wide"], 16, 3)
	allocated := testing.AllocsPerRun(20, func() {
		if err := d.network.Extend(d.pages, pass); err != nil {
			t.Error(err)
		}
	})
	if device := schedules(1); allocated > device {
		t.Errorf("a pass allocates %v times, %v of them the device's", allocated, device)
	}
}

// steady computes prompts of some tokens and returns the pass of one more token of each.
func steady(t testing.TB, c Config, sequences, prompt int) (*decoding, *Pass) {
	t.Helper()
	prompts := make([][]int32, sequences)
	for i := range prompts {
		prompts[i] = randomPacked(c, uint64(i), prompt).Tokens
	}
	d := newDecoding(t, newModel(t, c, 1), prompts, 1)
	how := device.Sampling{Temperature: 1, TopP: 1, Uniform: 0.5}
	var which, rows []int
	for s, tokens := range d.tokens {
		which, rows = append(which, s), append(rows, len(tokens))
	}
	d.extend(t, which, rows, func(int) device.Sampling { return how })
	pass := &Pass{At: device.Placement{Offsets: []int32{0}, Cached: d.cached, Tables: d.tables}, Chosen: make([]device.Sampled, len(which))}
	for _, tokens := range d.tokens {
		pass.Tokens = append(pass.Tokens, tokens[len(tokens)-1])
		pass.At.Offsets = append(pass.At.Offsets, int32(len(pass.Tokens)))
		pass.How = append(pass.How, how)
	}
	return d, pass
}
