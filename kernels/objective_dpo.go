package kernels

// DPO prefers the chosen sequence of a pair. With Λ = Σ_t (log π − log π_ref) over sampled tokens,
//
//	L = −log σ(Beta·(Λ_chosen − Λ_rejected))
//
// one loss per pair, averaged over pairs whatever the aggregation. Sums run in float64. Sampled tokens
// are those of the policy, so the multi-turn form (Magnet's mDPO) masks observations by itself.
// DPO, arXiv 2305.18290, eq. 7.
type DPO struct {
	// Beta is the strength of the pull towards the reference policy. Default 0.1.
	Beta float64 `yaml:"beta" json:"beta"`
	// ImitateCoef adds Coef·mean(−log π) of the chosen sequence's tokens to a pair's loss. Default 0.
	ImitateCoef float64 `yaml:"imitate_coef" json:"imitate_coef"`
}

// Reads are the streams the objective needs.
func (DPO) Reads() Stream { return ReadsReference | ReadsPairs }

// UsesRatio is false.
func (DPO) UsesRatio() bool { return false }

// Scope is the whole update.
func (DPO) Scope() Scope { return WholeUpdate }

// Validate reports settings out of range.
func (d DPO) Validate() error {
	if err := positive("beta", d.Beta); err != nil {
		return err
	}
	return notNegative("imitate_coef", d.ImitateCoef)
}
