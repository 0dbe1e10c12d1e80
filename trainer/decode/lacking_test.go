package decode

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/emulator"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// TestErrorsAheadSpoilNoResult decodes on a GPU that now and then has no memory, while another user makes mistakes on it. Passes are
// queued ahead, so some are under way then. What fails says so; whatever else comes back is as it is without.
func TestErrorsAheadSpoilNoResult(t *testing.T) {
	c := family(policy.Qwen3)
	c.Layers, c.Hidden, c.FFN, c.HeadDim = 1, 24, 32, 8 // the device is slow
	libraries, err := emulator.Build(context.Background(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	memory := func(bytes int64) {
		if err := emulator.Set(libraries.Driver, "memory", bytes); err != nil {
			t.Error(err)
		}
	}
	const plenty = 1 << 30
	defer memory(plenty)
	d, err := cuda.Open(cuda.Libraries(libraries), cuda.Options{Exact: true, Separate: true}) // each allocation asks the driver
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	models, other := decoders(t, d, c, device.F32, 1), d.Share()
	one, err := other.Allocate(device.ForWorkspace, device.F32, 1)
	index, wrong := other.Allocate(device.ForWorkspace, device.I32, 1)
	if err := errors.Join(err, wrong); err != nil {
		t.Fatal(err)
	}
	other.UploadInts(index, []int32{7})
	before := d.Usage().Bytes
	failed, stood := 0, 0
	for seed := range uint64(8) {
		random := rand.New(rand.NewPCG(seed, 1))
		calm := decodeAll(t, models[0], func() {})
		stormy := decodeAll(t, models[0], func() {
			memory(plenty)
			switch random.IntN(9) {
			case 0, 1:
				memory(1)
			case 2:
				other.Gather(device.Dense(one, 1), device.Dense(one, 1), index, 1, 1)
			case 3:
				_ = other.Sync() // hears of it first
			}
		})
		memory(plenty)
		_, _ = other.Sync(), d.Sync()
		for i, g := range stormy {
			var lacking *device.OutOfMemory
			var mistake *cuda.Mistake
			switch {
			case errors.As(g.err, &lacking) || errors.As(g.err, &mistake):
				failed++
			case g.err != nil:
				t.Errorf("seed %d, request %d: %v", seed, i, g.err)
			default:
				stood++
				if diff := cmp.Diff(calm[i].result, g.result); diff != "" {
					t.Errorf("seed %d, request %d is another:\n%s", seed, i, diff)
				}
			}
		}
	}
	if failed < 10 || stood < 10 {
		t.Errorf("%d requests failed and %d did not: the test exercises too little", failed, stood)
	}
	if used := d.Usage().Bytes; used != before {
		t.Errorf("%d bytes are in use at the end, %d before", used, before)
	}
}

// decodeAll answers requests of many lengths, one after the other of which arrives, and does something between passes.
func decodeAll(t *testing.T, m *policy.Model, between func()) []*generation {
	t.Helper()
	const requests, pages = 12, 12
	network := snapshot(t, m)
	cache, err := m.Device().NewPages(network.PageShape(pages))
	if err != nil {
		t.Fatal(err)
	}
	b := &batch{schedule: newSchedule(pages, 4, 30), pages: cache}
	b.use(network, 0)
	defer b.free()
	var all []*generation
	for worked := true; worked || len(all) < requests; {
		if i := len(all); i < requests {
			r := sampler.Request{Sequence: fmt.Sprint(i), Tokens: counting(3+7*i%40, m.Config().VocabSize-i%3), MaxTokens: 3 + i*5%17,
				Seed: uint64(i), Temperature: 1, Stop: []int32{int32(i)}}
			all = append(all, newGeneration(r, r.MaxTokens))
			b.add(all[i])
		}
		between()
		worked = b.step()
		checkSchedule(t, b.schedule)
	}
	return all
}
