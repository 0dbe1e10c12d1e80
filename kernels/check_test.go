package kernels_test

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/internal/randombatch"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

type batch = kernels.Batch[float64]

// good has two sequences, of two tokens and of one token and an observation, and every stream.
func good() batch {
	stream := func() []float64 { return []float64{-1, -1, -1, math.NaN()} }
	return batch{
		Offsets: []int32{0, 2, 4}, Sampled: []bool{true, true, true, false}, Turn: []int32{0, 1, 0, -1},
		LogProbs: stream(), Proximal: stream(), Behavior: stream(), Reference: stream(), Entropy: stream(), Values: stream(), OldValues: stream(),
		Returns: stream(), Advantages: stream(), LossWeights: stream(), CEWeights: stream(), ReferenceKLWeights: stream(),
		Versions: []int32{0, 0, 0, 0}, Pair: []int32{3, 3}, Chosen: []bool{true, false}, Group: []int32{0, 0},
		RankScores: []float64{1, 0}, Outcomes: []float64{1, 0}, ClipHigh: []float64{0.1, 0.1},
	}
}

func TestBatchErrorsNameThePlace(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		want string
		edit func(*batch)
	}{
		{"", func(b *batch) {}},
		{"batch: Offsets begin with 1: they must begin with 0", func(b *batch) { b.Offsets[0] = 1 }},
		{"batch: sequence 1 ends at 2 before it begins at 3", func(b *batch) { b.Offsets = []int32{0, 3, 2} }},
		{"batch: sampled has 3 values for 4 tokens", func(b *batch) { b.Sampled = b.Sampled[:3] }},
		{"batch: turn has 5 values for 4 tokens", func(b *batch) { b.Turn = append(b.Turn, 0) }},
		{"batch: versions has 0 values for 4 tokens", func(b *batch) { b.Versions = []int32{} }},
		{"batch: pair has 1 values for 2 sequences", func(b *batch) { b.Pair = b.Pair[:1] }},
		{"batch: role has 0 values for 2 sequences", func(b *batch) { b.Chosen = nil }},
		{"batch: group has 3 values for 2 sequences", func(b *batch) { b.Group = []int32{0, 0, 0} }},
		{"batch: proximal has 3 values for 4 tokens", func(b *batch) { b.Proximal = b.Proximal[:3] }},
		{"batch: ce_weights has 1 values for 4 tokens", func(b *batch) { b.CEWeights = b.CEWeights[:1] }},
		{"batch: rank_score has 1 values for 2 sequences", func(b *batch) { b.RankScores = b.RankScores[:1] }},
		{"batch: clip_high has 1 values for 2 sequences", func(b *batch) { b.ClipHigh = b.ClipHigh[:1] }},

		{"batch: sequence 1, token 0: logprobs is NaN where the policy sampled", func(b *batch) { b.LogProbs[2] = nan }},
		{"batch: sequence 0, token 1: behavior is +Inf where the policy sampled", func(b *batch) { b.Behavior[1] = math.Inf(1) }},
		{"batch: sequence 0, token 0: reference_kl_weights is -Inf where the policy sampled", func(b *batch) { b.ReferenceKLWeights[0] = math.Inf(-1) }},
		{"", func(b *batch) { b.Advantages[3], b.Turn[3] = math.Inf(-1), 77 }},

		{"batch: sequence 0, token 0: turn -1 after turn -1: turns of sampled tokens start at 0 and never decrease", func(b *batch) { b.Turn[0] = -1 }},
		{"batch: sequence 0, token 1: turn 0 after turn 1: turns of sampled tokens start at 0 and never decrease", func(b *batch) { b.Turn[0], b.Turn[1] = 1, 0 }},

		{"batch: sequence 1: outcome is NaN", func(b *batch) { b.Outcomes[1] = nan }},
		{"batch: sequence 0: rank_score is +Inf", func(b *batch) { b.RankScores[0] = math.Inf(1) }},
		{"batch: sequence 1: clip_high -0.5 is negative: the ratio is bounded above by 1 + clip_high", func(b *batch) { b.ClipHigh[1] = -0.5 }},
		{"batch: sequence 0: pair 3 has no partner: a pair is one chosen and one rejected", func(b *batch) { b.Pair[1] = -1 }},
		{"batch: sequence 0: pair 3 has no partner: a pair is one chosen and one rejected", func(b *batch) { b.Pair[1] = 4 }},
		{"batch: sequence 1: pair 3 has two sequences with the same role: a pair is one chosen and one rejected", func(b *batch) { b.Chosen[1] = true }},
		{"batch: sequence 1: pair 3 has two sequences with the same role: a pair is one chosen and one rejected", func(b *batch) { b.Chosen[0] = false }},
		{"batch: sequence 1: pair 3 has a sequence without a sampled token", func(b *batch) { b.Sampled[2] = false }},
		{"", func(b *batch) { b.Sampled[2], b.Pair[0], b.Pair[1] = false, -1, -1 }},
	} {
		b := good()
		c.edit(&b)
		got := ""
		if err := b.Check(clip, kernels.Totals{Tokens: 9, Sequences: 9}); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("error %q\nwant  %q", got, c.want)
		}
	}
	third := batch{
		Offsets: []int32{0, 1, 2, 3}, Sampled: []bool{true, true, true}, LogProbs: make([]float64, 3), Proximal: make([]float64, 3), Advantages: make([]float64, 3),
		Pair: []int32{0, 0, 0}, Chosen: []bool{true, false, false},
	}
	want := "batch: sequence 2: pair 0 has two sequences with the same role: a pair is one chosen and one rejected"
	if err := third.Check(clip, kernels.Count(third)); err == nil || err.Error() != want {
		t.Errorf("a pair of three: %v\nwant %s", err, want)
	}
}

// A stream that is absent names the setting that needs it.
func TestMissingStreams(t *testing.T) {
	anchor := func(a kernels.Anchor) edit { return func(p *kernels.Program) { p.Anchor = a } }
	for _, c := range []struct {
		want string
		drop func(*batch)
		edit edit
	}{
		{"batch: logprobs is null, and every loss needs it", func(b *batch) { b.LogProbs = nil }, func(*kernels.Program) {}},
		{"batch: advantages is null, and the program needs it (objective clip)", func(b *batch) { b.Advantages = nil }, func(*kernels.Program) {}},
		{"batch: proximal is null, and the program needs it (anchor proximal)", func(b *batch) { b.Proximal = nil }, func(*kernels.Program) {}},
		{"batch: behavior is null, and the program needs it (anchor behavior)", func(b *batch) { b.Behavior = nil }, anchor(kernels.AnchorBehavior)},
		{"batch: versions is null, and the program needs it (anchor linear)", func(b *batch) { b.Versions = nil }, anchor(kernels.AnchorLinear)},
		{"batch: turn is null, and the program needs it (ratio turn)", func(b *batch) { b.Turn = nil }, func(p *kernels.Program) { p.Ratio = kernels.RatioTurn }},
		{"batch: turn is null, and the program needs it (aggregate step-mean)", func(b *batch) { b.Turn = nil }, func(p *kernels.Program) { p.Aggregate = kernels.StepMean }},
		{"batch: turn is null, and the program needs it (objective dmpo)", func(b *batch) { b.Turn = nil }, unrated(kernels.DMPO{})},
		{"batch: reference is null, and the program needs it (objective dpo)", func(b *batch) { b.Reference = nil }, unrated(kernels.DPO{})},
		{"batch: pair is null, and the program needs it (objective ipo)", func(b *batch) { b.Pair = nil }, unrated(kernels.IPO{})},
		{"batch: rank_score is null, and the program needs it (objective rank)", func(b *batch) { b.RankScores = nil }, unrated(kernels.Rank{})},
		{"batch: outcome is null, and the program needs it (objective topr)", func(b *batch) { b.Outcomes = nil }, objective(kernels.TOPR{})},
		{"batch: entropy is null, and the program needs it (mask entropy_quantile)", func(b *batch) { b.Entropy = nil }, masks(kernels.EntropyQuantile{})},
		{"batch: behavior is null, and the program needs it (off_policy veto)", func(b *batch) { b.Behavior = nil }, offPolicy(kernels.Veto{})},
		{"batch: proximal is null, and the program needs it (off_policy veto)", func(b *batch) { b.Proximal = nil }, func(p *kernels.Program) {
			unrated(kernels.Reinforce{})(p)
			offPolicy(kernels.Veto{})(p)
		}},
		{"batch: reference is null, and the program needs it (regularizer kl)", func(b *batch) { b.Reference = nil }, regularizers(kernels.NewKL())},
		{"batch: entropy is null, and the program needs it (regularizer entropy)", func(b *batch) { b.Entropy = nil }, regularizers(kernels.Entropy{})},
		{"batch: ce_weights is null, and the program needs it (regularizer cross_entropy)", func(b *batch) { b.CEWeights = nil }, regularizers(kernels.AuxiliaryCE{})},
		{"batch: reference_kl_weights is null, and the program needs it (regularizer reference_kl)", func(b *batch) { b.ReferenceKLWeights = nil }, regularizers(kernels.ReferenceKL{})},
		{"batch: values is null, and the program needs it (regularizer value)", func(b *batch) { b.Values = nil }, regularizers(kernels.Value{})},
		{"batch: returns is null, and the program needs it (regularizer value)", func(b *batch) { b.Returns = nil }, regularizers(kernels.Value{})},
		{"batch: old_values is null, and the program needs it (regularizer value)", func(b *batch) { b.OldValues = nil }, regularizers(kernels.Value{Clip: 1})},
	} {
		p, b := clip, good()
		c.edit(&p)
		if err := b.Check(p, kernels.Count(b)); err != nil {
			t.Errorf("%s: with every stream: %v", p, err)
		}
		c.drop(&b)
		if err := b.Check(p, kernels.Count(b)); err == nil || err.Error() != c.want {
			t.Errorf("%s\nerror %v\nwant  %s", p, err, c.want)
		}
	}
}

func TestTotalsOfABatch(t *testing.T) {
	b := good()
	b.LossWeights, b.CEWeights, b.ReferenceKLWeights = []float64{1, 2, 3, 100}, []float64{0.5, 0, 0, 100}, []float64{0, 0, 7, 100}
	totals := kernels.Count(b)
	if want := (kernels.Totals{Tokens: 3, Sequences: 2, LossWeight: 6, CEWeight: 0.5, ReferenceKLWeight: 7}); totals != want {
		t.Errorf("totals %+v, want %+v", totals, want)
	}
	for _, c := range []struct {
		want string
		edit func(*kernels.Program, *kernels.Totals)
	}{
		{"", func(p *kernels.Program, t *kernels.Totals) { *t = t.Add(*t) }},
		{"batch: totals count 2 tokens in 2 sequences, the batch alone has 3 in 2: add up Count over all micro-batches of the update",
			func(p *kernels.Program, t *kernels.Totals) { t.Tokens = 2 }},
		{"batch: totals count 3 tokens in 1 sequences, the batch alone has 3 in 2: add up Count over all micro-batches of the update",
			func(p *kernels.Program, t *kernels.Totals) { t.Sequences = 1 }},
		{"batch: 3 of 4 tokens: the program compares sequences of the whole update, so that it must be evaluated in one piece",
			func(p *kernels.Program, t *kernels.Totals) {
				t.Tokens, p.Mask = 4, []kernels.Mask{kernels.EntropyQuantile{}}
			}},
		{"batch: totals sum loss_weights to 0, the batch alone to 6: add up Count over all micro-batches of the update",
			func(p *kernels.Program, t *kernels.Totals) { t.LossWeight, p.Aggregate = 0, kernels.WeightedMean }},
		{"batch: totals sum ce_weights to 0, the batch alone to 0.5: add up Count over all micro-batches of the update",
			func(p *kernels.Program, t *kernels.Totals) {
				t.CEWeight, p.Regularizers = 0, []kernels.Regularizer{kernels.AuxiliaryCE{}}
			}},
		{"batch: totals sum reference_kl_weights to 0, the batch alone to 7: add up Count over all micro-batches of the update",
			func(p *kernels.Program, t *kernels.Totals) {
				t.ReferenceKLWeight, p.Regularizers = 0, []kernels.Regularizer{kernels.ReferenceKL{}}
			}},
		{"", func(p *kernels.Program, t *kernels.Totals) { t.LossWeight, t.CEWeight, t.ReferenceKLWeight = 0, 0, 0 }},
	} {
		p, of := clip, totals
		c.edit(&p, &of)
		got := ""
		if err := b.Check(p, of); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("error %q\nwant  %q", got, c.want)
		}
	}
}

// Totals of micro-batches add up to those of the update, whatever lies where nothing is sampled.
func TestTotalsAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := randombatch.Batch(t)
		whole, sum := kernels.Count(randombatch.Junk(b, rapid.Float64().Draw(t, "junk"))), kernels.Totals{}
		for i := range b.Sequences() {
			sum = sum.Add(kernels.Count(randombatch.Sequence(b, i)))
		}
		near := cmp.Comparer(func(x, y float64) bool { return math.Abs(x-y) < 1e-9 })
		if diff := cmp.Diff(whole, sum, near); diff != "" {
			t.Fatalf("totals (-whole +sum):\n%s", diff)
		}
	})
}

// Metrics are sums: each adds up by itself.
func TestMetricsAddUp(t *testing.T) {
	a := kernels.Metrics{Tokens: 1, Kept: 2, Clipped: 3, RatioSum: 4, WeightSum: 5, BehaviorK3Sum: 6, ReferenceKLSum: 7, EntropySum: 8, ValueErrorSum: 9, Pairs: 10, Ordered: 11}
	want := kernels.Metrics{Tokens: 2, Kept: 4, Clipped: 6, RatioSum: 8, WeightSum: 10, BehaviorK3Sum: 12, ReferenceKLSum: 14, EntropySum: 16, ValueErrorSum: 18, Pairs: 20, Ordered: 22}
	a.Add(a)
	if a != want {
		t.Errorf("sum %+v, want %+v", a, want)
	}
}
