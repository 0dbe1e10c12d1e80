package kernels

// SAPO replaces the clip by a sigmoid gate whose gradient fades on both sides of ratio 1:
//
//	L = −A·(4/τ)·σ(τ(ρ − 1)),  τ = TauPositive where A > 0, else TauNegative
//
// SAPO, arXiv 2511.20347, eq. 5.
type SAPO struct {
	// TauPositive and TauNegative are how fast the gate closes. Default 1 and 1.05.
	TauPositive float64 `yaml:"tau_positive" json:"tau_positive"`
	TauNegative float64 `yaml:"tau_negative" json:"tau_negative"`
}

// Reads are the streams the objective needs.
func (SAPO) Reads() Stream { return ReadsAdvantages }

// UsesRatio is true.
func (SAPO) UsesRatio() bool { return true }

// Scope is one sequence.
func (SAPO) Scope() Scope { return OneSequence }

// Validate reports a tau that is not positive.
func (s SAPO) Validate() error {
	if err := positive("tau_positive", s.TauPositive); err != nil {
		return err
	}
	return positive("tau_negative", s.TauNegative)
}
