package kernels

// DPPO drops tokens whose probability has moved too far from the anchor's. With Δ = π − π_anchor,
//
//	keep = 0 where A > 0 and Δ > High, or A ≤ 0 and Δ < −Low;  L = −keep·A·ρ
//
// Symmetric drops where |Δ| > High whatever the advantage. prime-rl trainer/rl/loss.py (dppo, ipo).
type DPPO struct {
	// Low and High bound the change of probability. Default 0.2 each.
	Low  float64 `yaml:"low" json:"low"`
	High float64 `yaml:"high" json:"high"`
	// Symmetric bounds the change on both sides by High. Default false.
	Symmetric bool `yaml:"symmetric" json:"symmetric"`
}

// Reads are the streams the objective needs.
func (DPPO) Reads() Stream { return ReadsAdvantages }

// UsesRatio is true.
func (DPPO) UsesRatio() bool { return true }

// Scope is one sequence.
func (DPPO) Scope() Scope { return OneSequence }

// Validate reports bounds that are negative.
func (d DPPO) Validate() error {
	if err := notNegative("low", d.Low); err != nil {
		return err
	}
	return notNegative("high", d.High)
}
