package policy

import (
	"context"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func tinyConfig() Config {
	return Config{Layers: 2, Hidden: 24, Heads: 4, KVHeads: 2, HeadDim: 6, FFN: 20, RopeTheta: 100, NormEps: 1e-6, MaxPositions: 40, VocabSize: 37}
}

// dev is the device of the tests; reference is one that computes in bf16 too.
var (
	dev       = cpu.New()
	reference = devicetest.NewReference()
)

func values(t testing.TB, b device.Buffer) []float32 {
	t.Helper()
	out := make([]float32, b.Len())
	var on device.Device = dev
	if b.Memory() != nil && b.Memory().DeviceName() == reference.Name() {
		on = reference
	}
	if err := on.Download(out, b); err != nil {
		t.Fatal(err)
	}
	return out
}

// scaleMatrices multiplies every matrix but those of adapters.
func scaleMatrices(m *Model, factor float32) {
	for _, p := range m.Parameters() {
		if len(p.Shape) > 1 && !adapted(p.Name) {
			m.dev.Scale(p.Data, factor)
		}
	}
	m.Refresh()
}

func newModel(t testing.TB, c Config, seed uint64) *Model {
	t.Helper()
	return newModelWith(t, c, Options{Seed: seed})
}

// newModelWith makes a model on dev whose weights are sharpened, with nothing at zero.
func newModelWith(t testing.TB, c Config, o Options) *Model {
	t.Helper()
	m := newModelOn(t, dev, c, o)
	sharpen(m)
	return m
}

// newModelOn makes a model on a device, with nothing at zero.
func newModelOn(t testing.TB, d device.Device, c Config, o Options) *Model {
	t.Helper()
	m, err := New(d, c, o)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(o.Seed, 99))
	for _, p := range m.Parameters() {
		if strings.HasSuffix(p.Name, "bias") || strings.Contains(p.Name, "lora_B") || strings.HasPrefix(p.Name, "score") {
			x := make([]float32, p.Data.Len())
			for i := range x {
				x[i] = float32(random.NormFloat64()) / 4
			}
			d.Upload(p.Data, x)
		}
	}
	m.Refresh()
	return m
}

// sharpen makes the weights larger, so that attention and probabilities are far from uniform.
func sharpen(m *Model) {
	if m.form.config.headNorms() {
		scaleMatrices(m, 12)
	} else {
		scaleMatrices(m, 5) // nothing bounds queries and keys
	}
}

// randomPacked makes sequences of the given lengths.
func randomPacked(c Config, seed uint64, lengths ...int) Packed {
	random := rand.New(rand.NewPCG(seed, 1))
	p := Packed{Offsets: []int32{0}}
	for _, n := range lengths {
		for range n {
			p.Tokens = append(p.Tokens, int32(random.IntN(c.VocabSize)))
		}
		p.Offsets = append(p.Offsets, int32(len(p.Tokens)))
	}
	return p
}

func score(t testing.TB, m *Model, p Packed, temperature float32) (logProbs, entropies []float32) {
	t.Helper()
	s := scores(t, m, p, temperature)
	return s.LogProbs, s.Entropies
}

func scores(t testing.TB, m *Model, p Packed, temperature float32) Scores {
	t.Helper()
	s, err := m.Score(context.Background(), p, temperature)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func digest(t testing.TB, m *Model) string {
	t.Helper()
	d, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func equalBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: element %d is %v (%08x), want %v (%08x)", what, i, got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
		}
	}
}

func TestNewDependsOnSeedAlone(t *testing.T) {
	c := tinyConfig()
	a, _ := New(dev, c, Options{Seed: 1})
	b, _ := New(dev, c, Options{Seed: 1})
	other, _ := New(dev, c, Options{Seed: 2})
	if digest(t, a) != digest(t, b) {
		t.Errorf("equal seeds: digests %s and %s", digest(t, a), digest(t, b))
	}
	if digest(t, a) == digest(t, other) {
		t.Errorf("seeds 1 and 2 have the same digest %s", digest(t, a))
	}
	if err := other.CopyFrom(a); err != nil || digest(t, other) != digest(t, a) {
		t.Errorf("after CopyFrom: error %v, digest %s, want %s", err, digest(t, other), digest(t, a))
	}
	c.FFN++
	wider, _ := New(dev, c, Options{Seed: 1})
	if err := wider.CopyFrom(a); err == nil {
		t.Error("CopyFrom accepted another shape")
	}
}

func TestUndecidedAtFirst(t *testing.T) {
	// Random weights make logits of order one: no token is nearly sure or nearly ruled out, and the
	// entropy falls short of a uniform choice's by about half the logits' variance.
	c := tinyConfig()
	m, _ := New(dev, c, Options{Seed: 3})
	p := randomPacked(c, 5, 9, 1, 0, 4)
	logProbs, entropies := score(t, m, p, 1)
	want := math.Log(float64(c.VocabSize))
	first := map[int]bool{0: true, 9: true, 10: true}
	for i := range logProbs {
		if first[i] {
			if logProbs[i] != 0 || entropies[i] != 0 {
				t.Errorf("token %d begins a sequence: log-probability %v, entropy %v, want 0 and 0", i, logProbs[i], entropies[i])
			}
			continue
		}
		if math.Abs(float64(logProbs[i])+want) > 4 || float64(entropies[i]) > want || float64(entropies[i]) < want-1.5 {
			t.Errorf("token %d: log-probability %v, entropy %v; a uniform choice has ∓%v", i, logProbs[i], entropies[i], want)
		}
	}
}

func TestValidateNamesField(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"layers":        func(c *Config) { c.Layers = 0 },
		"heads":         func(c *Config) { c.Heads = 3 },
		"head_dim":      func(c *Config) { c.HeadDim = 5 },
		"rope_theta":    func(c *Config) { c.RopeTheta = math.NaN() },
		"norm_eps":      func(c *Config) { c.NormEps = 0 },
		"max_positions": func(c *Config) { c.MaxPositions = -1 },
		"vocab size":    func(c *Config) { c.VocabSize = 0 },
		"parameters":    func(c *Config) { c.Hidden, c.FFN = maxDimension, maxDimension },
	} {
		c := tinyConfig()
		change(&c)
		if _, err := New(dev, c, Options{Seed: 1}); err == nil || !contains(err, name) {
			t.Errorf("%s: error %v does not name it", name, err)
		}
	}
}

func TestPassRefusesBadBatches(t *testing.T) {
	c := tinyConfig()
	m := newModel(t, c, 1)
	long := randomPacked(c, 1, 3, c.MaxPositions+1)
	for name, tc := range map[string]struct {
		p           Packed
		temperature float32
		want        string
	}{
		"too long":    {long, 1, "sequence 1 has 41 tokens, the network reads at most 40"},
		"token":       {Packed{[]int32{1, 37}, []int32{0, 2}}, 1, "sequence 0: token 1 is 37, the vocabulary has 37"},
		"negative":    {Packed{[]int32{-1}, []int32{0, 1}}, 1, "token 0 is -1"},
		"offsets":     {Packed{[]int32{1, 2}, []int32{0, 1}}, 1, "offsets run from 0 to 1"},
		"order":       {Packed{[]int32{1, 2}, []int32{0, 3, 1, 2}}, 1, "sequence 0 runs from 0 to 3 of 2"},
		"none":        {Packed{[]int32{1, 2}, nil}, 1, "no offsets"},
		"temperature": {randomPacked(c, 1, 3), 0, "temperature is 0"},
	} {
		if _, err := m.Score(context.Background(), tc.p, tc.temperature); err == nil || !contains(err, tc.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.want)
		}
	}
	if s, err := m.Score(context.Background(), Packed{}, 1); err != nil || len(s.LogProbs)+len(s.Entropies) != 0 {
		t.Errorf("empty batch: %v %v, want nothing", s, err)
	}
}

// limited is a device with so many bytes.
func limited(bytes int64) *cpu.Device { return cpu.New(cpu.MaxBytes(bytes)) }
