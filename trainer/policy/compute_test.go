package policy

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
	"github.com/turnwise-rl/turnwise/trainer/weights"
)

// inBF16 are the options with bf16 as the compute type.
func inBF16(o Options) Options {
	o.Compute = device.BF16
	return o
}

// How far numbers computed in bf16 are from those in float32, for the variants' networks before they are
// sharpened: log-probabilities, entropies and values in nats or as they are, the gradient of each tensor as a
// share of the whole gradient's norm. bf16 has eight significant digits, so each of the some twenty roundings
// between a token and its score is off by up to 1/512 of numbers around one.
const (
	scoreTolerance    = 0.12
	gradientTolerance = 0.015
)

// TestBF16IsNearFloat32 computes scores and gradients of the same weights in both types.
func TestBF16IsNearFloat32(t *testing.T) {
	for name, v := range variants() {
		t.Run(name, func(t *testing.T) {
			v.options.Seed = 91
			narrow, wide := newModelOn(t, reference, v.config, inBF16(v.options)), newModelOn(t, dev, v.config, v.options)
			p := randomPacked(v.config, 92, 14, 1, 5, 30)
			got, want := scores(t, narrow, p, 0.8), scores(t, wide, p, 0.8)
			differ := worst(got.LogProbs, want.LogProbs)
			t.Logf("log-probabilities differ by up to %.3g, entropies %.3g, values %.3g", differ, worst(got.Entropies, want.Entropies), worst(got.Values, want.Values))
			if differ == 0 || max(differ, worst(got.Entropies, want.Entropies), worst(got.Values, want.Values)) > scoreTolerance {
				t.Errorf("scores differ by nothing or by more than %v", scoreTolerance)
			}
			d := derivatives(v, len(p.Tokens))
			for _, m := range []*Model{narrow, wide} {
				if err := m.Accumulate(context.Background(), p, 0.8, func(Scores) (Scores, error) { return d, nil }); err != nil {
					t.Fatal(err)
				}
			}
			norm, largest := distance(values(t, wide.grads), nil), 0.0
			for i, q := range narrow.Parameters() {
				if q.Grad.Absent() {
					continue
				}
				if q.Grad.DType() != device.F32 || q.Data.DType() != device.F32 {
					t.Fatalf("%s is %v with a gradient of %v, want both in f32", q.Name, q.Data.DType(), q.Grad.DType())
				}
				off := distance(values(t, q.Grad), values(t, wide.Parameters()[i].Grad)) / norm
				largest = max(largest, off)
				if off > gradientTolerance {
					t.Errorf("%s: the gradient is off by %.3g of the whole's norm", q.Name, off)
				}
			}
			t.Logf("gradients differ by up to %.3g of the norm", largest)
			if largest == 0 {
				t.Error("gradients do not differ: nothing was computed in bf16")
			}
		})
	}
}

// derivatives are those of a loss that reads all scores a variant has.
func derivatives(v variant, tokens int) Scores {
	random := rand.New(rand.NewPCG(93, 0))
	d := Scores{LogProbs: make([]float32, tokens), Entropies: make([]float32, tokens)}
	if v.options.ValueHead {
		d.Values = make([]float32, tokens)
	}
	for i := range tokens {
		d.LogProbs[i], d.Entropies[i] = float32(random.NormFloat64()), float32(random.NormFloat64())
		if d.Values != nil {
			d.Values[i] = float32(random.NormFloat64())
		}
	}
	return d
}

// worst is the largest difference.
func worst(a, b []float32) float64 {
	most := 0.0
	for i := range a {
		most = max(most, math.Abs(float64(a[i])-float64(b[i])))
	}
	return most
}

// distance is ‖a−b‖; nil is zero.
func distance(a, b []float32) float64 {
	sum := 0.0
	for i, v := range a {
		if b != nil {
			v -= b[i]
		}
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum)
}

// TestExtendHasTheBitsOfScoreInBF16 decodes on a device that is exact in bf16.
func TestExtendHasTheBitsOfScoreInBF16(t *testing.T) {
	for name, v := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v.options.Seed = 71
			m := newModelOn(t, reference, v.config, inBF16(v.options))
			sharpen(m)
			checkDecoding(t, m, 6)
		})
	}
}

// TestTrainingBitsAreFixedInBF16 computes gradients with activations kept and computed again, and on one
// core and several. With -short one variant that has nearly everything stands for all.
func TestTrainingBitsAreFixedInBF16(t *testing.T) {
	all := variants()
	if testing.Short() {
		all = map[string]variant{"adapters": all["adapters"]}
	}
	for name, v := range all {
		t.Run(name, func(t *testing.T) {
			v.options.Seed = 7
			p := randomPacked(v.config, 13, 30, 1, 17, 40, 8, 25, 39, 2)
			d := derivatives(v, len(p.Tokens))
			var want []float32
			for _, recompute := range []bool{false, true} {
				v.options.Recompute = recompute
				m := newModelOn(t, reference, v.config, inBF16(v.options))
				for _, threads := range []int{1, 4} {
					before := runtime.GOMAXPROCS(threads)
					m.ZeroGrad()
					var seen Scores
					err := m.Accumulate(context.Background(), p, 1, func(now Scores) (Scores, error) {
						seen.LogProbs = append(seen.LogProbs, now.LogProbs...)
						return d, nil
					})
					runtime.GOMAXPROCS(before)
					if err != nil {
						t.Fatal(err)
					}
					equalBits(t, "log-probabilities the loss sees", seen.LogProbs, scores(t, m, p, 1).LogProbs)
					if want == nil {
						want = values(t, m.grads)
					}
					equalBits(t, "gradient", values(t, m.grads), want)
				}
				m.Free()
			}
		})
	}
}

// TestFilesDoNotDependOnTheComputeType saves and loads in either.
func TestFilesDoNotDependOnTheComputeType(t *testing.T) {
	for name, v := range variants() {
		t.Run(name, func(t *testing.T) {
			v.options.Seed = 5
			narrow, wide := newModelOn(t, reference, v.config, inBF16(v.options)), newModelOn(t, reference, v.config, v.options)
			data := encoded(t, narrow)
			if !bytes.Equal(data, encoded(t, wide)) || digest(t, narrow) != digest(t, wide) {
				t.Error("encoded weights or their digest depend on the compute type")
			}
			dirs := [2]string{t.TempDir(), t.TempDir()}
			for i, m := range []*Model{narrow, wide} {
				if err := m.SaveFolder(dirs[i], weights.Options{}); err != nil {
					t.Fatal(err)
				}
			}
			for _, file := range []string{"config.json", "model.safetensors"} {
				if !bytes.Equal(content(t, dirs[0], file), content(t, dirs[1], file)) {
					t.Errorf("%s depends on the compute type", file)
				}
			}
			again, err := DecodeWeights(reference, v.config, inBF16(v.options), data)
			if err != nil {
				t.Fatal(err)
			}
			p := randomPacked(v.config, 6, 9, 20)
			equalBits(t, "scores of what was decoded", scores(t, again, p, 1).LogProbs, scores(t, narrow, p, 1).LogProbs)
			if err := again.CopyFrom(newModelOn(t, reference, v.config, Options{Seed: 6, ValueHead: v.options.ValueHead, LoRA: v.options.LoRA})); err != nil {
				t.Fatal(err)
			}
			if err := again.ReplaceWeights(data); err != nil {
				t.Fatal(err)
			}
			equalBits(t, "scores of what was replaced", scores(t, again, p, 1).LogProbs, scores(t, narrow, p, 1).LogProbs)
		})
	}
}

func content(t *testing.T, dir, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestRefreshReadsFloat32Weights changes weights by less than bf16 can tell, many times over: they are kept in
// float32, and their forms are made from that.
func TestRefreshReadsFloat32Weights(t *testing.T) {
	c := tinyConfig()
	m, moved := newModelOn(t, reference, c, inBF16(Options{Seed: 3})), newModelOn(t, reference, c, inBF16(Options{Seed: 3}))
	p := randomPacked(c, 4, 20)
	before := scores(t, m, p, 1).LogProbs
	const small, times = 1 + 1.0/4096, 400
	for range times {
		for _, q := range m.Parameters() {
			reference.Scale(q.Data, small)
		}
	}
	factor := float32(math.Pow(small, times))
	for i, q := range moved.Parameters() {
		reference.Scale(q.Data, factor)
		if off := worst(values(t, q.Data), values(t, m.Parameters()[i].Data)); off > 1e-3 {
			t.Errorf("%s is off by %v", q.Name, off)
		}
	}
	m.Refresh()
	moved.Refresh()
	got, want := scores(t, m, p, 1).LogProbs, scores(t, moved, p, 1).LogProbs
	if worst(got, want) > scoreTolerance || worst(got, before) < 2*worst(got, want) {
		t.Errorf("scores moved by %v and are %v from where they should be", worst(got, before), worst(got, want))
	}
}

// TestBF16TakesHalf compares what is kept, and what networks and caches hold.
func TestBF16TakesHalf(t *testing.T) {
	c := tinyConfig()
	c.Family = Llama // keeps the roots of two norms a layer, which are float32 in both
	p := randomPacked(c, 1, 30, 30)
	roots := int64(4 * 2 * c.Layers * len(p.Tokens))
	var kept, networks, pages [2]int64
	for i, o := range []Options{{Seed: 1}, inBF16(Options{Seed: 1})} {
		on := devicetest.NewReference()
		m := newModelOn(t, on, c, o)
		if err := m.Accumulate(context.Background(), p, 1, ones); err != nil {
			t.Fatal(err)
		}
		kept[i] = m.Memory().Activations - roots
		held := on.Usage().Bytes
		network, err := m.Share()
		if err != nil {
			t.Fatal(err)
		}
		networks[i] = on.Usage().Bytes - held - 4*int64(c.Hidden)*int64(1+2*c.Layers) // norms
		shape := network.PageShape(3)
		if want := m.Options().Compute; shape.DType != want {
			t.Errorf("pages of %v, want %v", shape.DType, want)
		}
		pages[i] = shape.Bytes()
		network.Free()
		m.Free()
		if held := on.Usage().Bytes; held != 0 {
			t.Errorf("%d bytes are held after Free", held)
		}
	}
	for what, bytes := range map[string][2]int64{"activations": kept, "a network's own": networks, "pages": pages} {
		if bytes[1] == 0 || bytes[0] != 2*bytes[1] {
			t.Errorf("%s: %d bytes in f32 and %d in bf16", what, bytes[0], bytes[1])
		}
	}
}

// TestComputeTypesThatADeviceLacksAreRefused before anything is allocated.
func TestComputeTypesThatADeviceLacksAreRefused(t *testing.T) {
	c, on := tinyConfig(), cpu.New()
	data, dir := encoded(t, newModel(t, c, 1)), t.TempDir()
	if err := newModel(t, c, 1).SaveFolder(dir, weights.Options{}); err != nil {
		t.Fatal(err)
	}
	_, fresh := New(on, c, inBF16(Options{}))
	_, decoded := DecodeWeights(on, c, inBF16(Options{}), data)
	_, sampled := DecodeNetwork(on, c, inBF16(Options{}), data)
	_, loaded := LoadFolder(on, dir, inBF16(Options{}))
	_, stored := New(reference, c, Options{Compute: device.F16})
	for name, err := range map[string]error{"New": fresh, "DecodeWeights": decoded, "DecodeNetwork": sampled, "LoadFolder": loaded} {
		if err == nil || !contains(err, "cpu computes in f32, not in bf16") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if stored == nil || !contains(stored, "reference computes in f32 or bf16, not in f16") {
		t.Errorf("error %v", stored)
	}
	if peak := on.Usage().Peak; peak != 0 {
		t.Errorf("%d bytes were allocated", peak)
	}
}

// TestNoMemoryIsAnErrorInBF16 lets each allocation fail in turn.
func TestNoMemoryIsAnErrorInBF16(t *testing.T) {
	v := variants()["adapters and tied head"]
	v.options.ValueHead = true
	for fails := 0; ; fails++ {
		on := &exhausted{Reference: devicetest.NewReference(), left: fails}
		err := func() error {
			m, err := New(on, v.config, inBF16(v.options))
			if err != nil {
				return err
			}
			defer m.Free()
			d := derivatives(v, 23)
			if err := m.Accumulate(context.Background(), randomPacked(v.config, 1, 9, 14), 1, func(Scores) (Scores, error) { return d, nil }); err != nil {
				return err
			}
			network, err := m.Share()
			if err == nil {
				network.Free()
			}
			return err
		}()
		if held := on.Usage().Bytes; held != 0 {
			t.Fatalf("%d bytes are held after allocation %d failed: %v", held, fails, err)
		}
		if err == nil {
			if fails < 20 {
				t.Errorf("only %d allocations", fails)
			}
			return
		}
		if !contains(err, "reference has no") {
			t.Fatalf("allocation %d: error %v", fails, err)
		}
	}
}

// exhausted has memory for so many allocations.
type exhausted struct {
	*devicetest.Reference
	left int
}

func (d *exhausted) spend(p device.Purpose) error {
	if d.left--; d.left < 0 {
		return &device.OutOfMemory{Device: d.Name(), Wanted: 1, For: p}
	}
	return nil
}

func (d *exhausted) Allocate(p device.Purpose, t device.DType, n int) (device.Buffer, error) {
	if err := d.spend(p); err != nil {
		return device.Buffer{}, err
	}
	return d.Reference.Allocate(p, t, n)
}

func (d *exhausted) NewWeights(w device.Buffer, t device.DType, out, in int, use device.Use) (device.Weights, error) {
	if err := d.spend(device.ForWeights); err != nil {
		return nil, err
	}
	return d.Reference.NewWeights(w, t, out, in, use)
}

func (d *exhausted) Each(tasks int, run func(task int)) {
	for task := range tasks {
		run(task)
	}
}
