package kernels

// ObjectiveTable lists every objective.
var ObjectiveTable = []Variant{
	{"clip", "PPO's clipped surrogate, with dual clip and with a bound per sequence where the batch has one", "Schulman et al., arXiv 1707.06347, eq. 7; dual clip: Ye et al., arXiv 1912.09729, eq. 5", func() any { return Clip{ClipLow: 0.2, ClipHigh: 0.2} }},
	{"clip_keep", "clipped surrogate whose clipped branch keeps its gradient", "AEPO, in the release of AT²PO, arXiv 2601.04767", func() any { return ClipKeep{ClipLow: 0.2, ClipHigh: 0.2} }},
	{"reinforce", "score-function loss, weighted by the detached ratio", "Williams 1992; with tau: INTELLECT-3, prime-rl loss.py", func() any { return Reinforce{} }},
	{"cispo", "score-function loss weighted by the clipped, detached ratio: every token keeps a gradient", "MiniMax-M1, arXiv 2506.13585, eq. 4", func() any { return CISPO{ClipLow: 1, ClipHigh: 0.28} }},
	{"sapo", "a sigmoid gate of the ratio in place of a clip", "SAPO, arXiv 2511.20347, eq. 5", func() any { return SAPO{TauPositive: 1, TauNegative: 1.05} }},
	{"gmpo", "geometric mean over the sequence of ratios clipped token by token", "GMPO, arXiv 2507.20673, eq. 4", func() any { return GMPO{ClipLow: 0.4, ClipHigh: 0.4} }},
	{"dppo", "importance-weighted loss on tokens whose probability has not moved too far", "prime-rl trainer/rl/loss.py", func() any { return DPPO{Low: 0.2, High: 0.2} }},
	{"dro", "importance-free loss with a squared log-ratio penalty", "DRO, arXiv 2405.19107; verl core_algos.py", func() any { return DRO{Beta: 0.05} }},
	{"topr", "weight 1 on what succeeded, the ratio limited to [0, 1] on what failed", "TOPR, arXiv 2503.14286, eq. 8", func() any { return TOPR{} }},
	{"distill", "moves towards the reference policy where it is surer than the current one", "prime-rl trainer/rl/loss.py, ref_kl", func() any { return Distill{DropBelow: 0.2} }},
	{"clip_cov", "clipped surrogate that lets go of a few tokens with high covariance of advantage and log-probability", "Clip-Cov, arXiv 2505.22617, eq. 11", func() any { return ClipCov{ClipLow: 0.2, ClipHigh: 0.2, Share: 0.0002, Low: 1, High: 5} }},
	{"kl_cov", "surrogate with a penalty on the log-ratio of the tokens with the highest covariance of advantage and log-probability", "KL-Cov, arXiv 2505.22617, eq. 12", func() any { return KLCov{Share: 0.0002, Coef: 1} }},
	{"cross_entropy", "imitation: minus the log-probability of what was sampled", "", func() any { return CrossEntropy{} }},
	{"dpo", "logistic loss of the margin between a chosen and a rejected sequence", "DPO, arXiv 2305.18290, eq. 7", func() any { return DPO{Beta: 0.1} }},
	{"ipo", "squared distance of the margin per token from its target", "IPO, arXiv 2310.12036, eq. 17", func() any { return IPO{Beta: 0.1} }},
	{"dmpo", "logistic loss of a margin that weighs early turns more", "DMPO, arXiv 2406.14868; DiaTool-DPO, arXiv 2504.02882", func() any { return DMPO{Beta: 0.1, Discount: 0.9} }},
	{"rank", "hinge on every pair of sequences whose likelihoods are in the wrong order, plus imitation of the best", "RRHF, arXiv 2304.05302, eq. 3; TRICE, arXiv 2305.13068", func() any { return Rank{Coef: 1, LengthPower: 1, BestCoef: 1} }},
}
