package kernels

// Veto drops a whole sequence when min_t e^x < Min over its sampled tokens. prime-rl, October 2025 (1e-4);
// INTELLECT-3 (1e-5).
type Veto struct {
	// Min is the least ratio a token may have. Default 1e-4.
	Min float64 `yaml:"min" json:"min"`
}

// Scope is one sequence.
func (Veto) Scope() Scope { return OneSequence }

// Weighs is false.
func (Veto) Weighs() bool { return false }

// Validate reports a bound that is not positive.
func (c Veto) Validate() error { return positive("min", c.Min) }
