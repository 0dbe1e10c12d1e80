package kernels

import "fmt"

// DMPO is [DPO] with weights that fall from turn to turn. For a sequence of T turns, turns t counted from 0,
//
//	Φ = Σ_t φ(t)·Λ_t,  φ(t) = (1 − γ^{T−t}) / (1 − γ^T),  L = −log σ(Beta·(Φ_chosen − Φ_rejected) − Margin)
//
// Λ_t is the sum of log π − log π_ref over turn t's tokens; turns without a sampled token do not count. DMPO, arXiv 2406.14868, eq. 12; Margin as in
// DiaTool-DPO, arXiv 2504.02882 (reconstructed).
type DMPO struct {
	// Beta is the strength of the pull towards the reference policy. Default 0.1.
	Beta float64 `yaml:"beta" json:"beta"`
	// Discount is γ, in (0, 1). Default 0.9.
	Discount float64 `yaml:"discount" json:"discount"`
	// Margin is the threshold the difference must clear. Default 0.
	Margin float64 `yaml:"margin" json:"margin"`
	// LengthNormalize divides each Φ by the sequence's number of turns. Default false.
	LengthNormalize bool `yaml:"length_normalize" json:"length_normalize"`
}

// Reads are the streams the objective needs.
func (DMPO) Reads() Stream { return ReadsReference | ReadsPairs | ReadsTurns }

// UsesRatio is false.
func (DMPO) UsesRatio() bool { return false }

// Scope is the whole update.
func (DMPO) Scope() Scope { return WholeUpdate }

// Validate reports settings out of range.
func (d DMPO) Validate() error {
	if err := positive("beta", d.Beta); err != nil {
		return err
	}
	if !(d.Discount > 0 && d.Discount < 1) {
		return fmt.Errorf("discount: %v is outside (0, 1)", d.Discount)
	}
	return finite("margin", d.Margin)
}
