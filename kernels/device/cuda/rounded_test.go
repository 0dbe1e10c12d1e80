package cuda

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
)

// TestRoundedUpdatesAreThoseOfBF16 takes steps on the same numbers kept in BF16, and in float32 on this device and on a processor: all
// come to the same bits.
func TestRoundedUpdatesAreThoseOfBF16(t *testing.T) {
	const n, steps = 70_001, 4
	d := open(t, Options{Exact: true})
	random := rand.New(rand.NewPCG(51, 52))
	params, grads := make([]float32, n), make([]float32, n)
	for i := range params {
		params[i], grads[i] = device.StochasticBF16(float32(random.NormFloat64()), 0), float32(random.NormFloat64())/100
	}
	step := func(on device.Device, kept device.DType, rounded bool) []float32 {
		put := func(kind device.DType, values []float32) device.Buffer {
			b, err := on.Allocate(device.ForWeights, kind, n)
			must(t, err)
			on.Upload(b, values)
			return b
		}
		zero := make([]float32, n)
		one := device.Tensor{Param: put(kept, params), Grad: put(device.F32, grads), M: put(device.F32, zero), V: put(device.F32, zero), Decay: true, Rounded: rounded}
		none := device.Tensor{Param: one.Param.Slice(0, 0), Grad: one.Grad.Slice(0, 0), M: one.M.Slice(0, 0), V: one.V.Slice(0, 0)}
		list, err := on.NewTensors([]device.Tensor{none, one}) // its number is 1
		must(t, err)
		defer on.FreeTensors(list)
		for i := range uint32(steps) {
			_, err := on.Update(list, device.Update{LearningRate: 3e-3, Beta1: 0.9, Beta2: 0.95, Epsilon: 1e-8, WeightDecay: 0.1,
				BiasCorrection1: 0.19, BiasCorrection2: 0.0975, Seed: 0x9e3779b97f4a7c15, Step: i})
			must(t, err)
		}
		out := make([]float32, n)
		must(t, on.Download(out, one.Param))
		for _, b := range []device.Buffer{one.Param, one.Grad, one.M, one.V} {
			on.Free(b)
		}
		return out
	}
	want := step(d, device.BF16, false)
	if slices.Equal(want, params) {
		t.Fatal("steps change nothing")
	}
	for name, got := range map[string][]float32{
		"float32 on the GPU": step(d, device.F32, true), "float32 on the processor": step(cpu.New(), device.F32, true),
	} {
		differ := 0
		for i, v := range got {
			if v != want[i] {
				if differ == 0 {
					t.Errorf("%s: element %d is %v, want %v", name, i, v, want[i])
				}
				differ++
			}
		}
		if differ > 0 {
			t.Errorf("%s: %d of %d elements differ", name, differ, n)
		}
	}
}
