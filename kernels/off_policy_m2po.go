package kernels

import "fmt"

// M2PO keeps the second moment of the drift small: of the update's sampled tokens, sorted by x² from the largest
// down (of equal ones the earlier first), it drops the fewest such that the mean of x² over the rest is less than Tau; at
// least one token stays.
// M2PO, arXiv 2510.01161.
type M2PO struct {
	// Tau bounds the mean squared drift. Default 0.04.
	Tau float64 `yaml:"tau" json:"tau"`
}

// Scope is the whole update.
func (M2PO) Scope() Scope { return WholeUpdate }

// Weighs is false.
func (M2PO) Weighs() bool { return false }

// Validate reports a bound that nothing or everything is above.
func (c M2PO) Validate() error {
	if err := positive("tau", c.Tau); err != nil {
		return err
	}
	if most := LogRatioBound * LogRatioBound; c.Tau > most {
		return fmt.Errorf("tau: %v never drops a token, as a squared drift is at most %v", c.Tau, most)
	}
	return nil
}
