package policy

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

// TestSizesAreWhatIsAllocated makes networks and lets them work, and compares what they hold.
func TestSizesAreWhatIsAllocated(t *testing.T) {
	small := Config{Layers: 2, Hidden: 24, Heads: 4, KVHeads: 2, HeadDim: 8, FFN: 40, RopeTheta: 1e4, NormEps: 1e-6, MaxPositions: 64, VocabSize: 50}
	family := func(f Family, edit func(*Config)) Config {
		c := small
		c.Family = f
		if edit != nil {
			edit(&c)
		}
		return c
	}
	every := LoRA{Rank: 3, Alpha: 6, Targets: loraTargets}
	for name, tt := range map[string]struct {
		config  Config
		options Options
	}{
		"qwen3":             {family(Qwen3, nil), Options{}},
		"qwen2 untied":      {family(Qwen2, func(c *Config) { c.UntiedHead = true }), Options{}},
		"llama with biases": {family(Llama, func(c *Config) { c.AttentionBias = true }), Options{Recompute: true}},
		"critic":            {family(Qwen3, nil), Options{ValueHead: true}},
		"adapters":          {family(Qwen3, nil), Options{LoRA: LoRA{Rank: 4, Alpha: 8, Targets: []string{"q_proj", "down_proj"}}}},
		"adapters, critic":  {family(Qwen2, func(c *Config) { c.UntiedHead = true }), Options{LoRA: every, ValueHead: true, Recompute: true}},
		"frozen":            {family(Qwen3, nil), Options{Frozen: true}},
	} {
		t.Run(name, func(t *testing.T) { compareSizes(t, cpu.New(), tt.config, tt.options) })
		t.Run(name+" in bf16", func(t *testing.T) {
			tt.options.Compute = device.BF16
			compareSizes(t, devicetest.NewReference(), tt.config, tt.options)
		})
	}
}

// compareSizes makes a network, lets it work, and compares what it holds with what is told.
func compareSizes(t *testing.T, dev device.Device, c Config, o Options) {
	m, err := New(dev, c, o)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	compute, sizes := m.Options().Compute, SizesOf(c, o, dev.KeptWidth(m.Options().Compute, c.Heads))
	got := Sizes{Parameters: m.weights.Len(), Trained: m.grads.Len(), Lanes: len(m.lanes), Matrices: matricesOf(m)}
	if m.net.head.adapted() {
		got.Joined = m.net.head.matrix.Len()
	}
	shared, err := m.Share()
	if err != nil {
		t.Fatal(err)
	}
	defer shared.Free()

	packed := Packed{Tokens: []int32{1, 2, 3, 4, 5, 6, 7}, Offsets: []int32{0, 3, 7}}
	bytes := map[string]int64{"direct": shared.moment.small.Bytes() + shared.moment.embed.Bytes()}
	if !o.Frozen {
		loss := func(now Scores) (Scores, error) {
			d := Scores{LogProbs: []float32{0, 1, 1, 0, 1, 1, 1}}
			if o.ValueHead {
				d.Values = d.LogProbs
			}
			return d, nil
		}
		if err := m.Accumulate(context.Background(), packed, 1, loss); err != nil {
			t.Fatal(err)
		}
		got.JoinedGradient = m.lanes[0].joined.Len()
		kept := int64(0)
		for _, b := range m.batch.memory {
			kept += b.bytes()
		}
		bytes["kept"] = kept / int64(len(packed.Tokens))
		bytes["value row"] = m.batch.liveValues.Bytes() / 5
	}
	if err := m.net.reach(dev, m.form.config, 5); err != nil {
		t.Fatal(err)
	}
	got.Position = (m.net.cos.Len() + m.net.sin.Len()) / m.net.positions
	want := map[string]int64{"direct": sizes.Direct.Bytes(compute)}
	if !o.Frozen { // nothing is kept of a network that is not trained
		want["kept"], want["value row"] = sizes.Kept.Bytes(compute), sizes.ValueRow.Bytes(compute)
	}
	k := keepAll
	if o.Recompute {
		k = keepInputs
	}
	for _, row := range []struct {
		name  string
		needs need
		told  Width
	}{
		{"training", scratchNeeds(k), sizes.TrainRow}, {"scoring", scratchNeeds(keepNothing), sizes.ScoreRow},
		{"both", scratchNeeds(k) | scratchNeeds(keepNothing), sizes.BothRow}, {"decoding", needOnce | needStream, sizes.DecodeRow},
	} {
		s := new(scratch)
		if err := s.allocate(dev, m.form, 1, row.needs); err != nil {
			t.Fatal(err)
		}
		bytes[row.name], want[row.name] = s.memory.bytes(), row.told.Bytes(compute)
		s.memory.free(dev)
	}
	if diff := cmp.Diff(bytes, want); diff != "" {
		t.Errorf("-allocated +told:\n%s", diff)
	}
	ignored := cmpopts.IgnoreTypes(Width{}) // compared above, in bytes
	if diff := cmp.Diff(got, sizes, ignored); diff != "" {
		t.Errorf("-allocated +told:\n%s", diff)
	}
}

// matricesOf lists what a model's forms were made of, in the order of the network.
func matricesOf(m *Model) []MatrixSize {
	var all []MatrixSize
	n := m.net
	size := func(w *device.Weights) {
		frozen := slices.ContainsFunc(m.forms.frozen.slots, func(s slot) bool { return s.form == w })
		all = append(all, MatrixSize{(*w).Out(), (*w).In(), frozen})
	}
	for l := range n.layers {
		for which := range n.layers[l] {
			layer := &n.layers[l][which]
			size(&layer.form)
			for i := range layer.adapters {
				size(&layer.adapters[i].a)
				size(&layer.adapters[i].b)
			}
		}
	}
	if n.head.adapted() {
		size(&n.head.low)
	}
	size(&n.head.form)
	if n.value != nil {
		size(&n.value)
	}
	return all
}
