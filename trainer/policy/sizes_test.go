package policy

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
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
		t.Run(name, func(t *testing.T) {
			dev := cpu.New()
			m, err := New(dev, tt.config, tt.options)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Free()
			sizes := SizesOf(tt.config, tt.options)
			got := Sizes{Parameters: m.weights.Len(), Trained: m.grads.Len(), Lanes: len(m.lanes), Matrices: matricesOf(m.net)}
			if m.net.head.adapted() {
				got.Joined = m.net.head.matrix.Len()
			}
			snapshot, err := m.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			defer snapshot.Free()
			got.Direct = snapshot.small.Len()

			packed := Packed{Tokens: []int32{1, 2, 3, 4, 5, 6, 7}, Offsets: []int32{0, 3, 7}}
			held := func(needs need) int {
				s := new(scratch)
				if err := s.allocate(dev, m.form, 1, needs); err != nil {
					t.Fatal(err)
				}
				defer dev.Free(s.memory)
				return s.memory.Len()
			}
			k := keepAll
			if tt.options.Recompute {
				k = keepInputs
			}
			if !tt.options.Frozen {
				ones := func(now Scores) (Scores, error) { return Scores{LogProbs: []float32{0, 1, 1, 0, 1, 1, 1}}, nil }
				if err := m.Accumulate(context.Background(), packed, 1, ones); err != nil {
					t.Fatal(err)
				}
				got.JoinedGradient = m.lanes[0].joined.Len()
				kept := 0
				for _, b := range m.batch.memory {
					kept += b.Len()
				}
				got.Kept = kept / len(packed.Tokens)
			} else {
				got.Kept = sizes.Kept // nothing is kept of a network that is not trained
			}
			if err := m.net.reach(dev, m.form.config, 5); err != nil {
				t.Fatal(err)
			}
			got.Position = (m.net.cos.Len() + m.net.sin.Len()) / m.net.positions
			got.TrainRow, got.ScoreRow = held(scratchNeeds(k)), held(scratchNeeds(keepNothing))
			got.BothRow, got.DecodeRow = held(scratchNeeds(k)|scratchNeeds(keepNothing)), held(needOnce|needStream)
			if diff := cmp.Diff(got, sizes); diff != "" {
				t.Errorf("-allocated +told:\n%s", diff)
			}
		})
	}
}

// matricesOf lists what a network's forms were made of, as they are refreshed.
func matricesOf(n *network) []MatrixSize {
	var all []MatrixSize
	size := func(w device.Weights) { all = append(all, MatrixSize{w.Out(), w.In()}) }
	for l := range n.layers {
		for which := range n.layers[l] {
			for _, w := range n.layers[l][which].weights() {
				size(w)
			}
		}
	}
	if n.head.adapted() {
		size(n.head.low)
	}
	size(n.head.form)
	if n.value != nil {
		size(n.value)
	}
	return all
}
