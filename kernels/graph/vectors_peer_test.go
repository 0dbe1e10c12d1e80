package graph

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/internal/randombatch"
)

// Numbers that the tests of SkyRL, OpenRLHF, verl and prime-rl expect, and the example of the loss command's contract.
func TestPeerVectors(t *testing.T) {
	skyrl := kernels.Batch[float64]{
		Offsets: []int32{0, 3}, Advantages: []float64{1, -1, -4}, Proximal: []float64{-1, -1, -3}, LogProbs: []float64{-1 + math.Log(0.5), -1, -3 + 2.30259},
	}
	rounded := skyrl // as SkyRL's test writes its inputs
	rounded.LogProbs = []float64{-1.69315, -1, -0.69741}
	ragged := kernels.Batch[float64]{
		Offsets:  []int32{0, 5, 7, 11},
		LogProbs: []float64{.2, -2.5, -.3, .1, -1.8, .8, -.2, -.5, .3, -1.7, .4},
		Proximal: constant(11, -1), Advantages: []float64{1.5, 2, 1, .8, .5, 3, 1.5, .5, .8, 1.2, 2.5},
	}
	dro := kernels.Batch[float64]{Offsets: []int32{0, 2}, Proximal: []float64{-1, -.7}, LogProbs: []float64{-.8, -.9}, Advantages: []float64{2, -1.5}}
	imitated := series([]int{1, 0, 1}, kernels.Batch[float64]{LogProbs: []float64{-.1, -.5, -.2}})
	weighted := imitated
	weighted.LossWeights = constant(3, .1)
	rows := func(losses ...[]float64) kernels.Batch[float64] { return rowsOfLosses(losses, nil) }
	sequenceMean := policyGradient(aggregate(kernels.SequenceMeanTokenAvg))
	for _, test := range []struct {
		name string
		p    kernels.Program
		b    kernels.Batch[float64]
		loss float64
	}{
		{"SkyRL dual clip", program(kernels.Clip{ClipLow: .2, ClipHigh: .2, DualClip: 3}, summed), oneTurn(skyrl), 12.5},
		{"SkyRL CISPO", program(kernels.CISPO{ClipLow: .2, ClipHigh: .2}, summed), oneTurn(rounded), -2.993048},
		{"SkyRL ragged PPO", ppo(summed), oneTurn(ragged), -15.186827},
		{"SkyRL ragged GSPO", ppo(ratio(kernels.RatioSequenceGeometric), summed), oneTurn(ragged), -18.071588},
		{"SkyRL reduce_loss", policyGradient(summed), rowsOfLosses([][]float64{{1, 2, 3}, {4, 5, 6}}, [][]int{{1, 1, 1}, {1, 0, 0}}), 10},
		{"SkyRL reduce_loss, no mask", policyGradient(summed), rows([]float64{1, 2, 3}, []float64{4, 5, 6}), 21},
		{"verl DRO", program(kernels.DRO{Beta: .05}), oneTurn(dro), .126},
		// verl multiplies by the number of ranks that it will average over: 52 is this sum times 4.
		{"verl token sum", policyGradient(summed), rowsOfLosses([][]float64{{1, 2, 30}, {4, 50, 6}}, [][]int{{1, 1, 0}, {1, 0, 1}}), 52. / 4},
		{"OpenRLHF token mean", policyGradient(), rows([]float64{1, 2}, []float64{3, 4, 5}, []float64{7}), 22. / 6},
		{"OpenRLHF sequence mean", sequenceMean, rows([]float64{1, 3}, []float64{2, 4}, []float64{8}), 13. / 3},
		{"OpenRLHF masked row", sequenceMean, rowsOfLosses([][]float64{{1, 3}, {8, 9}}, [][]int{{1, 1}, {0, 0}}), 2},
		{"prime-rl imitation", program(kernels.CrossEntropy{}), imitated, .15},
		{"prime-rl weighted imitation", program(kernels.CrossEntropy{}, summed), weighted, .03},
		{"weighted SFT", program(kernels.CrossEntropy{}, aggregate(kernels.WeightedMean)), weighted, .15},
		{"contract", ppo(), oneTurn(kernels.Batch[float64]{
			Offsets: []int32{0, 2}, LogProbs: []float64{-1, -1.1}, Proximal: []float64{-1.1, -1}, Advantages: []float64{.5, .5},
		}), -0.502502},
	} {
		t.Run(test.name, func(t *testing.T) {
			each(t, test.p, test.b, func(t *testing.T, r kernels.Result[float64]) {
				if math.Abs(r.Loss-test.loss) > 1e-6 {
					t.Errorf("loss %v, want %v", r.Loss, test.loss)
				}
			})
		})
	}
}

// SkyRL's sequence ratios, and AReaL's: the log-probability 1 against .5 has the geometric mean e^.5, 2 against 1 has e.
func TestPeerRatioVectors(t *testing.T) {
	for _, test := range []struct{ current, anchor, want []float64 }{
		{[]float64{.2, -2.5, -.3, .1, -1.8}, constant(5, -1), constant(5, 1.150274)},
		{[]float64{.8, -.2}, constant(2, -1), constant(2, 3.669297)},
		{[]float64{-.5, .3, -1.7, .4}, constant(4, -1), constant(4, 1.868246)},
		{constant(3, 1), constant(3, .5), constant(3, math.Exp(.5))},
		{constant(3, 2), constant(3, 1), constant(3, math.E)},
	} {
		n := len(test.current)
		b := oneTurn(kernels.Batch[float64]{Offsets: []int32{0, int32(n)}, LogProbs: test.current, Proximal: test.anchor, Advantages: constant(n, -1)})
		each(t, program(kernels.Clip{ClipLow: 1, ClipHigh: 9}, ratio(kernels.RatioSequenceGeometric), summed), b, func(t *testing.T, r kernels.Result[float64]) {
			same(t, "ratios", test.want, r.DLogProbs)
		})
	}
}

// The components of prime-rl's loss add up, each over its own denominator, and are 0 without a token of their own.
func TestPeerComponentsAreAdditive(t *testing.T) {
	b := series([]int{1, 0, 1}, kernels.Batch[float64]{
		LogProbs: []float64{-.1, math.NaN(), -.2}, Advantages: []float64{1, 0, -2}, Reference: []float64{-.3, 0, -.1},
		CEWeights: []float64{0, 5, 3}, ReferenceKLWeights: []float64{2, 0, 0},
	})
	imitate, distill := kernels.AuxiliaryCE{Coef: 2}, kernels.ReferenceKL{Estimator: kernels.KLK2, Coef: 1}
	each(t, policyGradient(regularized(imitate, distill)), b, func(t *testing.T, r kernels.Result[float64]) {
		// (0.1 − 0.4)/2 + 2·0.2 + 0.2²/2
		same(t, "loss", -.15+.4+.02, r.Loss)
		same(t, "gradient", []float64{-.5 + .2, 0, 1 - 2}, r.DLogProbs)
	})
	b.CEWeights, b.ReferenceKLWeights = constant(3, 0), constant(3, 0)
	each(t, policyGradient(regularized(imitate, distill)), b, func(t *testing.T, r kernels.Result[float64]) {
		same(t, "loss without weights", -.15, r.Loss)
	})
}

// SkyRL's divergence under a soft mask, of which the last token's is 0 and hides a NaN.
func TestPeerSoftMaskVectors(t *testing.T) {
	b := series([]int{1, 1, 1, 0}, kernels.Batch[float64]{
		LogProbs: []float64{.2, .3, .5, .7}, Reference: []float64{.1, .2, .4, math.NaN()}, Advantages: constant(4, 0), ReferenceKLWeights: []float64{1, .5, .25, 0},
	})
	d := .1
	for estimator, k := range map[kernels.Divergence]float64{kernels.KLK1: d, kernels.KLK2: d * d / 2, kernels.KLK3: math.Exp(-d) + d - 1, kernels.KLAbs: d} {
		each(t, policyGradient(regularized(kernels.ReferenceKL{Estimator: estimator, Coef: 1.75})), b, func(t *testing.T, r kernels.Result[float64]) {
			same(t, "loss, metric", []float64{1.75 * k, 1.75 * k}, []float64{r.Loss, r.Metrics.ReferenceKLSum})
			same(t, "last gradient", 0.0, r.DLogProbs[3])
		})
	}
}

// verl's estimators with a plus: the value of the one before it, the gradient of k2.
func TestPeerPlusEstimators(t *testing.T) {
	for plus, base := range map[kernels.Divergence]kernels.Divergence{kernels.KLK1Plus: kernels.KLK1, kernels.KLK3Plus: kernels.KLK3, kernels.KLAbsPlus: kernels.KLAbs} {
		b := oneTurn(kernels.Batch[float64]{Offsets: []int32{0, 3}, LogProbs: []float64{-1, -.2, -3}, Reference: []float64{-1.3, -.9, -.5}, Advantages: constant(3, 0)})
		kl := kernels.NewKL()
		kl.Coef = 1
		with := func(e kernels.Divergence) kernels.Program {
			kl.Estimator = e
			return policyGradient(regularized(kl))
		}
		for name, evaluate := range evaluators {
			result := func(p kernels.Program) kernels.Result[float64] {
				r, err := evaluate(p, b, kernels.Count(b))
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			same(t, name+": loss of "+string(plus), result(with(base)).Loss, result(with(plus)).Loss)
			same(t, name+": gradient of "+string(plus), result(with(kernels.KLK2)).DLogProbs, result(with(plus)).DLogProbs)
		}
	}
}

// verl's test of its critic's normalisation: with sequences of these lengths the losses of micro-batches add up to the
// whole, whatever the aggregation.
func TestPeerValueLossIsNormalizedOverTheUpdate(t *testing.T) {
	b := kernels.Batch[float64]{Offsets: []int32{0}}
	for _, length := range []int{12, 7, 3, 11, 5, 9, 2, 6} {
		b.Offsets = append(b.Offsets, b.Offsets[len(b.Offsets)-1]+int32(length))
	}
	b = oneTurn(b)
	n := b.Tokens()
	b.LogProbs, b.Advantages = constant(n, -1), constant(n, .5)
	for i := range n {
		b.Values, b.OldValues, b.Returns = append(b.Values, math.Sin(float64(i))), append(b.OldValues, math.Sin(float64(i)+.1)), append(b.Returns, math.Cos(float64(i)))
	}
	for _, a := range kernels.Aggregations {
		p := policyGradient(aggregate(a), regularized(kernels.NewValue()))
		p.AggregateConst = 12
		for name, evaluate := range evaluators {
			totals := kernels.Count(b)
			whole, err := evaluate(p, b, totals)
			if err != nil {
				t.Fatal(err)
			}
			sum := 0.0
			for i := range b.Sequences() {
				part, err := evaluate(p, randombatch.Sequence(b, i), totals)
				if err != nil {
					t.Fatal(err)
				}
				sum += part.Loss
			}
			same(t, name+", "+string(a), whole.Loss, sum)
		}
	}
}
