package ref

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestDivergencesByHand(t *testing.T) {
	b := row([]float64{0, 0}, ln2, -ln4)
	kl := func(edit func(*kernels.KL)) func(*kernels.Program) {
		part := kernels.NewKL()
		part.Coef = 2
		edit(&part)
		return with(part)
	}
	estimator := func(e kernels.Divergence) func(*kernels.Program) { return kl(func(k *kernels.KL) { k.Estimator = e }) }
	// Values at ratios of reference over current ½ and 4.
	k3 := []float64{0.5 + ln2 - 1, 4 - ln4 - 1}
	weighted := b
	weighted.ReferenceKLWeights, weighted.CEWeights = []float64{3, 1}, []float64{0, 0}
	imitated := b
	imitated.CEWeights = []float64{1, 4}
	value := func(v float64) func(kernels.Metrics) bool {
		return func(m kernels.Metrics) bool { return about(m.ReferenceKLSum, v) }
	}
	check(t, []worked{
		{"k1", plain(estimator(kernels.KLK1)), b, 2 * (ln2 - ln4), []float64{2, 2}, value(-ln2)},
		{"k2", plain(estimator(kernels.KLK2)), b, ln2*ln2 + ln4*ln4, []float64{2 * ln2, -2 * ln4}, nil},
		{"k3", plain(estimator(kernels.KLK3)), b, 2 * (k3[0] + k3[1]), []float64{1, -6}, value(k3[0] + k3[1])},
		{"abs", plain(estimator(kernels.KLAbs)), b, 2 * (ln2 + ln4), []float64{2, -2}, nil},
		{"k1+", plain(estimator(kernels.KLK1Plus)), b, 2 * (ln2 - ln4), []float64{2 * ln2, -2 * ln4}, nil},
		{"k3+", plain(estimator(kernels.KLK3Plus)), b, 2 * (k3[0] + k3[1]), []float64{2 * ln2, -2 * ln4}, nil},
		{"abs+", plain(estimator(kernels.KLAbsPlus)), b, 2 * (ln2 + ln4), []float64{2 * ln2, -2 * ln4}, nil},
		{"clamped", plain(kl(func(k *kernels.KL) { k.Clamp = 1 })), b, 2 * (k3[0] + math.E - 2), []float64{1, 0}, nil},
		{"bounded", plain(kl(func(k *kernels.KL) { k.Bound = 1 })), b, 2 * (k3[0] + 1), []float64{1, 0}, nil},
		{"bounded, with the gradient of k2", plain(kl(func(k *kernels.KL) { k.Bound, k.Estimator = 1, kernels.KLK3Plus })), b, 2 * (k3[0] + 1), []float64{2 * ln2, -2 * ln4}, nil},
		{"unlimited", plain(kl(func(k *kernels.KL) { k.Clamp, k.Bound = 0, 0 })), row([]float64{0}, -25), 2 * (math.Exp(25) - 26), []float64{2 - 2*math.Exp(25)}, nil},
		{"limited", plain(kl(func(k *kernels.KL) {})), row([]float64{0}, -25), 20, []float64{0}, nil},
		{"reference_kl", plain(with(kernels.ReferenceKL{Estimator: kernels.KLK2, Coef: 2})), weighted, (3*ln2*ln2 + ln4*ln4) / 4, []float64{1.5 * ln2, -0.5 * ln4}, value((3*ln2*ln2 + ln4*ln4) / 2)},
		{"cross_entropy of nothing", plain(with(kernels.AuxiliaryCE{Coef: 2})), weighted, 0, []float64{0, 0}, nil},
		{"cross_entropy", plain(with(kernels.AuxiliaryCE{Coef: 2})), imitated, 2, []float64{-0.4, -1.6}, nil},
		{"squared log-ratio", plain(with(kernels.SquaredLogRatio{Coef: 2})), b, 2 * (ln2*ln2 + ln4*ln4), []float64{4 * ln2, -4 * ln4}, nil},
	})
}

func TestValuesByHand(t *testing.T) {
	b := row([]float64{0, 0, 0, 0}, 0, 0, 0, 0)
	b.Returns, b.OldValues = []float64{0, 0, 0, 0}, []float64{1, 1, 4, 1}
	b.Values = []float64{1.1, 3, 3, -1} // within; beyond and worse; beyond, and better than clipped; beyond, and clipped is better
	for _, c := range []struct {
		name   string
		part   kernels.Value
		loss   float64
		slopes []float64
	}{
		{"squared", kernels.Value{Coef: 4, Loss: kernels.ValueSquared, Delta: 10}, (1.21 + 9 + 9 + 1) / 2, []float64{1.1, 3, 3, -1}},
		{"clipped", kernels.Value{Coef: 4, Clip: 0.5, Loss: kernels.ValueSquared, Delta: 10}, (1.21 + 9 + 3.5*3.5 + 1) / 2, []float64{1.1, 3, 0, -1}},
		{"huber", kernels.Value{Coef: 4, Loss: kernels.ValueHuber, Delta: 2}, 1.21/2 + 4 + 4 + 0.5, []float64{1.1, 2, 2, -1}},
		{"clipped huber", kernels.Value{Coef: 4, Clip: 0.5, Loss: kernels.ValueHuber, Delta: 2}, 1.21/2 + 4 + 5 + 0.5, []float64{1.1, 2, 0, -1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Four tokens and a coefficient of 4: the mean is the sum, whatever the aggregation.
			for _, aggregate := range []kernels.Aggregation{kernels.TokenSum, kernels.SequenceSumConst} {
				got, err := Evaluate(plain(with(c.part), aggregated(aggregate)), b, kernels.Count(b))
				if err != nil {
					t.Fatal(err)
				}
				if !about(got.Loss, c.loss) || !about(got.Metrics.ValueErrorSum, 1.21+9+9+1) {
					t.Errorf("loss %v, want %v; metrics %+v", got.Loss, c.loss, got.Metrics)
				}
				if diff := cmp.Diff(c.slopes, got.DValues, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
					t.Errorf("gradient (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// Each component has its own denominator, that of the whole update.
func TestTotalsOfTheUpdate(t *testing.T) {
	b := row([]float64{1, 1}, ln2, ln2)
	b.CEWeights, b.ReferenceKLWeights, b.LossWeights, b.Values, b.Returns = []float64{1, 1}, []float64{1, 1}, []float64{1, 3}, []float64{1, 1}, []float64{0, 0}
	totals := kernels.Count(b).Add(kernels.Totals{Tokens: 6, Sequences: 3, LossWeight: 12, CEWeight: 6, ReferenceKLWeight: 14})
	for name, c := range map[string]struct {
		p    kernels.Program
		loss float64
	}{
		"tokens":       {plain(aggregated(kernels.TokenMean)), 4 / 8.},
		"sequences":    {plain(aggregated(kernels.SequenceMeanTokenSum)), 4 / 4.},
		"loss weights": {plain(aggregated(kernels.WeightedMean)), 4 / 16.},
		"imitation":    {plain(with(kernels.AuxiliaryCE{Coef: 1})), 4 + 2/8.},
		"reference":    {plain(with(kernels.ReferenceKL{Estimator: kernels.KLK1, Coef: 1})), 4 + 2*ln2/16},
		"critic":       {plain(with(kernels.Value{Coef: 1, Loss: kernels.ValueSquared, Delta: 1})), 4 + 1/8.},
	} {
		got, err := Evaluate(c.p, b, totals)
		if err != nil {
			t.Fatal(err)
		}
		if !about(got.Loss, c.loss) {
			t.Errorf("%s: loss %v, want %v", name, got.Loss, c.loss)
		}
	}
}
