package policy

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

func storedBF16(o Options) Options {
	o.Compute, o.Stored = device.BF16, device.BF16
	return o
}

// TestStoredBF16ComputesTheSame compares a network whose matrices are stored in bf16 with one that keeps the same numbers in
// float32: scores, gradients, files and digests have the same bits, and matrices take a third of the memory.
func TestStoredBF16ComputesTheSame(t *testing.T) {
	for name, v := range variants() {
		if v.options.LoRA.Rank > 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			on := devicetest.NewReference()
			o := v.options
			o.Seed = 9
			m := newModelOn(t, on, v.config, storedBF16(o))
			took := on.Usage().Bytes
			wide, err := DecodeWeights(on, v.config, inBF16(o), encoded(t, m))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(wide.Free)
			more := 4 * int64(m.form.size()-m.form.vectors())
			if v.config.UntiedHead {
				more -= 2 * int64(v.config.VocabSize*v.config.Hidden) // no product reads the embedding
			}
			if got, want := on.Usage().Bytes-took, took+more; got != want {
				t.Errorf("float32 takes %d bytes and bf16 %d: want %d", got, took, want)
			}
			compare := func(what string) {
				t.Helper()
				p := randomPacked(v.config, 1, 9, 14)
				got, gotH := score(t, m, p, 1)
				want, wantH := score(t, wide, p, 1)
				equalBits(t, what+": log-probabilities", got, want)
				equalBits(t, what+": entropies", gotH, wantH)
				var sums [2]string
				for i, model := range []*Model{m, wide} {
					model.ZeroGrad()
					d := derivatives(v, len(p.Tokens))
					if err := model.Accumulate(t.Context(), p, 1, func(Scores) (Scores, error) { return d, nil }); err != nil {
						t.Fatal(err)
					}
					if sums[i], err = model.Digest(); err != nil {
						t.Fatal(err)
					}
				}
				for i, a := range m.Parameters() {
					g, w := make([]float32, a.Grad.Len()), make([]float32, a.Grad.Len())
					if err := on.Download(g, a.Grad); err != nil {
						t.Fatal(err)
					}
					if err := on.Download(w, wide.Parameters()[i].Grad); err != nil {
						t.Fatal(err)
					}
					equalBits(t, what+": gradient of "+a.Name, g, w)
				}
				if sums[0] != sums[1] {
					t.Errorf("%s: digests %s and %s", what, sums[0], sums[1])
				}
			}
			compare("as made")
			network, err := m.Share()
			if err != nil {
				t.Fatal(err)
			}
			prompt := randomPacked(v.config, 3, 6).Tokens
			read, err := DecodeNetwork(on, v.config, storedBF16(o), encoded(t, m))
			if err != nil {
				t.Fatal(err)
			}
			trainOnce(t, m)
			if m.Moves() != 1 {
				t.Errorf("weights have moved %d times under a network", m.Moves())
			}
			sameChoices(t, "the network that was handed over", greedy(t, network, prompt, 4), greedy(t, read, prompt, 4))
			if err := wide.ReplaceWeights(encoded(t, m)); err != nil {
				t.Fatal(err)
			}
			compare("after a step")
			if err := m.ReplaceWeights(encoded(t, wide)); err != nil {
				t.Fatal(err)
			}
			compare("read again")
		})
	}
}

// TestRoundedWeightsAreStored on a device that computes in float32 alone, as those are that a run begins with.
func TestRoundedWeightsAreStored(t *testing.T) {
	c, o := tinyConfig(), Options{Seed: 4, ValueHead: true}
	prepared := newModelOn(t, cpu.New(), c, o)
	if err := prepared.Round(device.BF16); err != nil {
		t.Fatal(err)
	}
	want, err := prepared.Digest()
	if err != nil {
		t.Fatal(err)
	}
	stored, err := DecodeWeights(devicetest.NewReference(), c, storedBF16(o), encoded(t, prepared))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := stored.Digest(); err != nil || got != want {
		t.Errorf("digest %s, %v, want %s", got, err, want)
	}
}

// TestStoredTypesThatDoNotFitAreRefused.
func TestStoredTypesThatDoNotFitAreRefused(t *testing.T) {
	on := devicetest.NewReference()
	for want, o := range map[string]Options{
		"stored in f32 or bf16, not in f16": {Compute: device.BF16, Stored: device.F16},
		"in bf16 on reference, not in f32":  {Stored: device.BF16},
		"adapters correct matrices":         {Compute: device.BF16, Stored: device.BF16, LoRA: LoRA{Rank: 2, Alpha: 2, Targets: []string{"q_proj"}}},
	} {
		if _, err := New(on, tinyConfig(), o); err == nil || !contains(err, want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if held := on.Usage().Bytes; held != 0 {
		t.Errorf("%d bytes are held", held)
	}
	adapted := Options{Stored: device.BF16, LoRA: LoRA{Rank: 2, Alpha: 2, Targets: []string{"q_proj"}}}
	if _, err := New(cpu.New(), tinyConfig(), adapted); err == nil || !contains(err, "adapters correct matrices") {
		t.Errorf("on a processor: error %v", err)
	}
}

// TestStoredOnAProcessor compares a model whose matrices are stored in bf16, on a device that computes in float32 alone, with those
// on a device that has both: they are made of the same numbers, and others become such on their way in.
func TestStoredOnAProcessor(t *testing.T) {
	c, o := tinyConfig(), Options{Seed: 4, ValueHead: true, Stored: device.BF16}
	digest := func(m *Model) string {
		t.Helper()
		sum, err := m.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	made := func(on device.Device, o Options) *Model {
		t.Helper()
		m, err := New(on, c, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Free)
		return m
	}
	here, there := made(cpu.New(), o), made(devicetest.NewReference(), storedBF16(o))
	if here.Options().Stored != device.BF16 || digest(here) != digest(there) {
		t.Errorf("stored as %v, digests %s and %s", here.Options().Stored, digest(here), digest(there))
	}
	plain := made(cpu.New(), Options{Seed: 5, ValueHead: true})
	if err := here.CopyFrom(plain); err == nil || !contains(err, "rounded true") {
		t.Errorf("weights that are not of bf16 were copied: %v", err)
	}
	for _, m := range []*Model{here, there} {
		if err := m.ReplaceWeights(encoded(t, plain)); err != nil {
			t.Fatal(err)
		}
	}
	if err := plain.Round(device.BF16); err != nil {
		t.Fatal(err)
	}
	read, err := DecodeWeights(cpu.New(), c, o, encoded(t, plain))
	if err != nil {
		t.Fatal(err)
	}
	defer read.Free()
	for what, m := range map[string]*Model{"here": here, "there": there, "read": read} {
		if got, want := digest(m), digest(plain); got != want {
			t.Errorf("%s: digest %s, want %s", what, got, want)
		}
	}
	for _, p := range here.Parameters() {
		if p.Rounded != (len(p.Shape) > 1) {
			t.Errorf("%s of shape %v: rounded %t", p.Name, p.Shape, p.Rounded)
		}
	}
}

// TestNearestBF16IsThatOfUploads at ties, at the ends and where there is no number.
func TestNearestBF16IsThatOfUploads(t *testing.T) {
	on := cpu.New()
	b, err := on.Allocate(device.ForWeights, device.BF16, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, bits := range []uint32{0, 1 << 31, 0x3f800000, 0x3f808000, 0x3f818000, 0x3f808001, 0x3f817fff, 0xbf818000, 0x7f7fffff, 0xff7f8000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 1, 0x8000, 0x8001} {
		v, want := math.Float32frombits(bits), make([]float32, 1)
		on.Upload(b, []float32{v})
		if err := on.Download(want, b); err != nil {
			t.Fatal(err)
		}
		if got := nearestBF16(v); math.Float32bits(got) != math.Float32bits(want[0]) {
			t.Errorf("%#08x is rounded to %#08x, want %#08x", bits, math.Float32bits(got), math.Float32bits(want[0]))
		}
	}
}

// TestNoMemoryForStoredMatrices lets each allocation fail in turn, those of a step under a network too.
func TestNoMemoryForStoredMatrices(t *testing.T) {
	for fails := 0; ; fails++ {
		on := &exhausted{Reference: devicetest.NewReference(), left: fails}
		err := func() error {
			m, err := New(on, tinyConfig(), storedBF16(Options{ValueHead: true}))
			if err != nil {
				return err
			}
			defer m.Free()
			network, err := m.Share()
			if err != nil {
				return err
			}
			defer network.Free()
			return m.Detach()
		}()
		if held := on.Usage().Bytes; held != 0 {
			t.Fatalf("%d bytes are held after allocation %d failed: %v", held, fails, err)
		}
		if err == nil {
			return
		}
		if !contains(err, "reference has no") {
			t.Fatalf("allocation %d: error %v", fails, err)
		}
	}
}
