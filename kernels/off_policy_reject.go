package kernels

import (
	"fmt"
	"math"
)

// Reject keeps what drifted little. Each level reduces an estimate of the drift over a token or a sequence:
//
//	k1: e^x within [Low, High];  k2: x²/2 ≤ High;  k3: e^x − 1 − x ≤ High
//
// token: the token's own; sequence-sum, sequence-mean: of x for k1 (product, geometric mean of the ratio) and of
// the estimate otherwise; sequence-max: the largest estimate, k2 and k3 only. Bounds of k1 are on the ratio itself.
// verl docs/algo/rollout_corr_math.md; sequence-mean with k1 is geometric rejection, sequence-sum with k1 sequence MIS.
type Reject struct {
	// Level is what is kept or rejected. Default sequence-mean.
	Level RejectLevel `yaml:"level" json:"level"`
	// Estimator is how drift is measured. Default k1.
	Estimator DriftEstimator `yaml:"estimator" json:"estimator"`
	// Low bounds the ratio from below, for k1. Default 0.99.
	Low float64 `yaml:"low" json:"low"`
	// High bounds the ratio, or the estimate, from above. Default 1.01.
	High float64 `yaml:"high" json:"high"`
}

// RejectLevel is what is kept or rejected as one.
type RejectLevel string

const (
	RejectToken        RejectLevel = "token"         // a token by its own drift
	RejectSequenceSum  RejectLevel = "sequence-sum"  // a sequence by the sum over its tokens
	RejectSequenceMean RejectLevel = "sequence-mean" // a sequence by the mean over its tokens
	RejectSequenceMax  RejectLevel = "sequence-max"  // a sequence by its worst token
)

// RejectLevels lists every level.
var RejectLevels = []RejectLevel{RejectToken, RejectSequenceSum, RejectSequenceMean, RejectSequenceMax}

// DriftEstimator is how the drift of a token is measured.
type DriftEstimator string

const (
	DriftK1 DriftEstimator = "k1" // the log-ratio itself
	DriftK2 DriftEstimator = "k2" // half its square
	DriftK3 DriftEstimator = "k3" // e^x − 1 − x
)

// DriftEstimators lists every estimator.
var DriftEstimators = []DriftEstimator{DriftK1, DriftK2, DriftK3}

// Scope is one sequence.
func (Reject) Scope() Scope { return OneSequence }

// Weighs is false.
func (Reject) Weighs() bool { return false }

// Validate reports settings that are unknown or do not fit together.
func (c Reject) Validate() error {
	if err := oneOf("level", c.Level, RejectLevels); err != nil {
		return err
	}
	if err := oneOf("estimator", c.Estimator, DriftEstimators); err != nil {
		return err
	}
	if c.Estimator == DriftK1 {
		return c.validateRatio()
	}
	if err := positive("high", c.High); err != nil {
		return err
	}
	if most := c.Estimator.most(); c.Level != RejectSequenceSum && c.High >= most {
		return fmt.Errorf("high: %v is never exceeded, as %s of a token is at most %.3g: use a smaller bound", c.High, c.Estimator, most)
	}
	return nil
}

// validateRatio checks the two bounds of k1.
func (c Reject) validateRatio() error {
	if c.Level == RejectSequenceMax {
		return fmt.Errorf("estimator: k1 has two bounds and no maximum: use k2 or k3 with level sequence-max")
	}
	if err := validateRatioBounds(c.Low, c.High); err != nil {
		return err
	}
	if c.Low <= math.Exp(-LogRatioBound) && c.High >= math.Exp(LogRatioBound) {
		return fmt.Errorf("low: %v to high: %v holds every ratio, so that nothing is rejected: use closer bounds, such as 0.5 and 2", c.Low, c.High)
	}
	return nil
}

// validateRatioBounds checks bounds of a ratio, which must hold that of a token that did not drift.
func validateRatioBounds(low, high float64) error {
	if err := notNegative("low", low); err != nil {
		return err
	}
	if err := positive("high", high); err != nil {
		return err
	}
	switch {
	case low >= high:
		return fmt.Errorf("low: %v must be less than high, %v", low, high)
	case low > 1:
		return fmt.Errorf("low: %v is above 1, the ratio of what did not drift", low)
	case high < 1:
		return fmt.Errorf("high: %v is below 1, the ratio of what did not drift", high)
	}
	return nil
}

// most is the largest estimate that a token can have; k1 has two sides.
func (e DriftEstimator) most() float64 {
	if e == DriftK2 {
		return LogRatioBound * LogRatioBound / 2
	}
	return math.Exp(LogRatioBound) - 1 - LogRatioBound
}
