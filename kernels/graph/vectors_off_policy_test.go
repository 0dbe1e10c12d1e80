package graph

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
)

func logs(values ...float64) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = math.Log(v)
	}
	return out
}

// drifting is a sequence with the given drifts. With A = −1 and the sum of the score-function losses, the gradient is
// the weight of each token.
func drifting(mask []int, x ...float64) kernels.Batch[float64] {
	behavior := make([]float64, len(x))
	for i := range x {
		behavior[i] = -1 - x[i]
	}
	return series(mask, kernels.Batch[float64]{LogProbs: constant(len(x), -2), Proximal: constant(len(x), -1), Behavior: behavior, Advantages: constant(len(x), -1)})
}

// weighed checks the weights that off-policy parts give, and how many tokens they keep.
func weighed(t *testing.T, b kernels.Batch[float64], want []float64, parts ...kernels.Correction) {
	t.Helper()
	kept := 0.0
	for _, w := range want {
		if w != 0 {
			kept++
		}
	}
	each(t, policyGradient(summed, offPolicy(parts...)), b, func(t *testing.T, r kernels.Result[float64]) {
		t.Helper()
		same(t, "weights", want, r.DLogProbs)
		same(t, "kept", kept, r.Metrics.Kept)
	})
}

func TestRolloutCorrectionVectors(t *testing.T) {
	var v struct {
		In struct {
			X    []float64 `json:"log_ratio_train_over_rollout"`
			Mask []int
			C    float64
		}
		Token     []float64 `json:"tis_token"`
		Sequence  []float64 `json:"tis_sequence"`
		Product   float64   `json:"mis_sequence_keep_0.5_2"`
		Geometric float64   `json:"geo_ratio"`
		GeoKeep   float64   `json:"geo_keep_0.99_1.01"`
		IcePop    []float64 `json:"icepop_token_weight_0.5_5"`
		PrimeKeep []float64 `json:"prime_2025_token_keep_0.125_8"`
		PrimeDrop float64   `json:"prime_2025_seq_drop_min<1e-4"`
		TOPR      struct {
			In struct {
				R []float64
				X []float64 `json:"seq_log_ratio"`
			}
			W []float64
		} `json:"topr_weight"`
		MeanK3 float64   `json:"seq_mean_k3"`
		M2PO   []float64 `json:"m2po_keep_tau_0.04"`
	}
	vectors(t, "rollout_correction", &v)
	b := drifting(v.In.Mask, v.In.X...)
	// at is a value at every sampled token.
	at := func(w float64) []float64 {
		out := make([]float64, len(v.In.Mask))
		for i, m := range v.In.Mask {
			out[i] = w * float64(m)
		}
		return out
	}
	tis := func(level kernels.CorrectionLevel, limit float64) kernels.TIS {
		return kernels.TIS{Level: level, Cap: limit, Normalize: kernels.NormalizeNone}
	}
	reject := func(level kernels.RejectLevel, estimator kernels.DriftEstimator, low, high float64) kernels.Reject {
		return kernels.Reject{Level: level, Estimator: estimator, Low: low, High: high}
	}
	m2po := []float64{v.M2PO[0], v.M2PO[1], v.M2PO[2], 0, v.M2PO[3]} // the file leaves out the observation
	for name, test := range map[string]struct {
		part kernels.Correction
		want []float64
	}{
		"tis token":               {tis(kernels.LevelToken, v.In.C), v.Token},
		"tis sequence":            {tis(kernels.LevelSequence, v.In.C), v.Sequence},
		"tis sequence, geometric": {tis(kernels.LevelSequenceGeometric, v.In.C), at(v.Geometric)},
		"mis":                     {reject(kernels.RejectSequenceSum, kernels.DriftK1, 0.5, 2), at(v.Product)},
		"geometric":               {reject(kernels.RejectSequenceMean, kernels.DriftK1, 0.99, 1.01), at(v.GeoKeep)},
		"icepop":                  {kernels.IcePop{Low: 0.5, High: 5}, v.IcePop},
		"prime token":             {reject(kernels.RejectToken, kernels.DriftK1, 0.125, 8), v.PrimeKeep},
		"prime veto":              {kernels.Veto{Min: 1e-4}, at(1 - v.PrimeDrop)},
		"veto":                    {kernels.Veto{Min: 0.1}, at(0)},
		"mean k3 within":          {reject(kernels.RejectSequenceMean, kernels.DriftK3, 0, v.MeanK3+1e-9), at(1)},
		"mean k3 beyond":          {reject(kernels.RejectSequenceMean, kernels.DriftK3, 0, v.MeanK3-1e-9), at(0)},
		"m2po":                    {kernels.M2PO{Tau: 0.04}, m2po},
	} {
		t.Run(name, func(t *testing.T) { weighed(t, b, test.want, test.part) })
	}
	for i, outcome := range v.TOPR.In.R {
		b := drifting([]int{1, 1}, v.TOPR.In.X[i]-0.5, 0.5)
		b.LogProbs, b.Outcomes = b.Proximal, []float64{outcome}
		p := program(kernels.TOPR{}, ratio(kernels.RatioSequenceProduct), anchor(kernels.AnchorBehavior), summed)
		each(t, p, b, func(t *testing.T, r kernels.Result[float64]) {
			same(t, "TOPR's weights", constant(2, v.TOPR.W[i]), r.DLogProbs)
		})
	}
}

func TestDecoupledVectors(t *testing.T) {
	var v struct {
		In        struct{ LogP, Prox, Behave, Adv, Eps, Cap float64 }
		Ratio     float64 `json:"ratio_prox"`
		Weight    float64 `json:"behave_weight"`
		Loss      float64
		LogLinear struct {
			In struct {
				Behavior int32 `json:"v_behave"`
				Theta    int32 `json:"v_theta"`
			}
			LogP   float64
			Linear float64 `json:"linear_variant"`
		} `json:"prox_loglinear"`
	}
	vectors(t, "decoupled_ppo", &v)
	b := oneTurn(kernels.Batch[float64]{
		Offsets: []int32{0, 1}, LogProbs: []float64{v.In.LogP}, Proximal: []float64{v.In.Prox}, Behavior: []float64{v.In.Behave}, Advantages: []float64{v.In.Adv},
		Versions: []int32{v.LogLinear.In.Behavior}, Version: v.LogLinear.In.Theta,
	})
	weight := kernels.BehaviorWeight{Level: kernels.LevelToken, Action: kernels.ActionClamp, Low: 0, High: 5}
	each(t, ppo(offPolicy(weight)), b, func(t *testing.T, r kernels.Result[float64]) {
		same(t, "ratio, weight, loss", []float64{v.Ratio, v.Weight, v.Loss}, []float64{r.Metrics.RatioSum, r.Metrics.WeightSum, r.Loss})
	})
	for a, want := range map[kernels.Anchor]float64{kernels.AnchorLogLinear: v.LogLinear.LogP, kernels.AnchorLinear: v.LogLinear.Linear} {
		each(t, ppo(anchor(a)), b, func(t *testing.T, r kernels.Result[float64]) {
			same(t, "anchor "+string(a), want, v.In.LogP-math.Log(r.Metrics.RatioSum))
		})
	}
}

// Numbers of SkyRL's test_off_policy_correction.py, given to four places.
func TestPeerOffPolicyVectors(t *testing.T) {
	all := []int{1, 1, 1}
	tis := func(level kernels.CorrectionLevel, limit float64) kernels.Correction {
		return kernels.TIS{Level: level, Cap: limit, Normalize: kernels.NormalizeNone}
	}
	k1 := func(level kernels.RejectLevel, low, high float64) kernels.Correction {
		return kernels.Reject{Level: level, Estimator: kernels.DriftK1, Low: low, High: high}
	}
	// A whole sequence goes where one ratio is less than 1e-4 or more than 100: a veto below, and k3 grows with the
	// ratio above.
	outliers := []kernels.Correction{
		kernels.Veto{Min: 1e-4}, kernels.Reject{Level: kernels.RejectSequenceMax, Estimator: kernels.DriftK3, High: 100 - 1 - math.Log(100)},
	}
	for name, test := range map[string]struct {
		mask  []int
		x     []float64
		parts []kernels.Correction
		want  []float64
	}{
		"TIS token":                    {all, []float64{.5, -.5, 1}, []kernels.Correction{tis(kernels.LevelToken, 2)}, []float64{math.Exp(.5), math.Exp(-.5), 2}},
		"TIS sequence":                 {all, []float64{.5, -.5, 1}, []kernels.Correction{tis(kernels.LevelSequence, 5)}, constant(3, math.E)},
		"TIS sequence at its cap":      {all, []float64{1, 1, 1}, []kernels.Correction{tis(kernels.LevelSequence, 5)}, constant(3, 5)},
		"TIS sequence, observation":    {[]int{1, 0, 1}, []float64{.5, -.5, 1}, []kernels.Correction{tis(kernels.LevelSequence, 10)}, []float64{math.Exp(1.5), 0, math.Exp(1.5)}},
		"geometric mask keeps":         {all, []float64{.1, -.1, 0}, []kernels.Correction{k1(kernels.RejectSequenceMean, .9, 1.1)}, constant(3, 1)},
		"geometric mask rejects":       {all, []float64{.5, .5, .5}, []kernels.Correction{k1(kernels.RejectSequenceMean, .9, 1.1)}, constant(3, 0)},
		"product mask keeps":           {all, []float64{.1, .1, .1}, []kernels.Correction{k1(kernels.RejectSequenceSum, .5, 2)}, constant(3, 1)},
		"product mask rejects":         {all, []float64{1, 1, 1}, []kernels.Correction{k1(kernels.RejectSequenceSum, .5, 2)}, constant(3, 0)},
		"outlier":                      {all, []float64{0, 0, 5}, outliers, constant(3, 0)},
		"outlier that was not sampled": {[]int{1, 1, 0}, []float64{0, 0, 5}, outliers, []float64{1, 1, 0}},
		"no outlier":                   {all, []float64{0, -9, 4.6}, outliers, constant(3, 1)},
	} {
		t.Run(name, func(t *testing.T) { weighed(t, drifting(test.mask, test.x...), test.want, test.parts...) })
	}
	// CISPO on the rollout's own log-probabilities has the drift in its ratio: weighing by it again is refused.
	p := program(kernels.CISPO{ClipLow: 0.2, ClipHigh: 0.2}, anchor(kernels.AnchorBehavior), offPolicy(tis(kernels.LevelToken, 2)))
	if err := p.Validate(); err == nil {
		t.Error("CISPO with anchor behavior and TIS counts the drift twice and is accepted")
	}
}

// The examples of TRL's tests of its entropy mask and its off-policy mask.
func TestPeerMaskVectors(t *testing.T) {
	entropies := []float64{.1, .2, .3, .4, .5, .6, .7, .8, .9, 1, 1.1, 1.2}
	b := kernels.Batch[float64]{Offsets: []int32{0, 6, 12}, LogProbs: constant(12, -1), Advantages: constant(12, -1), Entropy: entropies}
	for i := range entropies {
		b.Sampled, b.Turn = append(b.Sampled, i < 10), append(b.Turn, 0)
	}
	for quantile, want := range map[float64][]float64{
		0.8: {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0}, 0: {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0}, 1: {0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0},
	} {
		each(t, policyGradient(summed, masked(kernels.EntropyQuantile{Keep: 1 - quantile})), b, func(t *testing.T, r kernels.Result[float64]) {
			same(t, "kept", want, r.DLogProbs)
		})
	}
	for _, test := range []struct{ advantage, drift, keep float64 }{{1, 2, 1}, {-1, .5, 1}, {-1, 2, 0}} {
		b := series([]int{1, 1, 0}, kernels.Batch[float64]{
			LogProbs: []float64{-3, -3, math.NaN()}, Behavior: []float64{-3 + 1.5*test.drift, -3 + .5*test.drift, math.NaN()}, Advantages: constant(3, test.advantage),
		})
		each(t, policyGradient(summed, masked(kernels.NegativeDrift{Threshold: 1})), b, func(t *testing.T, r kernels.Result[float64]) {
			same(t, "gradient", []float64{-test.advantage * test.keep, -test.advantage * test.keep, 0}, r.DLogProbs)
		})
	}
}
