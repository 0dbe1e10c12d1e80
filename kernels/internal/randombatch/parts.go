package randombatch

import (
	"github.com/turnwise-rl/turnwise/kernels"

	"pgregory.net/rapid"
)

// Settings are drawn such that both sides of every bound are met often by the batches that Batch draws.
var (
	clipLows  = []float64{0, 3e-4, 0.2, 1}
	clipHighs = []float64{0, 4e-4, 0.2, 0.28, 5}
	coefs     = []float64{0, 0.001, 1}
)

// objective draws the settings of an objective.
func objective(t *rapid.T, name string) kernels.Objective {
	low, high := pick(t, "clip_low", clipLows), pick(t, "clip_high", clipHighs)
	beta := pick(t, "beta", []float64{0.1, 0.5, 2})
	switch name {
	case "clip":
		return kernels.Clip{ClipLow: low, ClipHigh: high, DualClip: pick(t, "dual_clip", []float64{0, 1.5, 3})}
	case "clip_keep":
		return kernels.ClipKeep{ClipLow: low, ClipHigh: high}
	case "reinforce":
		return kernels.Reinforce{Tau: pick(t, "tau", []float64{0, 0, 0.1, 1})}
	case "cispo":
		return kernels.CISPO{ClipLow: low, ClipHigh: high}
	case "sapo":
		return kernels.SAPO{TauPositive: pick(t, "tau_positive", []float64{1, 3}), TauNegative: pick(t, "tau_negative", []float64{1.05, 0.5})}
	case "gmpo":
		return kernels.GMPO{ClipLow: low, ClipHigh: high}
	case "dppo":
		return kernels.DPPO{Low: pick(t, "low", []float64{0.01, 0.2}), High: pick(t, "high", []float64{0.02, 0.2}), Symmetric: rapid.Bool().Draw(t, "symmetric")}
	case "dro":
		return kernels.DRO{Beta: beta}
	case "topr":
		return kernels.TOPR{}
	case "distill":
		return kernels.Distill{DropBelow: pick(t, "drop_below", []float64{0.01, 0.2})}
	case "clip_cov":
		return kernels.ClipCov{
			ClipLow: low, ClipHigh: high, Share: pick(t, "share", []float64{0, 0.2, 0.7}), Low: pick(t, "low", []float64{-1, 0.5}),
			High: 5, Seed: rapid.Uint64().Draw(t, "seed"),
		}
	case "kl_cov":
		return kernels.KLCov{Share: pick(t, "share", []float64{0, 0.2, 0.7}), Coef: pick(t, "coef", coefs)}
	case "cross_entropy":
		return kernels.CrossEntropy{}
	case "dpo":
		return kernels.DPO{Beta: beta, ImitateCoef: pick(t, "imitate_coef", coefs)}
	case "ipo":
		return kernels.IPO{Beta: beta}
	case "dmpo":
		return kernels.DMPO{
			Beta: beta, Discount: pick(t, "discount", []float64{0.5, 0.9}), Margin: pick(t, "margin", []float64{0, 0.3}),
			LengthNormalize: rapid.Bool().Draw(t, "length_normalize"),
		}
	case "rank":
		return kernels.Rank{Coef: pick(t, "coef", coefs), LengthPower: pick(t, "length_power", []float64{0, 0.5, 1}), BestCoef: pick(t, "best_coef", coefs)}
	}
	t.Fatalf("randombatch draws no objective %q", name)
	return nil
}

// corrections draws off-policy parts, none in half of the programs. At most one weighs, none under anchor behavior
// with a ratio.
func (d Draw) corrections(t *rapid.T, p kernels.Program) []kernels.Correction {
	var corrections []kernels.Correction
	if rapid.Bool().Draw(t, "on-policy") {
		return nil
	}
	for _, name := range namesOf(kernels.CorrectionTable) {
		if !oneIn(t, 3, name) {
			continue
		}
		c := d.correction(t, name)
		weighed := p.UsesAnchor() && p.Anchor == kernels.AnchorBehavior
		for _, other := range corrections {
			weighed = weighed || other.Weighs()
		}
		if c.Weighs() && weighed || d.OneSequence && c.Scope() == kernels.WholeUpdate {
			continue
		}
		corrections = append(corrections, c)
	}
	return corrections
}

func (d Draw) correction(t *rapid.T, name string) kernels.Correction {
	switch name {
	case "tis":
		normalizations := kernels.Normalizations
		if d.OneSequence {
			normalizations = normalizations[:1]
		}
		return kernels.TIS{Level: pick(t, "level", kernels.CorrectionLevels), Cap: pick(t, "cap", []float64{0.9, 1.2, 2}), Normalize: pick(t, "normalize", normalizations)}
	case "reject":
		c := kernels.Reject{Level: pick(t, "level", kernels.RejectLevels), Estimator: pick(t, "estimator", kernels.DriftEstimators)}
		c.Low, c.High = pick(t, "low", []float64{0, 0.8, 0.99}), pick(t, "high", []float64{1.01, 1.3})
		switch {
		case c.Estimator != kernels.DriftK1:
			c.High = pick(t, "bound", []float64{0.01, 0.1})
		case c.Level == kernels.RejectSequenceMax:
			c.Level = kernels.RejectSequenceSum
		}
		return c
	case "icepop":
		return kernels.IcePop{Low: 0.8, High: pick(t, "high", []float64{1.2, 5})}
	case "veto":
		return kernels.Veto{Min: pick(t, "min", []float64{1e-4, 0.6})}
	case "m2po":
		return kernels.M2PO{Tau: pick(t, "tau", []float64{0.04, 0.1})}
	case "behavior_weight":
		return kernels.BehaviorWeight{
			Level:  pick(t, "level", []kernels.CorrectionLevel{kernels.LevelToken, kernels.LevelSequenceGeometric}),
			Action: pick(t, "action", kernels.BoundActions), Low: pick(t, "low", []float64{0, 0.9}), High: pick(t, "high", []float64{1.1, 5}),
		}
	}
	t.Fatalf("randombatch draws no off_policy %q", name)
	return nil
}

// masks draws loss masks, none in half of the programs.
func (d Draw) masks(t *rapid.T, p kernels.Program) []kernels.Mask {
	var masks []kernels.Mask
	for _, name := range namesOf(kernels.MaskTable) {
		if !oneIn(t, 4, name) {
			continue
		}
		switch name {
		case "entropy_quantile":
			bySequence := p.Ratio == kernels.RatioSequenceGeometric || p.Ratio == kernels.RatioSequenceProduct
			if !d.OneSequence && !bySequence {
				masks = append(masks, kernels.EntropyQuantile{Keep: pick(t, "keep", []float64{0, 0.2, 0.7, 1})})
			}
		case "negative_drift":
			masks = append(masks, kernels.NegativeDrift{Threshold: pick(t, "threshold", []float64{0, 0.1})})
		default:
			t.Fatalf("randombatch draws no mask %q", name)
		}
	}
	return masks
}

// regularizers draws a subset of the table.
func regularizers(t *rapid.T) []kernels.Regularizer {
	var terms []kernels.Regularizer
	for _, name := range namesOf(kernels.RegularizerTable) {
		if !oneIn(t, 4, name) {
			continue
		}
		coef := pick(t, "coef", coefs)
		switch name {
		case "kl":
			terms = append(terms, kernels.KL{
				Estimator: pick(t, "estimator", kernels.Divergences), Coef: coef,
				Clamp: pick(t, "clamp", []float64{0, 0.3, 20}), Bound: pick(t, "bound", []float64{0, 0.05, 10}),
			})
		case "entropy":
			terms = append(terms, kernels.Entropy{Coef: pick(t, "entropy_coef", []float64{0, 0.01, -0.5})})
		case "squared_log_ratio":
			terms = append(terms, kernels.SquaredLogRatio{Coef: coef})
		case "cross_entropy":
			terms = append(terms, kernels.AuxiliaryCE{Coef: coef})
		case "reference_kl":
			terms = append(terms, kernels.ReferenceKL{Estimator: pick(t, "estimator", kernels.Divergences), Coef: coef})
		case "value":
			terms = append(terms, kernels.Value{
				Coef: coef, Clip: pick(t, "clip", []float64{0, 0.2}), Loss: pick(t, "loss", kernels.ValueLosses), Delta: pick(t, "delta", []float64{0.4, 10}),
			})
		default:
			t.Fatalf("randombatch draws no regularizer %q", name)
		}
	}
	return terms
}
