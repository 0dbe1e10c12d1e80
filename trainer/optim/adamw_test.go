package optim

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
)

var dev = cpu.New()

// buffer is a buffer with the values.
func buffer(values []float32) device.Buffer {
	b, err := dev.Allocate(device.ForWeights, device.F32, len(values))
	if err != nil {
		panic(err)
	}
	dev.Upload(b, values)
	return b
}

func values(t testing.TB, b device.Buffer) []float32 {
	t.Helper()
	out := make([]float32, b.Len())
	if err := dev.Download(out, b); err != nil {
		t.Fatal(err)
	}
	return out
}

func newAdamW(t testing.TB, c Config, tensors []Tensor) *AdamW {
	t.Helper()
	o, err := NewAdamW(dev, c, 1, tensors)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func digest(t testing.TB, o *AdamW) string {
	t.Helper()
	d, err := o.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func tensors(seed uint64) []Tensor {
	random := rand.New(rand.NewPCG(seed, 0))
	fill := func(n int) device.Buffer {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(random.NormFloat64())
		}
		return buffer(x)
	}
	return []Tensor{
		{Name: "matrix", Decay: true, Data: fill(50000), Grad: fill(50000)},
		{Name: "norm", Data: fill(33), Grad: fill(33)},
		{Name: "empty", Decay: true, Data: fill(0), Grad: fill(0)},
	}
}

func step(t *testing.T, o *AdamW, learningRate float64) float64 {
	t.Helper()
	norm, err := o.Step(learningRate)
	if err != nil {
		t.Fatal(err)
	}
	return norm
}

// TestStepEqualsEquation follows three steps of the published equations in float64.
func TestStepEqualsEquation(t *testing.T) {
	for _, clip := range []float64{0, 5} {
		c := Config{LearningRate: 1, Beta1: 0.8, Beta2: 0.9, Epsilon: 1e-6, WeightDecay: 0.3, ClipNorm: clip}
		all := tensors(1)
		o := newAdamW(t, c, all)
		type state struct{ w, m, v float64 }
		want := make([][]state, len(all))
		for i, tensor := range all {
			for _, w := range values(t, tensor.Data) {
				want[i] = append(want[i], state{w: float64(w)})
			}
		}
		for n := 1; n <= 3; n++ {
			rate := 0.1 * float64(n)
			total := 0.0
			grads := make([][]float32, len(all))
			for i, tensor := range all {
				grads[i] = values(t, tensor.Grad)
				for j := range grads[i] {
					grads[i][j] *= 1.5
					total += float64(grads[i][j]) * float64(grads[i][j])
				}
				dev.Upload(tensor.Grad, grads[i])
			}
			scale := 1.0
			if clip > 0 {
				scale = min(1, clip/math.Sqrt(total))
			}
			if norm := step(t, o, rate); math.Abs(norm/math.Sqrt(total)-1) > 1e-9 {
				t.Errorf("step %d: norm %v, want %v", n, norm, math.Sqrt(total))
			}
			for i, tensor := range all {
				weights := values(t, tensor.Data)
				for j := range weights {
					g, s := float64(grads[i][j])*scale, &want[i][j]
					s.m = c.Beta1*s.m + (1-c.Beta1)*g
					s.v = c.Beta2*s.v + (1-c.Beta2)*g*g
					if tensor.Decay {
						s.w -= rate * c.WeightDecay * s.w
					}
					s.w -= rate * s.m / (1 - math.Pow(c.Beta1, float64(n))) / (math.Sqrt(s.v/(1-math.Pow(c.Beta2, float64(n)))) + c.Epsilon)
					if got := float64(weights[j]); math.Abs(got-s.w) > 1e-5 {
						t.Fatalf("clip %v, step %d, %s[%d]: %v, want %v", clip, n, tensor.Name, j, got, s.w)
					}
				}
			}
		}
		if o.Steps() != 3 {
			t.Errorf("%d steps, want 3", o.Steps())
		}
	}
}

func TestStepDoesNotDependOnThreads(t *testing.T) {
	digests := map[string]bool{}
	for _, threads := range []int{1, 2, 5} {
		before := runtime.GOMAXPROCS(threads)
		all := tensors(2)
		o := newAdamW(t, DefaultConfig(), all)
		norm := step(t, o, 0.01)
		step(t, o, 0.01)
		runtime.GOMAXPROCS(before)
		digests[fmt.Sprint(digest(t, o), norm, values(t, all[0].Data))] = true
	}
	if len(digests) != 1 {
		t.Errorf("%d different results", len(digests))
	}
}

func TestStepRefusesWhatIsNotFinite(t *testing.T) {
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(-1))} {
		all := tensors(3)
		o := newAdamW(t, DefaultConfig(), all)
		step(t, o, 0.1)
		weights, before := values(t, all[0].Data), digest(t, o)
		dev.Upload(all[1].Grad.Slice(7, 8), []float32{bad})
		want := fmt.Sprintf("gradient of norm is not finite: element 7 is %v: lower the learning rate", bad)
		if _, err := o.Step(0.1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v", bad, err)
		}
		if !slices.Equal(weights, values(t, all[0].Data)) || digest(t, o) != before || o.Steps() != 1 {
			t.Errorf("%v: something has changed", bad)
		}
		if _, err := o.Step(math.NaN()); err == nil {
			t.Error("learning rate NaN was accepted")
		}
	}
	huge := []Tensor{{Name: "huge", Data: buffer(make([]float32, 4)), Grad: buffer([]float32{3e38, 3e38, 3e38, 3e38})}}
	o := newAdamW(t, DefaultConfig(), huge)
	if norm := step(t, o, 0.1); math.Abs(norm/6e38-1) > 1e-6 {
		t.Errorf("norm %v, want 6e38", norm)
	}
}

func TestStateRoundTrip(t *testing.T) {
	all := tensors(4)
	o := newAdamW(t, DefaultConfig(), all)
	fresh := digest(t, o)
	step(t, o, 0.1)
	step(t, o, 0.1)
	var encoded bytes.Buffer
	if err := o.Encode(&encoded); err != nil {
		t.Fatal(err)
	}
	other := tensors(4)
	for i := range other {
		dev.Copy(other[i].Data, all[i].Data)
	}
	restored := newAdamW(t, DefaultConfig(), other)
	if err := restored.Decode(encoded.Bytes()); err != nil {
		t.Fatal(err)
	}
	if digest(t, restored) != digest(t, o) || restored.Steps() != 2 {
		t.Errorf("restored state has digest %s after %d steps, want %s after 2", digest(t, restored), restored.Steps(), digest(t, o))
	}
	step(t, o, 0.1)
	step(t, restored, 0.1)
	if !slices.Equal(values(t, all[0].Data), values(t, other[0].Data)) {
		t.Error("the step after restoring differs")
	}
	o.Reset()
	if digest(t, o) != fresh || o.Steps() != 0 {
		t.Errorf("after Reset: digest %s, want that of a new state %s", digest(t, o), fresh)
	}
}

func TestDecodeIsStrict(t *testing.T) {
	small := func() []Tensor {
		return []Tensor{{Name: "a", Data: buffer(make([]float32, 2)), Grad: buffer([]float32{1, 2})}, {Name: "b", Data: buffer(make([]float32, 1)), Grad: buffer([]float32{3})}}
	}
	o := newAdamW(t, DefaultConfig(), small())
	step(t, o, 0.1)
	var encoded bytes.Buffer
	if err := o.Encode(&encoded); err != nil {
		t.Fatal(err)
	}
	good, before := encoded.Bytes(), digest(t, o)
	changed := func(at int, v byte) []byte {
		data := slices.Clone(good)
		data[at] = v
		return data
	}
	header := len(magic)
	for want, data := range map[string][]byte{
		"expected \"turnwise":        changed(0, 'x'),
		"steps is out of range":      changed(header+7, 1),
		"3 tensors, expected 2":      changed(header+8, 3),
		"name has 9 bytes":           changed(header+16, 9),
		"it is \"z\"":                changed(header+24, 'z'),
		"a has 7 elements":           changed(header+25, 7),
		"moment is":                  append(slices.Clone(good[:header+33]), append([]byte{0, 0, 0xc0, 0x7f}, good[header+37:]...)...),
		"second moment is":           changed(header+33+8+3, 0xbf),
		"bytes after the last":       append(slices.Clone(good), 0),
		"truncated":                  good[:len(good)-1],
		"starts with \"\", expected": nil,
	} {
		if err := o.Decode(data); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
		if digest(t, o) != before {
			t.Errorf("%s: the state has changed", want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	make1 := func(t testing.TB) *AdamW {
		return newAdamW(t, DefaultConfig(), []Tensor{{Name: "a", Data: buffer(make([]float32, 2)), Grad: buffer([]float32{1, 2})}})
	}
	o := make1(f)
	if _, err := o.Step(0.1); err != nil {
		f.Fatal(err)
	}
	var encoded bytes.Buffer
	if err := o.Encode(&encoded); err != nil {
		f.Fatal(err)
	}
	f.Add(encoded.Bytes())
	f.Add(encoded.Bytes()[:20])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		o := make1(t)
		if o.Decode(data) != nil {
			return
		}
		var again bytes.Buffer
		if err := o.Encode(&again); err != nil || !bytes.Equal(again.Bytes(), data) {
			t.Errorf("accepted %x, encodes to %x (%v)", data, again.Bytes(), err)
		}
	})
}

func TestValidateNamesEveryField(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("default: %v", err)
	}
	nan := math.NaN()
	err := Config{LearningRate: 0, Beta1: 1, Beta2: -0.1, Epsilon: nan, WeightDecay: math.Inf(1), ClipNorm: -1}.Validate()
	for _, name := range []string{"learning_rate is 0, must be in (0", "beta1 is 1, must be in [0, 1)", "beta2", "epsilon is NaN", "weight_decay", "clip_norm"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want one with %q", err, name)
		}
	}
}

func BenchmarkStep(b *testing.B) {
	n := 850000
	ones := make([]float32, n)
	for i := range ones {
		ones[i] = 1
	}
	o := newAdamW(b, DefaultConfig(), []Tensor{{Name: "w", Decay: true, Data: buffer(make([]float32, n)), Grad: buffer(ones)}})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := o.Step(1e-3); err != nil {
			b.Fatal(err)
		}
	}
}
