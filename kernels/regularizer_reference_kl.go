package kernels

// ReferenceKL adds Coef·Σ w·k(π, π_ref) / Σ w over the update, w the batch's reference_kl_weights; 0 when they are all
// 0. The estimators are those of [KL], with its default limits.
type ReferenceKL struct {
	// Estimator of the divergence. Default k2.
	Estimator Divergence `yaml:"estimator" json:"estimator"`
	// Coef multiplies it. Default 1.
	Coef float64 `yaml:"coef" json:"coef"`
}

// Reads are the weights and the reference policy.
func (ReferenceKL) Reads() Stream { return ReadsReferenceKLWeights | ReadsReference }

// Validate reports settings that are unknown or out of range.
func (r ReferenceKL) Validate() error {
	if err := oneOf("estimator", r.Estimator, Divergences); err != nil {
		return err
	}
	return notNegative("coef", r.Coef)
}
