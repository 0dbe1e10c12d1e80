package kernels

import (
	"fmt"
	"math"
)

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

// Validate reports a bound that no ratio is below, and one that drops what did not drift.
func (c Veto) Validate() error {
	switch least := math.Exp(-LogRatioBound); {
	case !(c.Min > least):
		return fmt.Errorf("min: %v never drops a sequence, as a ratio is at least %.2g: use a ratio such as 1e-4", c.Min, least)
	case c.Min > 1:
		return fmt.Errorf("min: %v drops what did not drift at all: use a ratio of at most 1, such as 1e-4", c.Min)
	}
	return nil
}
