package gpucheck

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/trainer/decode"
	"github.com/turnwise-rl/turnwise/trainer/optim"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// small is a network of the quickstart's kind.
func small() policy.Config {
	c := policy.DefaultConfig()
	c.VocabSize, c.MaxPositions = 512, 512
	if emulated {
		c.Layers, c.Hidden, c.Heads, c.KVHeads, c.HeadDim, c.FFN, c.VocabSize, c.MaxPositions = 2, 32, 4, 2, 8, 48, 67, 64
	}
	return c
}

// large has the shape of Qwen3-0.6B: 596 million parameters.
func large() policy.Config {
	return policy.Config{Family: policy.Qwen3, Layers: 28, Hidden: 1024, Heads: 16, KVHeads: 8, HeadDim: 128, FFN: 3072, RopeTheta: 1e6, NormEps: 1e-6, MaxPositions: 40960, VocabSize: 151936}
}

func newModel(t *testing.T, d device.Device, c policy.Config, o policy.Options) *policy.Model {
	t.Helper()
	m, err := policy.New(d, c, o)
	must(t, err)
	t.Cleanup(m.Free)
	return m
}

// packed are sequences of random tokens, of the given lengths.
func packed(c policy.Config, lengths ...int) policy.Packed {
	random := rand.New(rand.NewPCG(5, 6))
	p := policy.Packed{Offsets: []int32{0}}
	for _, n := range lengths {
		for range n {
			p.Tokens = append(p.Tokens, int32(random.IntN(c.VocabSize)))
		}
		p.Offsets = append(p.Offsets, int32(len(p.Tokens)))
	}
	return p
}

func lengths() []int { return on([]int{511, 64, 1, 300, 17}, []int{14, 1, 5, 30}) }

// logProbs are those of a batch by a random network of the seed.
func logProbs(t *testing.T, d device.Device, c policy.Config, o policy.Options, p policy.Packed) []float32 {
	t.Helper()
	o.Seed, o.Frozen = 3, true
	scores, err := newModel(t, d, c, o).Score(t.Context(), p, 0.8)
	must(t, err)
	return slices.Clone(scores.LogProbs)
}

// apart is the largest and the mean distance.
func apart(a, b []float32) (most, mean float64) {
	for i := range a {
		d := math.Abs(float64(a[i]) - float64(b[i]))
		most = max(most, d)
		mean += d / float64(len(a))
		if math.IsNaN(d) {
			return math.NaN(), math.NaN()
		}
	}
	return most, mean
}

// How far log-probabilities may be from those of the cpu, in nats, in float32 and in bf16. float32: a
// hundred roundings of numbers around ten. bf16: some twenty of them, of 1/512 of numbers around one.
const (
	inFloat32 = 2e-4
	inBF16    = 0.15
)

// TestLogProbsAreNearTheCPUs compares each mode and type with the cpu in float32.
func TestLogProbsAreNearTheCPUs(t *testing.T) {
	c := small()
	p := packed(c, lengths()...)
	want := logProbs(t, cpu.New(), c, policy.Options{}, p)
	modes(t, func(t *testing.T, d *cuda.Device) {
		for _, compute := range []device.DType{device.F32, device.BF16} {
			most, mean := apart(logProbs(t, d, c, policy.Options{Compute: compute}, p), want)
			t.Logf("%v: log-probabilities differ by %.3g at most, %.3g on average, from the cpu's", compute, most, mean)
			if limit := map[device.DType]float64{device.F32: inFloat32, device.BF16: inBF16}[compute]; !(most <= limit) {
				t.Errorf("%v: log-probabilities differ by %.3g, want %.3g at most", compute, most, limit)
			}
		}
	})
}

// TestExactRowsStandAlone scores each sequence by itself, which in the exact mode is the same to the last bit. How far the fast mode
// is from itself is printed: it is the gap between sampling and training.
func TestExactRowsStandAlone(t *testing.T) {
	c := small()
	modes(t, func(t *testing.T, d *cuda.Device) {
		for _, compute := range []device.DType{device.F32, device.BF16} {
			o := policy.Options{Compute: compute}
			p := packed(c, lengths()...)
			together := logProbs(t, d, c, o, p)
			var alone []float32
			for i := range p.Sequences() {
				tokens := p.Tokens[p.Offsets[i]:p.Offsets[i+1]]
				alone = append(alone, logProbs(t, d, c, o, policy.Packed{Tokens: tokens, Offsets: []int32{0, int32(len(tokens))}})...)
			}
			most, mean := apart(alone, together)
			t.Logf("%v: sequences alone and together differ by %.3g at most, %.3g on average", compute, most, mean)
			if exact := d.Name() == "cuda:0"; exact && !slices.Equal(alone, together) {
				t.Errorf("%v: a sequence's bits depend on the others", compute)
			}
		}
	})
}

// TestSamplerAndLearnerAgree samples with the decoding engine and scores what it sampled with the learner.
func TestSamplerAndLearnerAgree(t *testing.T) {
	c := small()
	modes(t, func(t *testing.T, d *cuda.Device) {
		for _, compute := range []device.DType{device.F32, device.BF16} {
			m := newModel(t, d, c, policy.Options{Seed: 3, Frozen: true, Compute: compute})
			engine, err := decode.New(decode.Config{Slots: 3})
			must(t, err)
			defer engine.Close()
			network, err := m.Share()
			must(t, err)
			must(t, engine.Load(network, 1))
			var sampled, scored []float32
			for i := range on(8, 3) {
				prompt := packed(c, on(40, 5)+i).Tokens
				result, err := engine.Generate(t.Context(), sampler.Request{Sequence: fmt.Sprint(i), Tokens: prompt, MaxTokens: on(200, 12), Temperature: 0.8, Seed: uint64(i)})
				must(t, err)
				sampled = append(sampled, result.LogProbs...)
				all := append(slices.Clone(prompt), result.Tokens...)
				scores, err := m.Score(t.Context(), policy.Packed{Tokens: all, Offsets: []int32{0, int32(len(all))}}, 0.8)
				must(t, err)
				scored = append(scored, scores.LogProbs[len(prompt):]...)
			}
			most, mean := apart(sampled, scored)
			t.Logf("%v: %d tokens; the sampler's and the learner's log-probabilities differ by %.3g at most, %.3g on average", compute, len(sampled), most, mean)
			if exact := d.Name() == "cuda:0"; exact && !slices.Equal(sampled, scored) {
				t.Errorf("%v: the sampler's bits are not the learner's", compute)
			}
			if !(most <= on(inBF16, inBF16)) {
				t.Errorf("%v: the sampler is %.3g nats from the learner", compute, most)
			}
		}
	})
}

// student learns random tokens by heart.
type student struct {
	model     *policy.Model
	optimizer *optim.AdamW
	batch     policy.Packed
	rate      float64
	losses    []float64
}

func newStudent(d device.Device, c policy.Config, o policy.Options, p policy.Packed) (*student, error) {
	m, err := policy.New(d, c, o)
	if err != nil {
		return nil, err
	}
	return teach(m, p)
}

// teach makes a student of a network, on a batch.
func teach(m *policy.Model, p policy.Packed) (*student, error) {
	optimizer, err := trainer.NewOptimizer(m, optim.DefaultConfig(), 7)
	return &student{model: m, optimizer: optimizer, batch: p, rate: 1e-3}, err
}

// step is forward, the mean cross-entropy over every token but the first of a sequence, backward and AdamW.
func (s *student) step(ctx context.Context) (norm float64, err error) {
	s.model.ZeroGrad()
	predicted := float64(len(s.batch.Tokens) - s.batch.Sequences())
	err = s.model.Accumulate(ctx, s.batch, 1, func(now policy.Scores) (policy.Scores, error) {
		sum, d := 0.0, make([]float32, len(now.LogProbs))
		for i, logProb := range now.LogProbs {
			if !slices.Contains(s.batch.Offsets, int32(i)) {
				sum -= float64(logProb)
				d[i] = float32(-1 / predicted)
			}
		}
		s.losses = append(s.losses, sum/predicted)
		return policy.Scores{LogProbs: d}, nil
	})
	if err != nil {
		return 0, err
	}
	norm, err = s.optimizer.Step(s.rate)
	s.model.Refresh()
	return norm, err
}

// TestRunsAgree trains twice and wants the same bits, in both modes.
func TestRunsAgree(t *testing.T) {
	c := small()
	modes(t, func(t *testing.T, d *cuda.Device) {
		for _, compute := range []device.DType{device.F32, device.BF16} {
			var digests []string
			for range 2 {
				s, err := newStudent(d, c, policy.Options{Seed: 3, Compute: compute}, packed(c, lengths()...))
				must(t, err)
				for range on(20, 2) {
					_, err := s.step(t.Context())
					must(t, err)
				}
				digest, err := s.model.Digest()
				must(t, err)
				digests = append(digests, digest)
				s.free()
			}
			if digests[0] != digests[1] {
				t.Errorf("%v: two runs of the same steps end in different bits", compute)
			}
		}
	})
}

// TestPriceOfExactness prints what a pass over the same tokens costs in each mode, by the device's clock.
func TestPriceOfExactness(t *testing.T) {
	c := on(large(), small())
	c.Layers = min(c.Layers, 4)
	for _, compute := range []device.DType{device.F32, device.BF16} {
		var took [2]time.Duration
		for i, exact := range []bool{true, false} {
			d, err := cuda.Open(libraries, cuda.Options{Exact: exact})
			must(t, err)
			s, err := newStudent(d, c, policy.Options{Seed: 3, Compute: compute}, packed(c, on([]int{1024, 1024, 1024, 1024}, []int{9, 5})...))
			must(t, err)
			for range on(3, 1) { // the last one counts
				took[i], err = d.Time(func() {
					_, err := s.step(t.Context())
					must(t, err)
				})
				must(t, err)
			}
			s.free()
			must(t, d.Close())
		}
		t.Logf("%v: a training step of %d layers over %d tokens takes %v exact and %v fast, %.2f times as long%s", compute, c.Layers, on(4096, 14), took[0], took[1],
			float64(took[0])/float64(took[1]), on("", " (the emulated GPU counts launches)"))
	}
}

func (s *student) free() {
	s.optimizer.Free()
	s.model.Free()
}
