package kernels

// KLCov is the surrogate −Aρ plus a penalty Coef·|d| on the Share of the update's sampled tokens with the
// highest covariance (A − mean A)(log π − mean log π), rounded down and at least one; of equal ones the earlier first.
// d is the log-ratio, not limited. KL-Cov, arXiv 2505.22617, eq. 12.
type KLCov struct {
	// Share of the tokens that are penalised. Default 0.0002.
	Share float64 `yaml:"share" json:"share"`
	// Coef weighs the penalty. Default 1.
	Coef float64 `yaml:"coef" json:"coef"`
}

// Reads are the streams the objective needs.
func (KLCov) Reads() Stream { return ReadsAdvantages }

// UsesRatio is true.
func (KLCov) UsesRatio() bool { return true }

// Scope is the whole update.
func (KLCov) Scope() Scope { return WholeUpdate }

// Validate reports settings out of range.
func (k KLCov) Validate() error {
	if err := share("share", k.Share); err != nil {
		return err
	}
	return notNegative("coef", k.Coef)
}
