package optim

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

// narrow is an optimizer of n weights of 1 that are kept in BF16, with gradients of 1.
type narrow struct {
	*AdamW
	dev  device.Device
	data device.Buffer
}

func newNarrow(t *testing.T, n int, seed uint64) narrow {
	t.Helper()
	dev := devicetest.NewReference()
	ones := make([]float32, n)
	for i := range ones {
		ones[i] = 1
	}
	put := func(d device.DType) device.Buffer {
		b, err := dev.Allocate(device.ForWeights, d, n)
		if err != nil {
			t.Fatal(err)
		}
		dev.Upload(b, ones)
		return b
	}
	data := put(device.BF16)
	o, err := NewAdamW(dev, Config{LearningRate: 1, Beta1: 0.9, Beta2: 0.95, Epsilon: 1e-8}, seed, []Tensor{{Name: "w", Data: data, Grad: put(device.F32)}})
	if err != nil {
		t.Fatal(err)
	}
	return narrow{o, dev, data}
}

func (o narrow) steps(t *testing.T, steps int, learningRate float64) []float32 {
	t.Helper()
	for range steps {
		if _, err := o.Step(learningRate); err != nil {
			t.Fatal(err)
		}
	}
	out := make([]float32, o.data.Len())
	if err := o.dev.Download(out, o.data); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSmallStepsAddUpInBF16 takes steps of a fortieth of the distance between neighbors in BF16. Rounded to nearest each is
// lost, and the weights stay where they are for ever; rounded stochastically they arrive in the mean.
func TestSmallStepsAddUpInBF16(t *testing.T) {
	const n, steps, rate = 4096, 100, 1e-4
	o := newNarrow(t, n, 1)
	nearest := newNarrow(t, n, 1)
	master, err := nearest.dev.Allocate(device.ForWeights, device.F32, n)
	if err != nil {
		t.Fatal(err)
	}
	nearest.dev.Copy(master, nearest.data)
	lost, err := NewAdamW(nearest.dev, nearest.config, 1, []Tensor{{Name: "w", Data: master, Grad: nearest.tensors[0].Grad}})
	if err != nil {
		t.Fatal(err)
	}
	for range steps {
		if _, err := lost.Step(rate); err != nil {
			t.Fatal(err)
		}
		nearest.dev.Copy(nearest.data, master) // to nearest
		nearest.dev.Copy(master, nearest.data)
	}
	for i, w := range values32(t, nearest) {
		if w != 1 {
			t.Fatalf("rounded to nearest, weight %d has moved to %v", i, w)
		}
	}
	mean, square := 0.0, 0.0
	for _, w := range o.steps(t, steps, rate) {
		mean += float64(w) / n
		square += float64(w) * float64(w) / n
	}
	// Constant gradients make every step one of the learning rate. A weight's walk has a variance of at most a quarter of the
	// squared distance between neighbors for each step.
	want, neighbors := 1-steps*rate, 1.0/256
	if bound := 5 * neighbors / 2 * math.Sqrt(steps) / math.Sqrt(n); math.Abs(mean-want) > bound {
		t.Errorf("the mean is %v after %d steps of %v, want %v ± %v", mean, steps, rate, want, bound)
	}
	if deviation := math.Sqrt(square - mean*mean); deviation > neighbors/2*math.Sqrt(steps) || deviation == 0 {
		t.Errorf("the deviation is %v", deviation)
	}
}

func values32(t *testing.T, o narrow) []float32 { t.Helper(); return o.steps(t, 0, 0) }

// TestBF16Replays wants the same bits of the same seed, also after the state has been written and read, and others of another.
func TestBF16Replays(t *testing.T) {
	const n, rate = 300, 1e-3
	first := newNarrow(t, n, 5)
	want := first.steps(t, 6, rate)
	if again := newNarrow(t, n, 5).steps(t, 6, rate); !slices.Equal(again, want) {
		t.Error("the same steps give other weights")
	}
	if other := newNarrow(t, n, 6).steps(t, 6, rate); slices.Equal(other, want) {
		t.Error("another seed gives the same weights")
	}
	half := newNarrow(t, n, 5)
	weights := half.steps(t, 3, rate)
	var state bytes.Buffer
	if err := half.Encode(&state); err != nil {
		t.Fatal(err)
	}
	rest := newNarrow(t, n, 5)
	rest.dev.Upload(rest.data, weights)
	if err := rest.Decode(state.Bytes()); err != nil {
		t.Fatal(err)
	}
	if got := rest.steps(t, 3, rate); !slices.Equal(got, want) {
		t.Error("the steps after restoring differ")
	}
}

// watched counts what the host waits for.
type watched struct {
	*devicetest.Reference
	waits []string
}

func (w *watched) Sync() error { w.waits = append(w.waits, "Sync"); return w.Reference.Sync() }

func (w *watched) Download(dst []float32, src device.Buffer) error {
	w.waits = append(w.waits, "Download")
	return w.Reference.Download(dst, src)
}

func (w *watched) SquaredNorm(b device.Buffer) (float64, error) {
	w.waits = append(w.waits, "SquaredNorm")
	return w.Reference.SquaredNorm(b)
}

func (w *watched) Update(t device.Tensors, u device.Update) (device.Updated, error) {
	w.waits = append(w.waits, "Update")
	return w.Reference.Update(t, u)
}

// TestHostWaitsOnceAStep whatever the number of tensors.
func TestHostWaitsOnceAStep(t *testing.T) {
	w := &watched{Reference: devicetest.NewReference()}
	var all []Tensor
	for _, name := range []string{"a", "b", "c"} {
		data, _ := w.Allocate(device.ForWeights, device.F32, 5)
		grad, _ := w.Allocate(device.ForGradients, device.F32, 5)
		all = append(all, Tensor{Name: name, Data: data, Grad: grad})
	}
	o, err := NewAdamW(w, DefaultConfig(), 1, all)
	if err != nil {
		t.Fatal(err)
	}
	w.waits = nil
	step(t, o, 0.1)
	if want := []string{"Update"}; !slices.Equal(w.waits, want) {
		t.Errorf("the host waits for %v, want %v", w.waits, want)
	}
}

// TestStepsAfterAResetRoundOtherwise counts steps from the beginning again and wants other random numbers with another seed, and
// the same ones with the same.
func TestStepsAfterAResetRoundOtherwise(t *testing.T) {
	const n, rate = 4096, 1e-3
	first := newNarrow(t, n, 1).steps(t, 1, rate)
	for seed, same := range map[uint64]bool{1: true, 2: false} {
		o := newNarrow(t, n, 1)
		o.steps(t, 3, rate)
		o.Reset()
		ones := make([]float32, n)
		for i := range ones {
			ones[i] = 1
		}
		o.dev.Upload(o.data, ones)
		o.Reseed(seed)
		if got := slices.Equal(o.steps(t, 1, rate), first); got != same {
			t.Errorf("seed %d rounds the first step as seed 1 does: %t, want %t", seed, got, same)
		}
	}
}
