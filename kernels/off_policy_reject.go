package kernels

import "fmt"

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
	if err := notNegative("low", c.Low); err != nil {
		return err
	}
	if err := positive("high", c.High); err != nil {
		return err
	}
	switch {
	case c.Estimator == DriftK1 && c.Low >= c.High:
		return fmt.Errorf("low: %v must be less than high, %v", c.Low, c.High)
	case c.Estimator == DriftK1 && c.Level == RejectSequenceMax:
		return fmt.Errorf("estimator: k1 has two bounds and no maximum: use k2 or k3 with level sequence-max")
	}
	return nil
}
