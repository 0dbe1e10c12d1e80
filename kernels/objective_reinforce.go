package kernels

import "fmt"

// Reinforce is the score-function loss; with ratio one, −A·log π:
//
//	L = −sg[ρ·(A − Tau·log ρ)]·log π
//
// log ρ is that of the limited ratio. Williams 1992. With Tau, INTELLECT-3's form (prime-rl trainer/rl/loss.py, December 2025).
type Reinforce struct {
	// Tau pulls the policy back to the anchor; it needs a ratio. Default 0.
	Tau float64 `yaml:"tau" json:"tau"`
}

// Reads are the streams the objective needs.
func (Reinforce) Reads() Stream { return ReadsAdvantages }

// UsesRatio is true.
func (Reinforce) UsesRatio() bool { return true }

// Scope is one sequence.
func (Reinforce) Scope() Scope { return OneSequence }

// Validate reports a tau that is negative.
func (r Reinforce) Validate() error { return notNegative("tau", r.Tau) }

// notNegative checks that a setting is finite and at least 0.
func notNegative(key string, value float64) error {
	if err := finite(key, value); err != nil {
		return err
	}
	if value < 0 {
		return fmt.Errorf("%s: %v is negative", key, value)
	}
	return nil
}

// positive checks that a setting is finite and more than 0.
func positive(key string, value float64) error {
	if err := finite(key, value); err != nil {
		return err
	}
	if value <= 0 {
		return fmt.Errorf("%s: %v must be positive", key, value)
	}
	return nil
}
