package kernels

// IcePop weighs a token by w = e^x where Low ≤ e^x ≤ High and drops it elsewhere. IcePop, arXiv 2510.18855.
type IcePop struct {
	// Low and High bound the ratio. Default 0.5 and 5.
	Low  float64 `yaml:"low" json:"low"`
	High float64 `yaml:"high" json:"high"`
}

// Scope is one sequence.
func (IcePop) Scope() Scope { return OneSequence }

// Weighs is true.
func (IcePop) Weighs() bool { return true }

// Validate reports bounds that drop what did not drift.
func (c IcePop) Validate() error {
	return validateRatioBounds(c.Low, c.High)
}
