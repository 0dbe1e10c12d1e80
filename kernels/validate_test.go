package kernels_test

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
)

// clip is a program that every test starts from.
var clip = kernels.Program{
	Ratio: kernels.RatioToken, RatioGradient: kernels.GradientOwn, Anchor: kernels.AnchorProximal,
	Objective: kernels.Clip{ClipLow: 0.2, ClipHigh: 0.28}, Rejected: kernels.RejectedStay, Aggregate: kernels.TokenMean,
}

type edit = func(*kernels.Program)

func objective(o kernels.Objective) edit { return func(p *kernels.Program) { p.Objective = o } }

// unrated is an objective without a ratio.
func unrated(o kernels.Objective) edit {
	return func(p *kernels.Program) { p.Objective, p.Ratio = o, kernels.RatioOne }
}

func offPolicy(parts ...kernels.Correction) edit {
	return func(p *kernels.Program) { p.OffPolicy = parts }
}

func masks(parts ...kernels.Mask) edit { return func(p *kernels.Program) { p.Mask = parts } }

func regularizers(parts ...kernels.Regularizer) edit {
	return func(p *kernels.Program) { p.Regularizers = parts }
}

// expectError compares the validation error of clip with edits.
func expectError(t *testing.T, want string, edits ...edit) {
	t.Helper()
	p := clip
	for _, edit := range edits {
		edit(&p)
	}
	got := ""
	if err := p.Validate(); err != nil {
		got = err.Error()
	}
	if got != want {
		t.Errorf("%s\nerror %q\nwant  %q", p, got, want)
	}
}

func TestSettingErrorsBeginWithTheKey(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	tis := kernels.TIS{Level: kernels.LevelToken, Cap: 2, Normalize: kernels.NormalizeNone}
	for _, c := range []struct {
		want string
		edit edit
	}{
		{"", func(p *kernels.Program) {}},
		{`ratio: unknown value "": use one of token, turn, sequence-geometric, sequence-product, one`, func(p *kernels.Program) { p.Ratio = "" }},
		{`ratio_gradient: unknown value "all": use one of own, segment`, func(p *kernels.Program) { p.RatioGradient = "all" }},
		{`anchor: unknown value "old": use one of proximal, behavior, loglinear, linear`, func(p *kernels.Program) { p.Anchor = "old" }},
		{`rejected: unknown value "go": use one of stay, leave`, func(p *kernels.Program) { p.Rejected = "go" }},
		{`aggregate: unknown value "mean": use one of token-mean, token-sum, weighted-mean, seq-mean-token-sum, seq-mean-token-mean, seq-sum-const, step-mean`,
			func(p *kernels.Program) { p.Aggregate = "mean" }},
		{"aggregate_const: NaN is not a finite number", func(p *kernels.Program) { p.AggregateConst = nan }},
		{"objective: missing", objective(nil)},
		{"off_policy[1]: missing", offPolicy(kernels.Veto{Min: 0.1}, nil)},
		{"mask[0]: missing", masks(nil)},
		{"regularizers[0]: missing", regularizers(nil)},

		{"objective.clip_low: 1.5 is outside [0, 1]: the ratio is bounded below by 1 − clip_low", objective(kernels.Clip{ClipLow: 1.5})},
		{"objective.clip_high: NaN is not a finite number", objective(kernels.Clip{ClipHigh: nan})},
		{"objective.clip_high: -0.1 is negative: the ratio is bounded above by 1 + clip_high", objective(kernels.CISPO{ClipHigh: -0.1})},
		{"objective.dual_clip: 1 must be greater than 1, or 0 to turn it off", objective(kernels.Clip{DualClip: 1})},
		{"objective.dual_clip: +Inf is not a finite number", objective(kernels.Clip{DualClip: inf})},
		{"objective.clip_low: -1 is outside [0, 1]: the ratio is bounded below by 1 − clip_low", objective(kernels.ClipKeep{ClipLow: -1})},
		{"objective.tau: -1 is negative", objective(kernels.Reinforce{Tau: -1})},
		{"objective.tau_positive: 0 must be positive", objective(kernels.SAPO{TauNegative: 1})},
		{"objective.tau_negative: -2 must be positive", objective(kernels.SAPO{TauPositive: 1, TauNegative: -2})},
		{"objective.clip_low: -0.4 is negative", objective(kernels.GMPO{ClipLow: -0.4})},
		{"objective.clip_high: -0.4 is negative", objective(kernels.GMPO{ClipHigh: -0.4})},
		{"objective.low: -0.2 is negative", objective(kernels.DPPO{Low: -0.2})},
		{"objective.high: NaN is not a finite number", objective(kernels.DPPO{High: nan})},
		{"objective.beta: 0 must be positive", objective(kernels.DRO{})},
		{"objective.drop_below: -1 is negative", objective(kernels.Distill{DropBelow: -1})},
		{"objective.share: 1.5 is outside [0, 1]", objective(kernels.ClipCov{Share: 1.5})},
		{"objective.share: NaN is outside [0, 1]", objective(kernels.KLCov{Share: nan})},
		{"objective.low: +Inf is not a finite number", objective(kernels.ClipCov{Low: inf})},
		{"objective.high: 1 must be more than low, 1", objective(kernels.ClipCov{Low: 1, High: 1})},
		{"objective.coef: -1 is negative", objective(kernels.KLCov{Coef: -1})},
		{"objective.beta: -0.1 must be positive", unrated(kernels.DPO{Beta: -0.1})},
		{"objective.imitate_coef: -1 is negative", unrated(kernels.DPO{Beta: 0.1, ImitateCoef: -1})},
		{"objective.beta: 0 must be positive", unrated(kernels.IPO{})},
		{"objective.beta: 0 must be positive", unrated(kernels.DMPO{})},
		{"objective.discount: 1 is outside (0, 1)", unrated(kernels.DMPO{Beta: 1, Discount: 1})},
		{"objective.margin: NaN is not a finite number", unrated(kernels.DMPO{Beta: 1, Discount: 0.5, Margin: nan})},
		{"objective.coef: -1 is negative", unrated(kernels.Rank{Coef: -1})},
		{"objective.length_power: -1 is negative", unrated(kernels.Rank{LengthPower: -1})},
		{"objective.best_coef: -1 is negative", unrated(kernels.Rank{BestCoef: -1})},

		{`off_policy[0].level: unknown value "turn": use one of token, sequence, sequence-geometric`, offPolicy(kernels.TIS{Level: "turn"})},
		{`off_policy[0].normalize: unknown value "": use one of none, tokens, sequences`, offPolicy(kernels.TIS{Level: kernels.LevelToken})},
		{"off_policy[0].cap: 0 must be positive", offPolicy(kernels.TIS{Level: kernels.LevelToken, Normalize: kernels.NormalizeNone})},
		{`off_policy[1].level: unknown value "": use one of token, sequence-sum, sequence-mean, sequence-max`, offPolicy(tis, kernels.Reject{})},
		{`off_policy[0].estimator: unknown value "k4": use one of k1, k2, k3`, offPolicy(kernels.Reject{Level: kernels.RejectToken, Estimator: "k4"})},
		{"off_policy[0].low: 2 must be less than high, 2", offPolicy(kernels.Reject{Level: kernels.RejectToken, Estimator: kernels.DriftK1, Low: 2, High: 2})},
		{"off_policy[0].low: 1.1 is above 1, the ratio of what did not drift", offPolicy(kernels.Reject{Level: kernels.RejectToken, Estimator: kernels.DriftK1, Low: 1.1, High: 2})},
		{"off_policy[0].high: 0.9 is below 1, the ratio of what did not drift", offPolicy(kernels.IcePop{Low: 0.1, High: 0.9})},
		{"off_policy[0].low: -0.1 is negative", offPolicy(kernels.IcePop{Low: -0.1, High: 0.9})},
		{"off_policy[0].low: 0 to high: 1e+09 holds every ratio, so that nothing is rejected: use closer bounds, such as 0.5 and 2",
			offPolicy(kernels.Reject{Level: kernels.RejectSequenceSum, Estimator: kernels.DriftK1, High: 1e9})},
		{"off_policy[0].estimator: k1 has two bounds and no maximum: use k2 or k3 with level sequence-max",
			offPolicy(kernels.Reject{Level: kernels.RejectSequenceMax, Estimator: kernels.DriftK1, Low: 0.5, High: 2})},
		{"off_policy[0].high: 0 must be positive", offPolicy(kernels.Reject{Level: kernels.RejectSequenceMax, Estimator: kernels.DriftK2})},
		{"off_policy[0].high: 200 is never exceeded, as k2 of a token is at most 200: use a smaller bound",
			offPolicy(kernels.Reject{Level: kernels.RejectSequenceMax, Estimator: kernels.DriftK2, High: 200})},
		{"off_policy[0].high: 1e+09 is never exceeded, as k3 of a token is at most 4.85e+08: use a smaller bound",
			offPolicy(kernels.Reject{Level: kernels.RejectToken, Estimator: kernels.DriftK3, High: 1e9})},
		{"", offPolicy(kernels.Reject{Level: kernels.RejectSequenceSum, Estimator: kernels.DriftK2, High: 300})},
		{"off_policy[0].min: 1e-09 never drops a sequence, as a ratio is at least 2.1e-09: use a ratio such as 1e-4", offPolicy(kernels.Veto{Min: 1e-9})},
		{"off_policy[0].min: NaN never drops a sequence, as a ratio is at least 2.1e-09: use a ratio such as 1e-4", offPolicy(kernels.Veto{Min: nan})},
		{"off_policy[0].min: 2 drops what did not drift at all: use a ratio of at most 1, such as 1e-4", offPolicy(kernels.Veto{Min: 2})},
		{"off_policy[0].tau: 0 must be positive", offPolicy(kernels.M2PO{})},
		{"off_policy[0].tau: 401 never drops a token, as a squared drift is at most 400", offPolicy(kernels.M2PO{Tau: 401})},
		{`off_policy[0].level: unknown value "sequence": use token or sequence-geometric`, offPolicy(kernels.BehaviorWeight{Level: kernels.LevelSequence})},
		{`off_policy[0].action: unknown value "drop": use one of clamp, mask`, offPolicy(kernels.BehaviorWeight{Level: kernels.LevelToken, Action: "drop"})},
		{"off_policy[0].high: 0 must be positive", offPolicy(kernels.BehaviorWeight{Level: kernels.LevelToken, Action: kernels.ActionMask})},

		{"mask[0].keep: 1.2 is outside [0, 1]", masks(kernels.EntropyQuantile{Keep: 1.2})},
		{"mask[0].threshold: -1 is negative", masks(kernels.NegativeDrift{Threshold: -1})},

		{`regularizers[0].estimator: unknown value "k4": use one of k1, k2, k3, abs, k1+, k3+, abs+`, regularizers(kernels.KL{Estimator: "k4"})},
		{"regularizers[0].coef: -1 is negative", regularizers(kernels.KL{Estimator: kernels.KLK3, Coef: -1})},
		{"regularizers[0].clamp: -1 is negative", regularizers(kernels.KL{Estimator: kernels.KLK3, Clamp: -1})},
		{"regularizers[0].bound: NaN is not a finite number", regularizers(kernels.KL{Estimator: kernels.KLK3, Bound: nan})},
		{"regularizers[0].coef: +Inf is not a finite number", regularizers(kernels.Entropy{Coef: inf})},
		{"", regularizers(kernels.Entropy{Coef: -1})},
		{"regularizers[0].coef: -1 is negative", regularizers(kernels.SquaredLogRatio{Coef: -1})},
		{"regularizers[0].coef: -1 is negative", regularizers(kernels.AuxiliaryCE{Coef: -1})},
		{`regularizers[0].estimator: unknown value "": use one of k1, k2, k3, abs, k1+, k3+, abs+`, regularizers(kernels.ReferenceKL{})},
		{"regularizers[0].coef: -1 is negative", regularizers(kernels.ReferenceKL{Estimator: kernels.KLK1, Coef: -1})},
		{`regularizers[0].loss: unknown value "": use one of squared, huber`, regularizers(kernels.Value{})},
		{"regularizers[0].coef: -1 is negative", regularizers(kernels.Value{Loss: kernels.ValueHuber, Coef: -1})},
		{"regularizers[0].clip: -1 is negative", regularizers(kernels.Value{Loss: kernels.ValueHuber, Clip: -1})},
		{"regularizers[0].delta: 0 must be positive", regularizers(kernels.Value{Loss: kernels.ValueHuber})},
	} {
		expectError(t, c.want, c.edit)
	}
}

func TestPartsThatDoNotFitNameBothPlaces(t *testing.T) {
	ratio := func(r kernels.Ratio) edit { return func(p *kernels.Program) { p.Ratio = r } }
	segment := func(p *kernels.Program) { p.RatioGradient = kernels.GradientSegment }
	behavior := func(p *kernels.Program) { p.Anchor = kernels.AnchorBehavior }
	aggregate := func(a kernels.Aggregation) edit { return func(p *kernels.Program) { p.Aggregate = a } }
	leave := func(p *kernels.Program) { p.Rejected = kernels.RejectedLeave }
	tis := kernels.TIS{Level: kernels.LevelToken, Cap: 2, Normalize: kernels.NormalizeNone}
	icepop, veto := kernels.IcePop{Low: 0.5, High: 5}, kernels.Veto{Min: 1e-4}
	quantile, drift := kernels.EntropyQuantile{Keep: 0.2}, kernels.NegativeDrift{Threshold: 1}
	geometric := kernels.Reject{Level: kernels.RejectSequenceMean, Estimator: kernels.DriftK1, Low: 0.99, High: 1.01}
	product := geometric
	product.Level = kernels.RejectSequenceSum
	for _, c := range []struct {
		want  string
		edits []edit
	}{
		{"aggregate_const: 0 must be positive when aggregate is seq-sum-const", []edit{aggregate(kernels.SequenceSumConst)}},
		{"rejected: leave has no effect where off_policy and mask are empty and nothing rejects: set it to stay, or add a part", []edit{leave}},
		{"rejected: leave has no effect with aggregate token-sum, whose denominator counts no tokens: set it to stay", []edit{leave, offPolicy(veto), aggregate(kernels.TokenSum)}},
		{"", []edit{leave, offPolicy(veto)}},
		{"", []edit{leave, masks(drift), aggregate(kernels.StepMean)}},

		{"ratio: token has no effect with objective.type cross_entropy: set it to one", []edit{objective(kernels.CrossEntropy{})}},
		{"ratio: token has no effect with objective.type dpo: set it to one", []edit{objective(kernels.DPO{Beta: 0.1})}},
		{"ratio: token does not fit objective.type gmpo, a mean over the sequence: set it to sequence-geometric", []edit{objective(kernels.GMPO{})}},
		{"ratio: turn does not fit objective.type dppo, which compares tokens: set it to token", []edit{objective(kernels.DPPO{}), ratio(kernels.RatioTurn)}},
		{"ratio: one does not fit objective.type distill, which compares tokens: set it to token", []edit{objective(kernels.Distill{}), ratio(kernels.RatioOne)}},
		{"ratio: sequence-product does not fit objective.type dro, which compares tokens: set it to token", []edit{objective(kernels.DRO{Beta: 1}), ratio(kernels.RatioSequenceProduct)}},
		{"ratio: turn does not fit objective.type kl_cov, which ranks tokens: set it to token", []edit{objective(kernels.KLCov{}), ratio(kernels.RatioTurn)}},
		{"ratio: one does not fit objective.type clip_cov, which ranks tokens: set it to token", []edit{objective(kernels.ClipCov{High: 1}), ratio(kernels.RatioOne)}},
		{"ratio: one leaves objective.type clip nothing to bound: set it to token, or objective.type to reinforce", []edit{ratio(kernels.RatioOne)}},
		{"ratio: one leaves objective.type topr nothing to bound: set it to token, or objective.type to reinforce", []edit{objective(kernels.TOPR{}), ratio(kernels.RatioOne)}},
		{"objective.tau: 0.5 has no effect with ratio one: set it to 0, or ratio to token", []edit{objective(kernels.Reinforce{Tau: 0.5}), ratio(kernels.RatioOne)}},
		{"ratio_gradient: segment has no segment with ratio token: set it to own, or ratio to turn or sequence-geometric", []edit{segment}},
		{"ratio_gradient: segment has no effect with objective.type cispo, through whose ratio no gradient flows: set it to own",
			[]edit{segment, objective(kernels.CISPO{}), ratio(kernels.RatioTurn)}},
		{"ratio_gradient: segment has no effect with objective.type gmpo, whose gradient flows through its mean anyway: set it to own",
			[]edit{segment, objective(kernels.GMPO{}), ratio(kernels.RatioSequenceGeometric)}},
		{"", []edit{segment, ratio(kernels.RatioSequenceProduct)}},

		{"off_policy[0]: objective.type dpo is not importance-weighted: remove off_policy", []edit{unrated(kernels.DPO{Beta: 0.1}), offPolicy(veto)}},
		{"off_policy[1].type: tis weighs by the drift that anchor behavior has in the ratio already: it would count double; set anchor to proximal or remove the part",
			[]edit{behavior, offPolicy(veto, tis)}},
		{"", []edit{behavior, offPolicy(veto, geometric)}},
		{"", []edit{behavior, offPolicy(tis), objective(kernels.Reinforce{}), ratio(kernels.RatioOne)}},
		{"off_policy[1].type: icepop weighs by the drift that off_policy[0] tis weighs by already: keep one of them", []edit{offPolicy(tis, icepop)}},
		{"off_policy[1].type: veto is in the list twice, first as off_policy[0]: keep one", []edit{offPolicy(veto, veto)}},
		{"off_policy[2].type: reject is in the list twice, first as off_policy[0]: keep one", []edit{offPolicy(geometric, product, geometric)}},
		{"", []edit{offPolicy(geometric, product)}},

		{"mask[0].type: negative_drift picks tokens, and objective.type rank compares whole sequences: remove the mask", []edit{unrated(kernels.Rank{}), masks(drift)}},
		{"mask[1].type: entropy_quantile may reject every token of a sequence, while ratio sequence-geometric is one of all of them: set ratio to token or turn, or remove the mask",
			[]edit{ratio(kernels.RatioSequenceGeometric), masks(drift, quantile)}},
		{"", []edit{ratio(kernels.RatioTurn), masks(drift, quantile)}},
		{"mask[1].type: negative_drift is in the list twice, first as mask[0]: keep one", []edit{masks(drift, drift)}},
		{"regularizers[1].type: kl is in the list twice, first as regularizers[0]: keep one", []edit{regularizers(kernels.NewKL(), kernels.NewKL())}},
	} {
		expectError(t, c.want, c.edits...)
	}
}

// The settings that a part of a table has without any given are legal ones.
func TestDefaultsAreValid(t *testing.T) {
	for _, table := range [][]kernels.Variant{kernels.ObjectiveTable, kernels.CorrectionTable, kernels.MaskTable, kernels.RegularizerTable} {
		for _, variant := range table {
			part := variant.New()
			if name := kernels.NameOf(part); name != variant.Name {
				t.Errorf("%s: the part is named %q", variant.Name, name)
			}
			if v, ok := part.(interface{ Validate() error }); ok {
				if err := v.Validate(); err != nil {
					t.Errorf("%s: %v", variant.Name, err)
				}
			}
		}
	}
}
