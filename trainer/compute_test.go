package trainer

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
	"github.com/turnwise-rl/turnwise/kernels/graph"
	"github.com/turnwise-rl/turnwise/trainer/optim"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// newReference returns a learner on a device that is exact in float32 and in bf16.
func newReference(t *testing.T, o policy.Options) *Learner {
	t.Helper()
	o.Seed = 7
	model, err := policy.New(devicetest.NewReference(), shape, o)
	if err != nil {
		t.Fatal(err)
	}
	optimizer, err := NewOptimizer(model, optim.DefaultConfig(), 7)
	if err != nil {
		t.Fatal(err)
	}
	return &Learner{Model: model, Optimizer: optimizer, Loss: graph.New[float32]()}
}

// TestOnPolicyIsExactInBF16 trains what the decoding engine sampled in bf16.
func TestOnPolicyIsExactInBF16(t *testing.T) {
	for name, o := range map[string]policy.Options{
		"all weights": {Compute: device.BF16}, "recomputed": {Compute: device.BF16, Recompute: true},
		"adapters": {Compute: device.BF16, LoRA: policy.LoRA{Rank: 2, Alpha: 3, Targets: []string{"q_proj", "down_proj", "lm_head"}}},
	} {
		l := newReference(t, o)
		u := usual
		u.Temperature, u.MicroBatchTokens = 0.6, 40
		batch := played(t, l, 6, 0.6)
		report := step(t, l, batch, u)
		if report.OnPolicyGap != 0 || report.RatioMean != 1 || report.ClipRatio != 0 || report.BehaviorKL != 0 {
			t.Errorf("%s: %+v; want gap 0, ratio 1, nothing clipped, no divergence", name, report)
		}
		again := newReference(t, o)
		step(t, again, batch, u)
		if digest(t, l.Model) != digest(t, again.Model) || state(t, l) != state(t, again) {
			t.Errorf("%s: the same update twice gives different bits", name)
		}
	}
}

// TestImitationInBF16 learns a few sequences by heart in both types, at a rate at which most updates are too
// small for bf16: float32 weights add them up.
func TestImitationInBF16(t *testing.T) {
	var first, last [2]Report
	for i, compute := range []device.DType{device.F32, device.BF16} {
		l := newReference(t, policy.Options{Compute: compute})
		batch := imitated(played(t, newReference(t, policy.Options{}), 3, 1))
		u := Update{Program: Imitation, LearningRate: 5e-4, Minibatches: 1, MicroBatchTokens: 50}
		first[i] = step(t, l, batch, u)
		for range 60 {
			last[i] = step(t, l, batch, u)
		}
	}
	if first[0].GradNorm == first[1].GradNorm || math.Abs(first[0].GradNorm/first[1].GradNorm-1) > 0.02 {
		t.Errorf("first gradients of norm %g in f32 and %g in bf16", first[0].GradNorm, first[1].GradNorm)
	}
	gained := [2]float64{first[0].Loss - last[0].Loss, first[1].Loss - last[1].Loss}
	if gained[0] < 0.1 || math.Abs(gained[1]/gained[0]-1) > 0.05 {
		t.Errorf("the loss fell by %g in f32 and by %g in bf16", gained[0], gained[1])
	}
	t.Logf("norms %g and %g, losses fell by %g and %g", first[0].GradNorm, first[1].GradNorm, gained[0], gained[1])
}
