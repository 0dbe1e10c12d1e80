package ref

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
)

// drifting is a batch on policy but for the drift from the sampling engine: −log π at every token is its weight.
func drifting(offsets []int32, x ...float64) kernels.Batch[float64] {
	b := rows(offsets, row(make([]float64, len(x)), make([]float64, len(x))...))
	b.Behavior = make([]float64, len(x))
	for i := range x {
		b.Advantages[i], b.Behavior[i] = 1, b.Proximal[i]-x[i]
	}
	return b
}

// plain is −A·log π: with every advantage 1 and log-probability −1, the loss of a token is 1.
func plain(edits ...func(*kernels.Program)) kernels.Program {
	return of(kernels.Reinforce{}, append([]func(*kernels.Program){ratioOf(kernels.RatioOne, kernels.GradientOwn)}, edits...)...)
}

func TestWeightsByHand(t *testing.T) {
	one := []int32{0, 2}
	two := []int32{0, 2, 3}
	tis := func(level kernels.CorrectionLevel, limit float64, n kernels.Normalization) func(*kernels.Program) {
		return corrected(kernels.TIS{Level: level, Cap: limit, Normalize: n})
	}
	behavior := func(level kernels.CorrectionLevel, action kernels.BoundAction) func(*kernels.Program) {
		return corrected(kernels.BehaviorWeight{Level: level, Action: action, Low: 0.5, High: 3})
	}
	for _, c := range []struct {
		name    string
		p       kernels.Program
		b       kernels.Batch[float64]
		weights []float64
		kept    float64
	}{
		{"tis token", plain(tis(kernels.LevelToken, 3, kernels.NormalizeNone)), drifting(one, ln4, -ln2), []float64{3, 0.5}, 2},
		{"tis sequence", plain(tis(kernels.LevelSequence, 3, kernels.NormalizeNone)), drifting(two, ln4, -ln2, ln2), []float64{2, 2, 2}, 3},
		{"tis sequence, far", plain(tis(kernels.LevelSequence, 3, kernels.NormalizeNone)), drifting(one, -19, -19), []float64{math.Exp(-20), math.Exp(-20)}, 2},
		{"tis geometric", plain(tis(kernels.LevelSequenceGeometric, 3, kernels.NormalizeNone)), drifting(one, ln4, 0), []float64{2, 2}, 2},
		{"tis, mean 1 over tokens", plain(tis(kernels.LevelToken, 3, kernels.NormalizeTokens)), drifting(two, ln4, -ln2, -ln2), []float64{9. / 4, 3. / 8, 3. / 8}, 3},
		{"tis, mean 1 over sequences", plain(tis(kernels.LevelSequence, 3, kernels.NormalizeSequences)), drifting(two, ln2, 0, 0), []float64{4. / 3, 4. / 3, 2. / 3}, 3},
		{"tis, mean 1 over first tokens", plain(tis(kernels.LevelToken, 3, kernels.NormalizeSequences)), drifting(two, ln4, -ln2, ln2), []float64{6. / 5, 1. / 5, 4. / 5}, 3},
		{"icepop", plain(corrected(kernels.IcePop{Low: 0.5, High: 3})), drifting([]int32{0, 3}, ln4, -ln4, ln2), []float64{0, 0, 2}, 1},
		{"behavior weight, clamped", plain(behavior(kernels.LevelToken, kernels.ActionClamp)), drifting([]int32{0, 3}, ln4, -ln4, ln2), []float64{3, 0.5, 2}, 3},
		{"behavior weight, masked", plain(behavior(kernels.LevelToken, kernels.ActionMask)), drifting([]int32{0, 3}, ln4, -ln4, ln2), []float64{0, 0, 2}, 1},
		{"behavior weight, geometric", plain(behavior(kernels.LevelSequenceGeometric, kernels.ActionMask)), drifting(two, ln4, 0, ln4), []float64{2, 2, 0}, 2},
		{"veto", plain(corrected(kernels.Veto{Min: 0.3})), drifting(two, 3, -ln4, -ln2), []float64{0, 0, 1}, 1},
		{"m2po", plain(corrected(kernels.M2PO{Tau: 1.2})), drifting([]int32{0, 4}, 1, -2, 2, 0.5), []float64{1, 0, 0, 1}, 2},
		{"m2po, the earlier of equals", plain(corrected(kernels.M2PO{Tau: 2})), drifting([]int32{0, 4}, 1, -2, 2, 0.5), []float64{1, 0, 1, 1}, 3},
		{"m2po keeps one", plain(corrected(kernels.M2PO{Tau: 0.1})), drifting([]int32{0, 2}, 1, -2), []float64{1, 0}, 1},
		{"behavior anchor", plain(anchored(kernels.AnchorBehavior), tis(kernels.LevelToken, 3, kernels.NormalizeNone)), drifting(one, ln4, -ln2), []float64{3, 0.5}, 2},
		// The mean of x² over all tokens is 0.563; over those that icepop keeps it is 0.605.
		{"two parts", plain(corrected(kernels.IcePop{Low: 0.3, High: 1.5}, kernels.M2PO{Tau: 0.58})), drifting([]int32{0, 3}, ln2, -1.1, 0), []float64{0, math.Exp(-1.1), 1}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			loss, slopes := 0.0, make([]float64, len(c.weights))
			for i, w := range c.weights {
				loss += w
				slopes[i] = -w
			}
			check(t, []worked{{"weights", c.p, c.b, loss, slopes, func(m kernels.Metrics) bool { return m.Kept == c.kept && about(m.WeightSum, loss) }}})
		})
	}
}

func TestRejectionsByHand(t *testing.T) {
	// Per token k2 is 0.5, 0.125, 0; k3 is e − 2 = 0.718, 0.107, 0. The sums of x are 0.5 and 0.
	b := drifting([]int32{0, 2, 3}, 1, -0.5, 0)
	const all, second = 3, 1
	for _, c := range []struct {
		level     kernels.RejectLevel
		estimator kernels.DriftEstimator
		low, high float64
		kept      float64
	}{
		{kernels.RejectToken, kernels.DriftK1, 0.5, 3, all},
		{kernels.RejectToken, kernels.DriftK1, 0.7, 3, 2},
		{kernels.RejectToken, kernels.DriftK1, 0.7, 2, 1},
		{kernels.RejectSequenceSum, kernels.DriftK1, 0.7, 1.6, second}, // e^0.5 = 1.649
		{kernels.RejectSequenceSum, kernels.DriftK1, 0.7, 1.7, all},
		{kernels.RejectSequenceMean, kernels.DriftK1, 0.7, 1.3, all}, // e^0.25 = 1.284
		{kernels.RejectSequenceMean, kernels.DriftK1, 0.7, 1.2, second},
		{kernels.RejectToken, kernels.DriftK2, 0, 0.2, 2},
		{kernels.RejectSequenceSum, kernels.DriftK2, 0, 0.6, second}, // 0.625
		{kernels.RejectSequenceSum, kernels.DriftK2, 0, 0.63, all},
		{kernels.RejectSequenceMean, kernels.DriftK2, 0, 0.32, all},
		{kernels.RejectSequenceMean, kernels.DriftK2, 0, 0.31, second},
		{kernels.RejectSequenceMax, kernels.DriftK2, 0, 0.49, second},
		{kernels.RejectSequenceMax, kernels.DriftK2, 0, 0.51, all},
		{kernels.RejectToken, kernels.DriftK3, 0, 0.1, 1},
		{kernels.RejectSequenceSum, kernels.DriftK3, 0, 0.82, second}, // 0.8248
		{kernels.RejectSequenceMean, kernels.DriftK3, 0, 0.42, all},
		{kernels.RejectSequenceMax, kernels.DriftK3, 0, 0.71, second},
	} {
		part := kernels.Reject{Level: c.level, Estimator: c.estimator, Low: c.low, High: c.high}
		got, err := Evaluate(plain(corrected(part)), b, kernels.Count(b))
		if err != nil {
			t.Fatal(err)
		}
		if got.Metrics.Kept != c.kept || got.Metrics.WeightSum != c.kept || got.Loss != c.kept {
			t.Errorf("%+v keeps %v tokens with loss %v, want %v", part, got.Metrics.Kept, got.Loss, c.kept)
		}
	}
}

// The entropies and the sequences of TRL's tests of its two masks.
func TestMasksByHand(t *testing.T) {
	b := rows([]int32{0, 6, 12}, row(make([]float64, 12), make([]float64, 12)...))
	for i := range b.Advantages {
		b.Advantages[i] = 1
		b.Entropy = append(b.Entropy, float64(i+1)/10)
	}
	b.Sampled[10], b.Sampled[11], b.Turn[10], b.Turn[11] = false, false, -1, -1
	for keep, want := range map[float64]float64{1: 10, 0.2: 2, 0: 1} {
		got, err := Evaluate(plain(masked(kernels.EntropyQuantile{Keep: keep})), b, kernels.Count(b))
		if err != nil {
			t.Fatal(err)
		}
		if got.Metrics.Kept != want {
			t.Errorf("keep %v: %v tokens stay, want %v", keep, got.Metrics.Kept, want)
		}
	}
	off := rows([]int32{0, 1, 2, 4}, row([]float64{1, -1, -1, 1}, -2, -0.5, -1.5, -2.5))
	check(t, []worked{{"negative drift", plain(masked(kernels.NegativeDrift{Threshold: 1})), off, 1 - 1 + 1, []float64{-1, 1, 0, -1}, nil}})
}

// Tokens 0 to 3 are one sequence of two turns, 4 and 5 one of one turn, which is rejected, as is token 1. Losses are 1 to
// 6, times loss weights 2 at token 0 and 1 elsewhere.
func TestDenominatorsByHand(t *testing.T) {
	b := drifting([]int32{0, 4, 6}, 0, 3, 0, 0, 3, 3)
	b.Turn = []int32{0, 0, 0, 1, 0, 0}
	b.LossWeights = []float64{2, 1, 1, 1, 1, 1}
	for i := range b.Advantages {
		b.Advantages[i] = float64(i + 1)
	}
	drop := corrected(kernels.IcePop{Low: 0.5, High: 2})
	for _, c := range []struct {
		aggregate   kernels.Aggregation
		stay, leave float64
	}{
		{kernels.TokenMean, (2 + 3 + 4) / 6., (2 + 3 + 4) / 3.},
		{kernels.TokenSum, 9, 0},
		{kernels.WeightedMean, 9 / 7., 9 / 4.},
		{kernels.SequenceMeanTokenSum, 9 / 2., 9},
		{kernels.SequenceMeanTokenAvg, 9 / 4. / 2, 9 / 3.},
		{kernels.SequenceSumConst, 0.9, 0},
		{kernels.StepMean, ((2+3)/3. + 4) / 2 / 2, ((2+3)/2. + 4) / 2},
	} {
		for _, p := range []kernels.Program{plain(drop, aggregated(c.aggregate)), plain(drop, aggregated(c.aggregate), leave)} {
			want := c.stay
			if p.Rejected == kernels.RejectedLeave {
				if want = c.leave; want == 0 {
					continue // no denominator
				}
			}
			got, err := Evaluate(p, b, kernels.Count(b))
			if err != nil {
				t.Fatal(err)
			}
			if !about(got.Loss, want) {
				t.Errorf("%s: loss %v, want %v", p, got.Loss, want)
			}
		}
	}
	// Regularizers are not masked, and their denominators do not change.
	p := plain(drop, leave, aggregated(kernels.SequenceMeanTokenAvg), with(kernels.Entropy{Coef: -1}))
	b.Entropy = []float64{1, 1, 1, 1, 2, 2}
	got, err := Evaluate(p, b, kernels.Count(b))
	if err != nil {
		t.Fatal(err)
	}
	if !about(got.Loss, 3+1.5) {
		t.Errorf("%s: loss %v, want 4.5", p, got.Loss)
	}
}
