package policy

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func tinyConfig() Config {
	return Config{Layers: 2, Hidden: 24, Heads: 4, KVHeads: 2, HeadDim: 6, FFN: 20, RopeTheta: 100, NormEps: 1e-6, MaxPositions: 40, VocabSize: 37}
}

func newModel(t testing.TB, c Config, seed uint64) *Model {
	t.Helper()
	m, err := New(c, seed)
	if err != nil {
		t.Fatal(err)
	}
	// Larger weights than training starts with, so that attention and probabilities are far from uniform.
	for _, p := range m.Parameters() {
		if len(p.Shape) > 1 {
			for i := range p.Data {
				p.Data[i] *= 12
			}
		}
	}
	return m
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
	logProbs, entropies, err := m.Score(context.Background(), p, temperature)
	if err != nil {
		t.Fatal(err)
	}
	return logProbs, entropies
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
	a, _ := New(c, 1)
	b, _ := New(c, 1)
	other, _ := New(c, 2)
	if a.Digest() != b.Digest() {
		t.Errorf("equal seeds: digests %s and %s", a.Digest(), b.Digest())
	}
	if a.Digest() == other.Digest() {
		t.Errorf("seeds 1 and 2 have the same digest %s", a.Digest())
	}
	if err := other.CopyFrom(a); err != nil || other.Digest() != a.Digest() {
		t.Errorf("after CopyFrom: error %v, digest %s, want %s", err, other.Digest(), a.Digest())
	}
	c.FFN++
	wider, _ := New(c, 1)
	if err := wider.CopyFrom(a); err == nil {
		t.Error("CopyFrom accepted another shape")
	}
}

func TestUndecidedAtFirst(t *testing.T) {
	// Random weights make logits of order one: no token is nearly sure or nearly ruled out, and the
	// entropy falls short of a uniform choice's by about half the logits' variance.
	c := tinyConfig()
	m, _ := New(c, 3)
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
		if _, err := New(c, 1); err == nil || !contains(err, name) {
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
		if _, _, err := m.Score(context.Background(), tc.p, tc.temperature); err == nil || !contains(err, tc.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.want)
		}
	}
	if l, e, err := m.Score(context.Background(), Packed{}, 1); err != nil || len(l)+len(e) != 0 {
		t.Errorf("empty batch: %v %v %v, want nothing", l, e, err)
	}
}
