package kernels

// CorrectionTable lists every off-policy weight and mask.
var CorrectionTable = []Variant{
	{"tis", "importance weight of the drift, capped above", "truncated importance sampling; verl rollout_corr_helper.py", func() any { return TIS{Level: LevelToken, Cap: 2, Normalize: NormalizeNone} }},
	{"reject", "keeps tokens or sequences whose drift stays within bounds", "verl docs/algo/rollout_corr_math.md", func() any { return Reject{Level: RejectSequenceMean, Estimator: DriftK1, Low: 0.99, High: 1.01} }},
	{"icepop", "importance weight of the drift within bounds, 0 outside", "IcePop, arXiv 2510.18855", func() any { return IcePop{Low: 0.5, High: 5} }},
	{"veto", "drops a sequence with one token that the trainer finds all but impossible", "prime-rl, October 2025; INTELLECT-3", func() any { return Veto{Min: 1e-4} }},
	{"m2po", "drops the tokens with the largest squared drift until the mean of the rest is small", "M2PO, arXiv 2510.01161", func() any { return M2PO{Tau: 0.04} }},
	{"behavior_weight", "the weight π_p/μ of decoupled PPO", "AReaL, arXiv 2505.24298, eq. 5", func() any { return BehaviorWeight{Level: LevelToken, Action: ActionClamp, Low: 0, High: 5} }},
}

// CorrectionLevel is what one weight belongs to.
type CorrectionLevel string

const (
	LevelToken             CorrectionLevel = "token"              // each token has its own weight
	LevelSequence          CorrectionLevel = "sequence"           // the product over the sequence's sampled tokens, at all of them
	LevelSequenceGeometric CorrectionLevel = "sequence-geometric" // the geometric mean over them, at all of them
)

// CorrectionLevels lists every level.
var CorrectionLevels = []CorrectionLevel{LevelToken, LevelSequence, LevelSequenceGeometric}
