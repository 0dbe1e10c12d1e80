package kernels

// SquaredLogRatio adds Coef·(log π − log μ)², aggregated like the objective and not masked with it: tokens that the
// objective drops are still pulled back. prime-rl trainer/rl/loss.py (kl_tau).
type SquaredLogRatio struct {
	// Coef multiplies it. Default 0.001.
	Coef float64 `yaml:"coef" json:"coef"`
}

// Reads is the behavior policy.
func (SquaredLogRatio) Reads() Stream { return ReadsBehavior }

// Validate reports a coefficient that is negative.
func (s SquaredLogRatio) Validate() error { return notNegative("coef", s.Coef) }
