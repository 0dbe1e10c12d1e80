package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/kernels/graph"
	"github.com/turnwise-rl/turnwise/kernels/ref"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer/decode"
	"github.com/turnwise-rl/turnwise/trainer/optim"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var shape = policy.Config{Layers: 1, Hidden: 16, Heads: 2, KVHeads: 1, HeadDim: 8, FFN: 24, RopeTheta: 10000, NormEps: 1e-6, MaxPositions: 64, VocabSize: 20}

// clip is the loss of on-policy reinforcement learning.
var clip = kernels.Program{
	Ratio: kernels.RatioToken, RatioGradient: kernels.GradientOwn, Anchor: kernels.AnchorProximal,
	Objective: kernels.Clip{ClipLow: 0.2, ClipHigh: 0.2}, Rejected: kernels.RejectedStay, Aggregate: kernels.TokenMean,
}

var usual = Update{Program: clip, LearningRate: 1e-3, Minibatches: 1, MicroBatchTokens: 1000}

// oracle evaluates in float64 with hand-derived gradients.
type oracle struct{}

func (oracle) Evaluate(p kernels.Program, b kernels.Batch[float32], totals kernels.Totals) (kernels.Result[float32], error) {
	result, err := ref.Evaluate(p, kernels.Batch[float64]{
		Offsets: b.Offsets, Sampled: b.Sampled, Turn: b.Turn, Versions: b.Versions, Version: b.Version, Pair: b.Pair, Chosen: b.Chosen, Group: b.Group,
		LogProbs: widen(b.LogProbs), Proximal: widen(b.Proximal), Behavior: widen(b.Behavior), Reference: widen(b.Reference),
		Entropy: widen(b.Entropy), Values: widen(b.Values), OldValues: widen(b.OldValues), Returns: widen(b.Returns),
		Advantages: widen(b.Advantages), LossWeights: widen(b.LossWeights), CEWeights: widen(b.CEWeights), ReferenceKLWeights: widen(b.ReferenceKLWeights),
		RankScores: widen(b.RankScores), Outcomes: widen(b.Outcomes), ClipHigh: widen(b.ClipHigh),
	}, totals)
	return kernels.Result[float32]{
		Loss: result.Loss, DLogProbs: convert[float32](result.DLogProbs), DEntropy: convert[float32](result.DEntropy), DValues: convert[float32](result.DValues),
		Metrics: result.Metrics,
	}, err
}

func widen(values []float32) []float64 { return convert[float64](values) }

func convert[To, From kernels.Float](values []From) []To {
	if values == nil {
		return nil
	}
	out := make([]To, len(values))
	for i, v := range values {
		out[i] = To(v)
	}
	return out
}

var dev = cpu.New()

func newLearner(t testing.TB, loss Evaluator) *Learner {
	t.Helper()
	model := newModel(t, 7)
	optimizer, err := NewOptimizer(model, optim.DefaultConfig(), 7)
	if err != nil {
		t.Fatal(err)
	}
	return &Learner{Model: model, Optimizer: optimizer, Loss: loss}
}

func newModel(t testing.TB, seed uint64) *policy.Model {
	t.Helper()
	model, err := policy.New(dev, shape, policy.Options{Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	return model
}

func digest(t testing.TB, m *policy.Model) string {
	t.Helper()
	d, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// played lets the learner's own engine sample n sequences of two turns each.
func played(t testing.TB, l *Learner, n int, temperature float64) []Sequence {
	t.Helper()
	engine, err := decode.New(decode.Config{Slots: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	network, err := l.Model.Share()
	if err == nil {
		err = engine.Load(network, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	draws := rand.New(rand.NewPCG(1, 2))
	out := make([]Sequence, n)
	for i := range out {
		s := &out[i]
		for turn := range 2 {
			for range 2 + draws.IntN(4) { // a prompt or an observation
				s.add(int32(draws.IntN(shape.VocabSize)), -1, 0, 0)
			}
			result, err := engine.Generate(t.Context(), sampler.Request{
				Sequence: fmt.Sprint(i), Tokens: s.Tokens, MaxTokens: 1 + draws.IntN(9), Stop: []int32{3}, Temperature: temperature, Seed: uint64(10*i + turn),
			})
			if err != nil {
				t.Fatal(err)
			}
			advantage := float32(draws.NormFloat64())
			for k, token := range result.Tokens {
				s.add(token, int32(turn), result.LogProbs[k], advantage)
			}
		}
	}
	return out
}

func (s *Sequence) add(token, turn int32, behavior, advantage float32) {
	s.Tokens, s.Turn, s.Sampled = append(s.Tokens, token), append(s.Turn, turn), append(s.Sampled, turn >= 0)
	s.Behavior, s.Advantage = append(s.Behavior, behavior), append(s.Advantage, advantage)
}

// imitated are the same sequences for imitation.
func imitated(batch []Sequence) []Sequence {
	var out []Sequence
	for _, s := range batch {
		s.Behavior, s.Advantage = nil, nil
		out = append(out, s)
	}
	return out
}

func step(t testing.TB, l *Learner, batch []Sequence, u Update) Report {
	t.Helper()
	report, err := l.Step(t.Context(), batch, u)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// TestOnPolicyIsExact trains what the decoding engine sampled with the same weights: both give the
// same bits, so the ratio is 1 and nothing is clipped.
func TestOnPolicyIsExact(t *testing.T) {
	for _, temperature := range []float64{1, 0.6, 1.3} {
		l := newLearner(t, graph.New[float32]())
		u := usual
		u.Temperature, u.MicroBatchTokens = temperature, 40
		report := step(t, l, played(t, l, 6, temperature), u)
		if report.OnPolicyGap != 0 || report.RatioMean != 1 || report.ClipRatio != 0 || report.BehaviorKL != 0 {
			t.Errorf("temperature %g: %+v; want gap 0, ratio 1, nothing clipped, no divergence", temperature, report)
		}
	}
	l := newLearner(t, graph.New[float32]())
	u := usual
	u.Temperature = 0.6
	if report := step(t, l, played(t, l, 6, 1), u); report.OnPolicyGap < 0.01 {
		t.Errorf("tokens of another temperature have gap %g", report.OnPolicyGap)
	}
}

// TestMicroBatches cuts one update in many ways: equal cuts give equal bits, other cuts the same up
// to the order of summation.
func TestMicroBatches(t *testing.T) {
	weighted := func(l *Learner) []Sequence {
		batch := played(t, l, 7, 1)
		for i := range batch {
			if i%2 == 1 { // the others mean 1 by leaving it out
				batch[i].LossWeight = make([]float32, len(batch[i].Tokens))
				for k := range batch[i].LossWeight {
					batch[i].LossWeight[k] = float32(i) / 4
				}
			}
		}
		return batch
	}
	run := func(tokens int, aggregate kernels.Aggregation) (*Learner, Report) {
		l := newLearner(t, graph.New[float32]())
		u := usual
		u.MicroBatchTokens, u.Program.Aggregate, u.Program.Regularizers = tokens, aggregate, []kernels.Regularizer{kernels.Entropy{Coef: 0.01}}
		return l, step(t, l, weighted(l), u)
	}
	for _, aggregate := range []kernels.Aggregation{kernels.TokenMean, kernels.SequenceMeanTokenAvg, kernels.StepMean} {
		whole, want := run(1000, aggregate)
		for _, tokens := range []int{1, 20, 45, 1000} {
			once, first := run(tokens, aggregate)
			again, second := run(tokens, aggregate)
			if digest(t, once.Model) != digest(t, again.Model) || state(t, once) != state(t, again) || first != second {
				t.Errorf("%s, %d tokens: the same update twice gives different bits", aggregate, tokens)
			}
			if first.Tokens != want.Tokens || first.TokensTrained != want.TokensTrained || first.Updates != 1 {
				t.Errorf("%s, %d tokens: %+v, want the counts of %+v", aggregate, tokens, first, want)
			}
			for name, pair := range map[string][2]float64{
				"loss": {first.Loss, want.Loss}, "norm": {first.GradNorm, want.GradNorm}, "entropy": {first.Entropy, want.Entropy},
			} {
				if math.Abs(pair[0]-pair[1]) > 1e-5*(1+math.Abs(pair[1])) {
					t.Errorf("%s, %d tokens: %s %g, want %g", aggregate, tokens, name, pair[0], pair[1])
				}
			}
			if worst := largestDifference(gradients(once), gradients(whole)); worst > 1e-5 {
				t.Errorf("%s, %d tokens: a gradient differs by %g", aggregate, tokens, worst)
			}
		}
	}
}

// state is the digest of the optimizer.
func state(t testing.TB, l *Learner) string {
	t.Helper()
	d, err := l.Optimizer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func gradients(l *Learner) []float32 {
	var all []float32
	for _, p := range l.Model.Parameters() {
		piece := make([]float32, p.Grad.Len())
		if err := dev.Download(piece, p.Grad); err != nil {
			panic(err) // the processor does not fail
		}
		all = append(all, piece...)
	}
	return all
}

func largestDifference(a, b []float32) float64 {
	worst := 0.0
	for i := range a {
		worst = math.Max(worst, math.Abs(float64(a[i])-float64(b[i])))
	}
	return worst
}

// TestGraphAgreesWithOracle trains with the expression graph and with the hand-derived gradients.
func TestGraphAgreesWithOracle(t *testing.T) {
	a, b := newLearner(t, graph.New[float32]()), newLearner(t, oracle{})
	u := usual
	u.Program.Regularizers = []kernels.Regularizer{kernels.KL{Estimator: kernels.KLK3, Coef: 0.1}, kernels.Entropy{Coef: 0.02}}
	other := newModel(t, 8)
	a.Reference, b.Reference = other, other
	batch := played(t, a, 5, 1)
	first, second := step(t, a, batch, u), step(t, b, batch, u)
	if math.Abs(first.Loss-second.Loss) > 1e-5 || math.Abs(first.ReferenceKL-second.ReferenceKL) > 1e-5 || first.ReferenceKL <= 0 {
		t.Errorf("graph %+v, oracle %+v", first, second)
	}
	if worst := largestDifference(gradients(a), gradients(b)); worst > 1e-5 {
		t.Errorf("a gradient differs by %g", worst)
	}
}

// TestMinibatches makes one update a part, in order; the second one sees the weights of the first.
func TestMinibatches(t *testing.T) {
	for _, test := range []struct{ minibatches, sequences, updates int }{{1, 4, 1}, {2, 4, 2}, {3, 4, 3}, {4, 4, 4}, {9, 4, 4}} {
		l := newLearner(t, graph.New[float32]())
		u := usual
		u.Minibatches, u.LearningRate = test.minibatches, 0.01
		report := step(t, l, played(t, l, test.sequences, 1), u)
		if report.Updates != test.updates || l.Optimizer.Steps() != test.updates {
			t.Errorf("%d minibatches of %d sequences: %d updates, the optimizer saw %d; want %d",
				test.minibatches, test.sequences, report.Updates, l.Optimizer.Steps(), test.updates)
		}
		if report.OnPolicyGap != 0 {
			t.Errorf("%d minibatches: gap %g before the first update, want 0", test.minibatches, report.OnPolicyGap)
		}
		if drifted := report.RatioMean != 1; drifted != (test.updates > 1) {
			t.Errorf("%d updates: mean ratio %g", test.updates, report.RatioMean)
		}
	}
	whole, parts := newLearner(t, graph.New[float32]()), newLearner(t, graph.New[float32]())
	batch := played(t, whole, 4, 1)
	u := usual
	u.Minibatches = 2
	step(t, whole, batch, u)
	step(t, parts, batch[:2], usual)
	step(t, parts, batch[2:], usual)
	if digest(t, whole.Model) != digest(t, parts.Model) {
		t.Error("two minibatches differ from two steps on the halves")
	}
}

// TestImitationLowersLoss repeats imitation of a few sequences until they are nearly known by heart.
func TestImitationLowersLoss(t *testing.T) {
	l := newLearner(t, graph.New[float32]())
	batch := imitated(played(t, l, 3, 1))
	u := Update{Program: Imitation, LearningRate: 0.02, Minibatches: 1, MicroBatchTokens: 50}
	first := step(t, l, batch, u)
	last := first
	for range 60 {
		last = step(t, l, batch, u)
	}
	if last.Loss > first.Loss/3 || first.OnPolicyGap != -1 || first.RatioMean != 1 || first.BehaviorKL != 0 {
		t.Errorf("loss %g to %g, gap %g, ratio %g", first.Loss, last.Loss, first.OnPolicyGap, first.RatioMean)
	}
}

// TestReinforcement makes tokens with a positive advantage likelier.
func TestReinforcement(t *testing.T) {
	l := newLearner(t, graph.New[float32]())
	batch := played(t, l, 1, 1)
	for k, sampled := range batch[0].Sampled {
		if sampled {
			batch[0].Advantage[k] = 1
		}
	}
	before := step(t, l, batch, usual)
	after := step(t, l, batch, usual)
	if after.RatioMean <= 1 || after.OnPolicyGap <= 0 || after.BehaviorKL <= 0 || before.GradNorm <= 0 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// TestZeroLearningRate is the end of a schedule: the weights stay.
func TestZeroLearningRate(t *testing.T) {
	l := newLearner(t, graph.New[float32]())
	before := digest(t, l.Model)
	u := usual
	u.LearningRate = 0
	if report := step(t, l, played(t, l, 2, 1), u); report.Updates != 1 || digest(t, l.Model) != before {
		t.Errorf("%d updates, digest %s, before %s", report.Updates, digest(t, l.Model), before)
	}
}

func TestWhatCannotBeTrained(t *testing.T) {
	nan := float32(math.NaN())
	for name, test := range map[string]struct {
		spoil func(l *Learner, batch []Sequence, u *Update) []Sequence
		want  string
	}{
		"empty":                    {func(*Learner, []Sequence, *Update) []Sequence { return nil }, "empty batch"},
		"no minibatch":             {func(_ *Learner, b []Sequence, u *Update) []Sequence { u.Minibatches = 0; return b }, "minibatches 0"},
		"no micro-batch":           {func(_ *Learner, b []Sequence, u *Update) []Sequence { u.MicroBatchTokens = 0; return b }, "micro-batch of 0 tokens"},
		"negative rate":            {func(_ *Learner, b []Sequence, u *Update) []Sequence { u.LearningRate = -1; return b }, "learning rate -1"},
		"no number as rate":        {func(_ *Learner, b []Sequence, u *Update) []Sequence { u.LearningRate = math.NaN(); return b }, "learning rate NaN"},
		"infinite rate":            {func(_ *Learner, b []Sequence, u *Update) []Sequence { u.LearningRate = math.Inf(1); return b }, "learning rate +Inf"},
		"temperature":              {func(_ *Learner, b []Sequence, u *Update) []Sequence { u.Temperature = -1; return b }, "temperature -1"},
		"no tokens":                {func(_ *Learner, b []Sequence, _ *Update) []Sequence { b[1] = Sequence{}; return b }, "sequence 1: no tokens"},
		"sampled too short":        {func(_ *Learner, b []Sequence, _ *Update) []Sequence { b[1].Sampled = b[1].Sampled[1:]; return b }, "sequence 1: sampled has"},
		"turn missing":             {func(_ *Learner, b []Sequence, _ *Update) []Sequence { b[1].Turn = nil; return b }, "sequence 1: turn has 0"},
		"advantage missing":        {func(_ *Learner, b []Sequence, _ *Update) []Sequence { b[1].Advantage = nil; return b }, "sequence 1: the loss reads advantage"},
		"behavior too short":       {func(_ *Learner, b []Sequence, _ *Update) []Sequence { b[1].Behavior = b[1].Behavior[1:]; return b }, "sequence 1: behavior has"},
		"behavior here, not there": {func(_ *Learner, b []Sequence, _ *Update) []Sequence { b[1].Behavior = nil; return b }, "sequence 1: behavior log-probabilities"},
		"weights too short":        {func(_ *Learner, b []Sequence, _ *Update) []Sequence { b[1].LossWeight = make([]float32, 1); return b }, "sequence 1: loss_weight has 1"},
		"nothing sampled": {func(_ *Learner, b []Sequence, _ *Update) []Sequence {
			b[1].Sampled = make([]bool, len(b[1].Tokens))
			return b
		}, "sequence 1: none of"},
		"advantage is no number": {func(_ *Learner, b []Sequence, _ *Update) []Sequence {
			b[1].Advantage[len(b[1].Tokens)-1] = nan
			return b
		}, "NaN where the policy sampled"},
		"behavior is no number": {func(_ *Learner, b []Sequence, _ *Update) []Sequence {
			b[1].Behavior[len(b[1].Tokens)-1] = nan
			return b
		}, "NaN where the policy sampled"},
		"unknown token": {func(_ *Learner, b []Sequence, _ *Update) []Sequence { b[1].Tokens[0] = 20; return b }, "20"},
		"too long": {func(_ *Learner, b []Sequence, _ *Update) []Sequence {
			for len(b[1].Tokens) <= shape.MaxPositions {
				b[1].add(1, -1, 0, 0)
			}
			return b
		}, "65"},
		"no reference": {func(_ *Learner, b []Sequence, u *Update) []Sequence {
			u.Program.Regularizers = []kernels.Regularizer{kernels.NewKL()}
			return b
		}, "the learner has none"},
		"weights are no numbers": {func(l *Learner, b []Sequence, _ *Update) []Sequence {
			dev.Upload(l.Model.Parameters()[0].Data.Slice(0, 1), []float32{nan})
			l.Model.Refresh()
			b[0].Tokens[0] = 0
			return b
		}, "the log-probability is not a number"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLearner(t, graph.New[float32]())
			u := usual
			batch := test.spoil(l, played(t, l, 3, 1), &u)
			if report, err := l.Step(t.Context(), batch, u); err == nil || !strings.Contains(err.Error(), test.want) || report != (Report{}) && report.check() == nil {
				t.Errorf("%+v, %v; want an error with %q", report, err, test.want)
			}
		})
	}
}

// TestDivergenceIsMeasured also with a coefficient of 0: it is reported and pulls on nothing.
func TestDivergenceIsMeasured(t *testing.T) {
	plain, measured := newLearner(t, graph.New[float32]()), newLearner(t, graph.New[float32]())
	other := newModel(t, 8)
	measured.Reference = other
	batch := played(t, plain, 3, 1)
	u := usual
	u.Program.Regularizers = []kernels.Regularizer{kernels.KL{Estimator: kernels.KLK3}}
	report := step(t, measured, batch, u)
	step(t, plain, batch, usual)
	if report.ReferenceKL <= 0 || digest(t, plain.Model) != digest(t, measured.Model) {
		t.Errorf("reference KL %g, weights the same: %v", report.ReferenceKL, digest(t, plain.Model) == digest(t, measured.Model))
	}
}

func TestCancelledStep(t *testing.T) {
	l := newLearner(t, graph.New[float32]())
	batch := played(t, l, 2, 1)
	before := digest(t, l.Model)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Step(ctx, batch, usual); !errors.Is(err, context.Canceled) || digest(t, l.Model) != before {
		t.Errorf("%v, weights changed: %v; want %v", err, digest(t, l.Model) != before, context.Canceled)
	}
}

// TestCut keeps order and content and never exceeds the limit where it can.
func TestCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lengths := rapid.SliceOfN(rapid.IntRange(1, 20), 1, 12).Draw(t, "lengths")
		limit := rapid.IntRange(1, 40).Draw(t, "limit")
		sequences := make([]Sequence, len(lengths))
		for i, n := range lengths {
			sequences[i].Tokens = make([]int32, n)
		}
		var got []int
		parts := cut(sequences, limit)
		for i, part := range parts {
			tokens := 0
			for _, s := range part {
				got, tokens = append(got, len(s.Tokens)), tokens+len(s.Tokens)
			}
			if len(part) == 0 || tokens > limit && len(part) > 1 {
				t.Fatalf("part %d has %d sequences, %d tokens; the limit is %d", i, len(part), tokens, limit)
			}
			if i+1 < len(parts) && tokens+len(parts[i+1][0].Tokens) <= limit {
				t.Fatalf("part %d has room for the next sequence", i)
			}
		}
		if diff := cmp.Diff(lengths, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}
