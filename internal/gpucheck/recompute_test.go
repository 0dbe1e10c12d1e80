package gpucheck

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// gradients are those of a random network's parameters after one pass, and what stays of it on the device for each token.
func gradients(t *testing.T, d *cuda.Device, c policy.Config, o policy.Options, p policy.Packed) (all [][]float32, kept int64) {
	t.Helper()
	o.Seed = 3
	m := newModel(t, d, c, o)
	m.ZeroGrad()
	must(t, m.Accumulate(t.Context(), p, 1, func(now policy.Scores) (policy.Scores, error) {
		slopes := policy.Scores{LogProbs: make([]float32, len(now.LogProbs)), Entropies: make([]float32, len(now.LogProbs))}
		for i := range slopes.LogProbs {
			slopes.LogProbs[i], slopes.Entropies[i] = float32(i%5)-2, 0.1
		}
		return slopes, nil
	}))
	for _, q := range m.Parameters() {
		values := make([]float32, q.Grad.Len())
		must(t, d.Download(values, q.Grad))
		all = append(all, values)
	}
	return all, m.Memory().Activations / int64(len(p.Tokens))
}

// TestRecomputationHasTheSameGradients computes activations again, with what attention keeps for its gradient: the same
// calls on the same numbers. On a GPU cuBLASLt may choose other algorithms in the fast mode, since operands lie elsewhere.
func TestRecomputationHasTheSameGradients(t *testing.T) {
	c := small()
	p := packed(c, lengths()...)
	modes(t, func(t *testing.T, d *cuda.Device) {
		exact := !strings.HasSuffix(d.Name(), " fast")
		for _, lora := range []policy.LoRA{{}, {Rank: 4, Alpha: 8, Targets: []string{"q_proj", "v_proj", "down_proj"}}} {
			o := policy.Options{Compute: device.BF16, LoRA: lora}
			once, whole := gradients(t, d, c, o, p)
			o.Recompute = true
			again, inputs := gradients(t, d, c, o, p)
			t.Logf("rank %d: %d bytes of a token stay, %d where they are computed again", lora.Rank, whole, inputs)
			if want := int64(c.Layers+1) * int64(c.Hidden) * 2; inputs != want {
				t.Errorf("rank %d: %d bytes of a token stay, want the residual stream's %d", lora.Rank, inputs, want)
			}
			for i := range once {
				if slices.Equal(once[i], again[i]) {
					continue
				}
				off := distance(again[i], once[i])
				if what := fmt.Sprintf("rank %d: the gradient of parameter %d is off by %.3g of its size", lora.Rank, i, off); exact || emulated || !(off < 1.0/64) {
					t.Error(what)
				}
			}
		}
	})
}

// distance is the root of the sum of squared differences, as a share of that of the squares.
func distance(got, want []float32) float64 {
	var off, all float64
	for i := range got {
		d := float64(got[i]) - float64(want[i])
		off += d * d
		all += float64(want[i]) * float64(want[i])
	}
	return math.Sqrt(off / all)
}
