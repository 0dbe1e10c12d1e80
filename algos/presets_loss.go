package algos

import (
	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/filter"
	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/kernels"
)

// lossPresets are GRPO's group z-score of the outcome under other losses: ratios, objectives, off-policy weights
// and masks.
func lossPresets() []Preset {
	return []Preset{
		{"gspo", "clipped ratio of whole sequences, by their geometric mean", "arXiv 2507.18071; verl core_algos.py", Code, "", gspo},
		{"gspo-token", "GSPO's sequence ratio with each token's own advantage and gradient", "arXiv 2507.18071, eq. 14; verl core_algos.py", Code, "", gspoToken},
		{"cispo", "clipped importance weight through which no gradient flows, so that no token loses its own", "arXiv 2506.13585; verl core_algos.py", Code, "", cispo},
		{"gpg", "plain policy gradient on mean-centered rewards, scaled by the share of rewards that are not 0", "arXiv 2504.02546; verl core_algos.py", Code, "", gpg},
		{"gmpo", "geometric mean of ratios clipped token by token", "arXiv 2507.20673; verl core_algos.py", Code, "", gmpo},
		{"sapo", "sigmoid gate of the ratio in place of a clip", "arXiv 2511.20347; verl core_algos.py", Code, "", sapo},
		{"topr", "signed verdicts: successes as they are, failures by no more than the ratio of their sequence", "arXiv 2503.14286", Memory, "", topr},
		{"decoupled-ppo", "clip around the proximal policy, weighted by how far that has left the behavior policy", "AReaL, arXiv 2505.24298; areal/utils/functional/functional.py", Code, asynchronous, decoupledPPO},
		{"tis", "clipped surrogate times the truncated importance weight of each token", "verl rollout_corr_helper.py", Code, drift, tis},
		{"mis", "clipped surrogate on sequences whose likelihood ratio lies in bounds", "verl rollout_corr_helper.py", Code, drift, mis},
		{"geometric-rejection", "clipped surrogate on sequences with a mean drift near 0, times each token's truncated importance weight", "verl docs/algo/rollout_corr_math.md", Code, drift, geometricRejection},
		{"icepop", "clipped surrogate times the importance weight of tokens within bounds, 0 outside", "arXiv 2510.18855", Memory, drift, icepop},
		{"m2po", "clipped surrogate on the tokens that keep the second moment of the drift small", "arXiv 2510.01161; verl rollout_corr_helper.py", Code, drift, m2po},
		{"dppo", "importance-weighted loss on tokens whose probability has not moved too far, with a squared log-ratio penalty", "prime-rl trainer/rl/loss.py", Code, asynchronous, dppo},
		{"intellect-3", "mean-centered rewards, detached token ratios masked outside [0.125, 8], sequences with an all but impossible token vetoed", "INTELLECT-3, prime-rl trainer/rl/loss.py, October to December 2025", Code, "asynchronous rollouts, up to eight steps old, sampled until the batch is full", intellect3},
		{"dro", "squared distance of log-ratio and advantage, without importance weights", "arXiv 2405.19107; verl core_algos.py", Code, "", dro},
		{"clip-cov", "clipped surrogate without the gradient of a few tokens of high covariance", "arXiv 2505.22617; verl core_algos.py", Code, "", clipCov},
		{"kl-cov", "surrogate with a log-ratio penalty on the tokens of highest covariance", "arXiv 2505.22617; verl core_algos.py", Code, "", klCov},
	}
}

func gspo() Method {
	m := outcomeGRPO("gspo")
	m.Loss.Ratio, m.Loss.Aggregate = kernels.RatioSequenceGeometric, kernels.SequenceMeanTokenAvg
	m.Loss.RatioGradient = kernels.GradientSegment
	m.Loss.Objective = kernels.Clip{ClipLow: 3e-4, ClipHigh: 4e-4}
	return m
}

func gspoToken() Method {
	m := gspo()
	m.Name, m.Loss.RatioGradient = "gspo-token", kernels.GradientOwn
	return m
}

func cispo() Method {
	m := outcomeGRPO("cispo")
	m.Loss.Objective = kernels.CISPO{ClipLow: 1, ClipHigh: 0.28}
	return m
}

func gpg() Method {
	m := outcomeGRPO("gpg")
	m.Advantage.Terms[0].Scale = advantage.NoScale
	m.Advantage.Transforms = []advantage.Transform{advantage.GPGScale{}}
	m.Loss.Ratio, m.Loss.Objective = kernels.RatioOne, kernels.Reinforce{}
	return m
}

func gmpo() Method {
	m := outcomeGRPO("gmpo")
	m.Loss.Ratio = kernels.RatioSequenceGeometric
	m.Loss.Objective, m.Loss.Aggregate = kernels.GMPO{ClipLow: 0.4, ClipHigh: 0.4}, kernels.SequenceMeanTokenAvg
	return m
}

func sapo() Method {
	m := outcomeGRPO("sapo")
	m.Loss.Objective, m.Loss.Aggregate = kernels.SAPO{TauPositive: 1, TauNegative: 1.05}, kernels.SequenceMeanTokenAvg
	return m
}

func topr() Method {
	m := outcomeGRPO("topr")
	m.Outcome = outcome.Signed{Threshold: 1, Correct: 1, Wrong: -1}
	m.Advantage.Terms[0].Center, m.Advantage.Terms[0].Scale = advantage.NoCenter, advantage.NoScale
	m.Loss.Ratio, m.Loss.Anchor, m.Loss.Objective = kernels.RatioSequenceProduct, kernels.AnchorBehavior, kernels.TOPR{}
	m.Loss.Aggregate = kernels.SequenceMeanTokenSum
	return m
}

func decoupledPPO() Method {
	return corrected("decoupled-ppo", kernels.BehaviorWeight{Level: kernels.LevelToken, Action: kernels.ActionClamp, High: 5})
}

func tis() Method {
	return corrected("tis", kernels.TIS{Level: kernels.LevelToken, Cap: 2, Normalize: kernels.NormalizeNone})
}

func mis() Method {
	return corrected("mis", kernels.Reject{Level: kernels.RejectSequenceSum, Estimator: kernels.DriftK1, Low: 0.5, High: 2})
}

func geometricRejection() Method {
	return corrected("geometric-rejection",
		kernels.Reject{Level: kernels.RejectSequenceMean, Estimator: kernels.DriftK1, Low: 0.99, High: 1.01},
		kernels.TIS{Level: kernels.LevelToken, Cap: 2, Normalize: kernels.NormalizeNone})
}

func icepop() Method { return corrected("icepop", kernels.IcePop{Low: 0.5, High: 5}) }

func m2po() Method { return corrected("m2po", kernels.M2PO{Tau: 0.04}) }

// corrected is GRPO with off-policy weights and masks.
func corrected(name string, corrections ...kernels.Correction) Method {
	m := outcomeGRPO(name)
	m.Loss.OffPolicy = corrections
	return m
}

func dppo() Method {
	m := outcomeGRPO("dppo")
	m.Advantage.Terms[0].Scale, m.Advantage.Terms[0].Singleton = advantage.NoScale, advantage.Zero
	m.Loss.Anchor, m.Loss.Objective = kernels.AnchorBehavior, kernels.DPPO{Low: 0.2, High: 0.2}
	m.Loss.Regularizers = []kernels.Regularizer{kernels.SquaredLogRatio{Coef: 0.001}}
	return m
}

func intellect3() Method {
	m := dppo()
	m.Filter = []filter.Rule{filter.ZeroVariance{Of: filter.Outcome}}
	m.Name, m.Loss.Objective, m.Loss.Regularizers = "intellect-3", kernels.Reinforce{}, nil
	m.Loss.OffPolicy = []kernels.Correction{
		kernels.Reject{Level: kernels.RejectToken, Estimator: kernels.DriftK1, Low: 0.125, High: 8}, kernels.Veto{Min: 1e-4},
	}
	return m
}

func dro() Method {
	m := outcomeGRPO("dro")
	m.Loss.Objective = kernels.DRO{Beta: 0.05}
	return m
}

func clipCov() Method {
	m := outcomeGRPO("clip-cov")
	m.Loss.Objective = kernels.ClipCov{ClipLow: 0.2, ClipHigh: 0.2, Share: 0.0002, Low: 1, High: 5}
	return m
}

func klCov() Method {
	m := outcomeGRPO("kl-cov")
	m.Loss.Objective = kernels.KLCov{Share: 0.0002, Coef: 1}
	return m
}
