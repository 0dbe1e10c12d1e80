package trainer

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
	"github.com/turnwise-rl/turnwise/kernels/graph"
	"github.com/turnwise-rl/turnwise/trainer/optim"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// TestPassesSeeEveryUpdate wants passes after an optimizer's step to read the new weights, whatever the step leaves to the
// model: making all forms again changes nothing, while the step has changed something, with a network that goes on reading the old.
func TestPassesSeeEveryUpdate(t *testing.T) {
	untied := shape
	untied.UntiedHead = true
	for name, tc := range map[string]struct {
		shape   policy.Config
		options policy.Options
	}{
		"all weights":     {shape, policy.Options{}},
		"untied head":     {untied, policy.Options{ValueHead: true}},
		"stored in bf16":  {untied, policy.Options{Stored: device.BF16, ValueHead: true}},
		"adapters":        {shape, policy.Options{LoRA: policy.LoRA{Rank: 2, Alpha: 3, Targets: []string{"q_proj", "v_proj", "down_proj"}}}},
		"adapter of head": {shape, policy.Options{ValueHead: true, LoRA: policy.LoRA{Rank: 3, Alpha: 3, Targets: []string{"o_proj", "lm_head"}}}},
	} {
		for _, compute := range []device.DType{device.F32, device.BF16} {
			for _, dev := range []device.Device{cpu.New(), devicetest.NewReference()} {
				if !dev.Supports(compute) || tc.options.Stored == device.BF16 && compute != device.BF16 && dev.Supports(device.BF16) {
					continue
				}
				t.Run(name+" in "+compute.String()+" on "+dev.Name(), func(t *testing.T) {
					o := tc.options
					o.Seed, o.Compute = 7, compute
					model, err := policy.New(dev, tc.shape, o)
					if err != nil {
						t.Fatal(err)
					}
					optimizer, err := NewOptimizer(model, optim.DefaultConfig(), 7)
					if err != nil {
						t.Fatal(err)
					}
					l := &Learner{Model: model, Optimizer: optimizer, Loss: graph.New[float32]()}
					batch := imitated(played(t, l, 3, 1))
					packed := policy.Packed{Tokens: slices.Clone(batch[0].Tokens), Offsets: []int32{0, int32(len(batch[0].Tokens))}}
					score := func() []float32 {
						scores, err := model.Score(t.Context(), packed, 1)
						if err != nil {
							t.Fatal(err)
						}
						return slices.Concat(scores.LogProbs, scores.Entropies, scores.Values)
					}
					for range 2 { // into other forms where a network holds these
						before := score()
						held, err := model.Share()
						if err != nil {
							t.Fatal(err)
						}
						step(t, l, batch, Update{Program: Imitation, LearningRate: 1e-2, Minibatches: 1, MicroBatchTokens: 50})
						after := score()
						if slices.Equal(before, after) {
							t.Error("the step has changed nothing")
						}
						if err := model.Refresh(); err != nil {
							t.Fatal(err)
						}
						if !slices.Equal(score(), after) {
							t.Error("passes read what the step has not brought up to date")
						}
						held.Free()
						if tc.options.Stored == device.BF16 {
							checkNumbersOfBF16(t, model)
						}
					}
				})
			}
		}
	}
}

// checkNumbersOfBF16 wants every matrix to have numbers of BF16 alone, whatever it is kept as.
func checkNumbersOfBF16(t *testing.T, m *policy.Model) {
	t.Helper()
	for _, p := range m.Parameters() {
		if len(p.Shape) == 1 {
			continue
		}
		values := make([]float32, p.Data.Len())
		if err := m.Device().Download(values, p.Data); err != nil {
			t.Fatal(err)
		}
		for i, v := range values {
			if math.Float32bits(v)&0xffff != 0 {
				t.Fatalf("element %d of %s is %v, which bf16 does not have", i, p.Name, v)
			}
		}
	}
}

// TestImitationStoredInBF16 learns a few sequences by heart with weights of bf16 alone, at a rate at which most updates are too
// small for them: rounded stochastically, they add up as they do in float32.
func TestImitationStoredInBF16(t *testing.T) {
	var gained [2]float64
	for i, stored := range []device.DType{device.F32, device.BF16} {
		l := newReference(t, policy.Options{Compute: device.BF16, Stored: stored})
		batch := imitated(played(t, newReference(t, policy.Options{}), 3, 1))
		u := Update{Program: Imitation, LearningRate: 5e-4, Minibatches: 1, MicroBatchTokens: 50}
		first := step(t, l, batch, u)
		var last Report
		for range 60 {
			last = step(t, l, batch, u)
		}
		gained[i] = first.Loss - last.Loss
	}
	if gained[0] < 0.1 || math.Abs(gained[1]/gained[0]-1) > 0.05 {
		t.Errorf("the loss fell by %g with float32 masters and by %g without", gained[0], gained[1])
	}
	t.Logf("the loss fell by %g and %g", gained[0], gained[1])
}

// narrowly is a device that has no memory for weights while it is full.
type narrowly struct {
	*devicetest.Reference
	full bool
}

func (d *narrowly) refuse(p device.Purpose) error {
	if d.full && p == device.ForWeights {
		return &device.OutOfMemory{Device: d.Name(), Wanted: 1, For: p}
	}
	return nil
}

func (d *narrowly) Allocate(p device.Purpose, t device.DType, n int) (device.Buffer, error) {
	if err := d.refuse(p); err != nil {
		return device.Buffer{}, err
	}
	return d.Reference.Allocate(p, t, n)
}

func (d *narrowly) NewWeights(w device.Buffer, t device.DType, out, in int, use device.Use) (device.Weights, error) {
	if err := d.refuse(device.ForWeights); err != nil {
		return nil, err
	}
	return d.Reference.NewWeights(w, t, out, in, use)
}

// TestStepsAreRelieved steps on a device without memory for other forms: that is an error, unless what holds the model's is
// given back, and then the weights are those of a device with enough.
func TestStepsAreRelieved(t *testing.T) {
	for _, stored := range []device.DType{device.F32, device.BF16} {
		o := policy.Options{Seed: 7, Compute: device.BF16, Stored: stored}
		batch := imitated(played(t, newReference(t, o), 3, 1))
		u := Update{Program: Imitation, LearningRate: 1e-2, Minibatches: 1, MicroBatchTokens: 50}
		want := newReference(t, o)
		step(t, want, batch, u)
		on := &narrowly{Reference: devicetest.NewReference()}
		model, err := policy.New(on, shape, o)
		if err != nil {
			t.Fatal(err)
		}
		optimizer, err := NewOptimizer(model, optim.DefaultConfig(), 7)
		if err != nil {
			t.Fatal(err)
		}
		l := &Learner{Model: model, Optimizer: optimizer, Loss: graph.New[float32]()}
		held, err := model.Share()
		if err != nil {
			t.Fatal(err)
		}
		on.full = true
		var full *device.OutOfMemory
		if _, err := l.Step(t.Context(), batch, u); !errors.As(err, &full) {
			t.Errorf("stored in %s: error %v", stored, err)
		}
		relieved := 0
		l.Relieve = func() { relieved++ }
		if _, err := l.Step(t.Context(), batch, u); !errors.As(err, &full) || relieved != 1 {
			t.Errorf("stored in %s: error %v after %d reliefs that give nothing", stored, err, relieved)
		}
		l.Relieve = held.Free
		step(t, l, batch, u)
		got, err := model.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if digest, err := want.Model.Digest(); err != nil || got != digest {
			t.Errorf("stored in %s: digest %s, want %s, %v", stored, got, digest, err)
		}
	}
}
