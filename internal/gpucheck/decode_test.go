package gpucheck

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// called is a GPU that does not record: everything is queued operation by operation.
type called struct{ *cuda.Device }

// Record hides that of the GPU.
func (called) Record() {}

// decoding is what some sequences have become, and how.
type decoding struct {
	chosen [][]device.Sampled
	// queued counts passes by how their work came to the device.
	queued [policy.Unrecorded + 1]int
	// full is how long a pass of all sequences takes by the host's clock, at the median.
	full time.Duration
}

// decoded computes prompts, and then tokens one by one of as many of the sequences as a plan says.
func decoded(t *testing.T, d device.Device, c policy.Config, compute device.DType, prompts []policy.Packed, plan []int) decoding {
	t.Helper()
	n, err := newModel(t, d, c, policy.Options{Seed: 3, Frozen: true, Compute: compute}).Share()
	must(t, err)
	defer n.Free()
	n.RecordAfter(1)
	each := 0
	for _, p := range prompts {
		each = max(each, (len(p.Tokens)+len(plan))/device.PageTokens+1)
	}
	pages, err := d.NewPages(n.PageShape(each * len(prompts)))
	must(t, err)
	defer d.FreePages(pages)
	out := decoding{chosen: make([][]device.Sampled, len(prompts))}
	cached, tokens := make([]int32, len(prompts)), make([][]int32, len(prompts))
	extend := func(sequences int) time.Duration {
		pass := &policy.Pass{At: device.Placement{Offsets: []int32{0}}, Chosen: make([]device.Sampled, sequences)}
		for s := range sequences {
			pass.Tokens = append(pass.Tokens, tokens[s]...)
			pass.At.Offsets = append(pass.At.Offsets, int32(len(pass.Tokens)))
			pass.At.Cached = append(pass.At.Cached, cached[s])
			var table []int32
			for page := range each {
				table = append(table, int32(page*len(prompts)+s))
			}
			pass.At.Tables = append(pass.At.Tables, table)
			pass.How = append(pass.How, device.Sampling{Temperature: []float32{1, 0.7, 0}[s%3], TopK: 20 * (s % 2), TopP: 1, Uniform: float64(len(out.chosen[s])%97) / 97})
		}
		begun := time.Now()
		must(t, n.Extend(pages, pass))
		took := time.Since(begun)
		out.queued[pass.Queued]++
		for s, chosen := range pass.Chosen {
			cached[s] += int32(len(tokens[s]))
			tokens[s] = []int32{chosen.Token}
			out.chosen[s] = append(out.chosen[s], chosen)
		}
		return took
	}
	for s, p := range prompts {
		tokens[s] = p.Tokens
	}
	extend(len(prompts))
	var took []time.Duration
	for _, sequences := range plan {
		if one := extend(sequences); sequences == len(prompts) {
			took = append(took, one)
		}
	}
	slices.Sort(took)
	out.full = took[len(took)/2]
	return out
}

// TestReplaysHaveTheBitsOfCalls decodes with passes that are recorded and replayed and with passes that are queued operation by
// operation, as sequences come and go and reach into more parts. What a pass takes either way is printed.
func TestReplaysHaveTheBitsOfCalls(t *testing.T) {
	c := on(large(), small())
	c.Layers, c.MaxPositions = min(c.Layers, on(8, 2)), 1024
	sequences := on(64, 5)
	var prompts []policy.Packed
	for s := range sequences {
		prompts = append(prompts, packed(c, on(180+s, 3+(s%2)*(248+s)))) // some reach into a second part of 256 positions
	}
	var plan []int
	for _, part := range []struct{ sequences, passes int }{
		{sequences, on(100, 6)}, {sequences - 1, 3}, {sequences - 2, on(20, 2)}, {1, on(10, 3)}, {sequences, on(200, 4)}, {sequences / 2, on(20, 3)},
	} {
		plan = append(plan, slices.Repeat([]int{part.sequences}, part.passes)...)
	}
	modes(t, func(t *testing.T, d *cuda.Device) {
		for _, compute := range []device.DType{device.F32, device.BF16} {
			want, got := decoded(t, called{d}, c, compute, prompts, plan), decoded(t, d, c, compute, prompts, plan)
			if diff := cmp.Diff(want.chosen, got.chosen); diff != "" {
				t.Errorf("%v: replays differ (-calls +replays):\n%s", compute, diff)
			}
			if replays := got.queued[policy.Replayed]; replays < len(plan)/3 || got.queued[policy.Unrecorded] != 0 || want.queued[policy.Called] != len(plan)+1 {
				t.Errorf("%v: passes came %v, and %v without recordings: the test compares too little", compute, got.queued, want.queued)
			}
			t.Logf("%v: a pass of %d sequences takes %v by calls and %v by replays, by the host's clock%s", compute, sequences, want.full, got.full,
				on(fmt.Sprintf(" (%d of Qwen3-0.6B's layers)", c.Layers), " (an emulated GPU)"))
		}
	})
}
