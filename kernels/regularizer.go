package kernels

// RegularizerTable lists every regulariser.
var RegularizerTable = []Variant{
	{"kl", "estimate of KL(π‖reference)", "Schulman, \"Approximating KL divergence\"; verl core_algos.py", func() any { return NewKL() }},
	{"entropy", "entropy bonus", "Williams and Peng 1991", func() any { return Entropy{Coef: 0.001} }},
	{"squared_log_ratio", "squared log-ratio of the current to the behavior policy", "prime-rl trainer/rl/loss.py", func() any { return SquaredLogRatio{Coef: 0.001} }},
	{"cross_entropy", "imitation of tokens, by the method's ce_weights", "prime-rl trainer/rl/loss.py", func() any { return AuxiliaryCE{Coef: 1} }},
	{"reference_kl", "estimate of KL(π‖reference) at tokens, by the method's reference_kl_weights", "prime-rl trainer/rl/loss.py, ref_kl", func() any { return ReferenceKL{Estimator: KLK2, Coef: 1} }},
	{"value", "the critic's loss, with value clip", "PPO; verl core_algos.py, compute_value_loss", func() any { return NewValue() }},
}
