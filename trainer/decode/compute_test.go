package decode

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// TestDecodedNumbersInBF16AreThoseOfAFullPass compares bits in bf16 on a device that is exact, over sizes of passes
// and of the cache. With -short the small cache alone is compared.
func TestDecodedNumbersInBF16AreThoseOfAFullPass(t *testing.T) {
	c := family(policy.Qwen3)
	c.Layers, c.Hidden, c.FFN = 1, 24, 32 // the device is slow
	m, err := policy.New(devicetest.NewReference(), c, policy.Options{Seed: 3, Frozen: true, Compute: device.BF16})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	models := []*policy.Model{m}
	got, requests, stats := play(t, models, 14, 9)
	if stats.Preemptions == 0 {
		t.Errorf("%+v: want preemptions in a small cache", stats)
	}
	for name, r := range requests {
		checkBits(t, models, name, r, got[name])
	}
	if testing.Short() {
		return
	}
	want, _, _ := play(t, models, 512, 64)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("a small cache changes results:\n%s", diff)
	}
}
