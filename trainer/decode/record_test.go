package decode

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/emulator"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// called is a GPU that does not record: everything is queued operation by operation. Nor is anything queued ahead.
type called struct{ *cuda.Device }

// Record and Fetch hide those of the GPU.
func (called) Record() {}
func (called) Fetch()  {}

// waited is a GPU on which nothing is queued ahead.
type waited struct{ *cuda.Device }

// Fetch hides that of the GPU.
func (waited) Fetch() {}

// unrecorded is a GPU that does not record.
type unrecorded struct{ *cuda.Device }

// Record hides that of the GPU.
func (unrecorded) Record() {}

// emulated opens an emulated GPU.
func emulated(t *testing.T, l emulator.Libraries, exact bool) *cuda.Device {
	t.Helper()
	d, err := cuda.Open(cuda.Libraries(l), cuda.Options{Exact: exact})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestReplaysHaveTheBitsOfCalls decodes with recordings and without, with passes queued ahead and not, in caches large and small: with sequences that come and go,
// prefixes, branches, preemptions and weights that change.
func TestReplaysHaveTheBitsOfCalls(t *testing.T) {
	c := family(policy.Qwen3)
	c.Layers, c.Hidden, c.FFN, c.HeadDim = 2, 24, 32, 8 // the device is slow
	libraries, err := emulator.Build(context.Background(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		exact                   bool
		compute                 device.DType
		networks, passes, pages int
	}{
		"exact, little memory":       {exact: true, compute: device.F32, networks: 2, passes: 40, pages: 9},
		"fast, little memory":        {compute: device.BF16, networks: 2, passes: 40, pages: 9},
		"exact, the same weights":    {exact: true, compute: device.BF16, networks: 1, passes: 40, pages: 9},
		"fast, the same weights":     {compute: device.BF16, networks: 1, passes: 200, pages: 64},
		"fast, float32, much memory": {compute: device.F32, networks: 2, passes: 200, pages: 64},
	} {
		t.Run(name, func(t *testing.T) {
			d := emulated(t, libraries, tc.exact)
			played := func(on device.Device) (map[string]sampler.Result, map[string]sampler.Request, Stats, []*policy.Model) {
				models := decoders(t, on, c, tc.compute, tc.networks)
				results, requests, stats := play(t, models, tc.passes, tc.pages)
				return results, requests, stats, models
			}
			got, requests, stats, models := played(d)
			same := func(what string, on device.Device) Stats {
				want, _, plain, _ := played(on)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("%s changes results:\n%s", what, diff)
				}
				return plain
			}
			var plain Stats
			if tc.networks == 1 {
				plain = same("recording and queueing ahead", called{d})
			} else { // without queueing ahead, weights change between other tokens
				plain = same("recording", unrecorded{d})
			}
			if tc.exact {
				for name, r := range requests {
					checkBits(t, models, name, r, got[name])
				}
			}
			if plain.Replays != 0 || stats.Recordings == 0 || stats.Replays <= stats.Recordings || stats.Unrecorded != 0 || (stats.Swaps > 0) != (tc.networks > 1) {
				t.Errorf("%+v: the test exercises too little", stats)
			}
		})
	}
}

// decoders are networks of one shape with different weights.
func decoders(t *testing.T, on device.Device, c policy.Config, compute device.DType, n int) []*policy.Model {
	t.Helper()
	var all []*policy.Model
	for seed := range n {
		m, err := policy.New(on, c, policy.Options{Seed: uint64(seed), Frozen: true, Compute: compute})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Free)
		all = append(all, m)
	}
	return all
}

// TestRefusedRecordingsAreTold wants the first refusal told, all counted, and nothing else changed.
func TestRefusedRecordingsAreTold(t *testing.T) {
	refusal := errors.New("not this")
	n := newFake(new(fakeDevice), 1, 64, 10)
	n.fail = func(pass *policy.Pass) error {
		pass.Queued, pass.Refused = policy.Called, nil
		if len(pass.Tokens) == 1 {
			pass.Queued, pass.Refused = policy.Unrecorded, refusal
		}
		return nil
	}
	var told []error
	e := newEngine(t, Config{Slots: 1, Unrecorded: func(why error) { told = append(told, why) }}, n)
	request := sampler.Request{Tokens: counting(5, 10), MaxTokens: 6, Temperature: 1}
	got, err := e.Generate(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	want := alone(request, func(int) (*fakeNetwork, rollout.Version) { return newFake(nil, 1, 64, 10), 4 }, nil)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("results differ (-want +got):\n%s", diff)
	}
	stats := e.Stats()
	if len(told) != 1 || !errors.Is(told[0], refusal) || stats.Unrecorded != 5 || stats.Replays != 0 {
		t.Errorf("told %v, and %+v", told, stats)
	}
}
