package kernels

// MaskTable lists every loss mask that depends on the current policy.
var MaskTable = []Variant{
	{"entropy_quantile", "keeps the tokens at which the policy is least sure", "Wang et al., arXiv 2506.01939; TRL top_entropy_quantile", func() any { return EntropyQuantile{Keep: 0.2} }},
	{"negative_drift", "drops sequences with negative advantage that the policy has moved away from", "DeepSeek-V3.2, arXiv 2512.02556; TRL off_policy_mask_threshold", func() any { return NegativeDrift{Threshold: 1} }},
}
