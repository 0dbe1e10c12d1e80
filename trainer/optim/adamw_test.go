package optim

import (
	"bytes"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func tensors(seed uint64) []Tensor {
	random := rand.New(rand.NewPCG(seed, 0))
	fill := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(random.NormFloat64())
		}
		return x
	}
	return []Tensor{
		{Name: "matrix", Decay: true, Data: fill(50000), Grad: fill(50000)},
		{Name: "norm", Data: fill(33), Grad: fill(33)},
		{Name: "empty", Decay: true},
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
		o := NewAdamW(c, all)
		type state struct{ w, m, v float64 }
		want := make([][]state, len(all))
		for i, tensor := range all {
			for _, w := range tensor.Data {
				want[i] = append(want[i], state{w: float64(w)})
			}
		}
		for n := 1; n <= 3; n++ {
			rate := 0.1 * float64(n)
			total := 0.0
			for _, tensor := range all {
				for j := range tensor.Grad {
					tensor.Grad[j] *= 1.5
					total += float64(tensor.Grad[j]) * float64(tensor.Grad[j])
				}
			}
			scale := 1.0
			if clip > 0 {
				scale = min(1, clip/math.Sqrt(total))
			}
			if norm := step(t, o, rate); math.Abs(norm/math.Sqrt(total)-1) > 1e-9 {
				t.Errorf("step %d: norm %v, want %v", n, norm, math.Sqrt(total))
			}
			for i, tensor := range all {
				for j := range tensor.Grad {
					g, s := float64(tensor.Grad[j])*scale, &want[i][j]
					s.m = c.Beta1*s.m + (1-c.Beta1)*g
					s.v = c.Beta2*s.v + (1-c.Beta2)*g*g
					if tensor.Decay {
						s.w -= rate * c.WeightDecay * s.w
					}
					s.w -= rate * s.m / (1 - math.Pow(c.Beta1, float64(n))) / (math.Sqrt(s.v/(1-math.Pow(c.Beta2, float64(n)))) + c.Epsilon)
					if got := float64(tensor.Data[j]); math.Abs(got-s.w) > 1e-5 {
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
		o := NewAdamW(DefaultConfig(), all)
		norm := step(t, o, 0.01)
		step(t, o, 0.01)
		runtime.GOMAXPROCS(before)
		weights := NewAdamW(DefaultConfig(), []Tensor{{Name: "w", Data: all[0].Data}})
		copy(weights.first[0], all[0].Data)
		weights.first[0][0] += float32(norm)
		digests[o.Digest()+weights.Digest()] = true
	}
	if len(digests) != 1 {
		t.Errorf("%d different results", len(digests))
	}
}

func TestStepRefusesWhatIsNotFinite(t *testing.T) {
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(-1))} {
		all := tensors(3)
		o := NewAdamW(DefaultConfig(), all)
		step(t, o, 0.1)
		weights, digest := slices.Clone(all[0].Data), o.Digest()
		all[1].Grad[7] = bad
		if _, err := o.Step(0.1); err == nil || !strings.Contains(err.Error(), "gradient of norm is not finite") {
			t.Errorf("%v: error %v", bad, err)
		}
		if !slices.Equal(weights, all[0].Data) || o.Digest() != digest || o.Steps() != 1 {
			t.Errorf("%v: something has changed", bad)
		}
		if _, err := o.Step(math.NaN()); err == nil {
			t.Error("learning rate NaN was accepted")
		}
	}
	huge := []Tensor{{Name: "huge", Data: make([]float32, 4), Grad: []float32{3e38, 3e38, 3e38, 3e38}}}
	o := NewAdamW(DefaultConfig(), huge)
	if norm := step(t, o, 0.1); math.Abs(norm/6e38-1) > 1e-6 {
		t.Errorf("norm %v, want 6e38", norm)
	}
}

func TestStateRoundTrip(t *testing.T) {
	all := tensors(4)
	o := NewAdamW(DefaultConfig(), all)
	fresh := o.Digest()
	step(t, o, 0.1)
	step(t, o, 0.1)
	var encoded bytes.Buffer
	if err := o.Encode(&encoded); err != nil {
		t.Fatal(err)
	}
	other := tensors(4)
	for i := range other {
		copy(other[i].Data, all[i].Data)
	}
	restored := NewAdamW(DefaultConfig(), other)
	if err := restored.Decode(encoded.Bytes()); err != nil {
		t.Fatal(err)
	}
	if restored.Digest() != o.Digest() || restored.Steps() != 2 {
		t.Errorf("restored state has digest %s after %d steps, want %s after 2", restored.Digest(), restored.Steps(), o.Digest())
	}
	step(t, o, 0.1)
	step(t, restored, 0.1)
	if !slices.Equal(all[0].Data, other[0].Data) {
		t.Error("the step after restoring differs")
	}
	o.Reset()
	if o.Digest() != fresh || o.Steps() != 0 {
		t.Errorf("after Reset: digest %s, want that of a new state %s", o.Digest(), fresh)
	}
}

func TestDecodeIsStrict(t *testing.T) {
	small := func() []Tensor {
		return []Tensor{{Name: "a", Data: make([]float32, 2), Grad: []float32{1, 2}}, {Name: "b", Data: make([]float32, 1), Grad: []float32{3}}}
	}
	o := NewAdamW(DefaultConfig(), small())
	step(t, o, 0.1)
	var encoded bytes.Buffer
	if err := o.Encode(&encoded); err != nil {
		t.Fatal(err)
	}
	good, digest := encoded.Bytes(), o.Digest()
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
		if o.Digest() != digest {
			t.Errorf("%s: the state has changed", want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	make1 := func() *AdamW {
		return NewAdamW(DefaultConfig(), []Tensor{{Name: "a", Data: make([]float32, 2), Grad: []float32{1, 2}}})
	}
	o := make1()
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
		o := make1()
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
	all := []Tensor{{Name: "w", Decay: true, Data: make([]float32, n), Grad: make([]float32, n)}}
	for i := range n {
		all[0].Grad[i] = 1
	}
	o := NewAdamW(DefaultConfig(), all)
	for b.Loop() {
		if _, err := o.Step(1e-3); err != nil {
			b.Fatal(err)
		}
	}
}
