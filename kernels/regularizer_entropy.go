package kernels

// Entropy subtracts Coef times the policy's entropy, aggregated like the objective. A negative Coef makes the
// policy surer.
type Entropy struct {
	// Coef multiplies the entropy. Default 0.001.
	Coef float64 `yaml:"coef" json:"coef"`
}

// Reads is the entropy.
func (Entropy) Reads() Stream { return ReadsEntropy }

// Validate reports a coefficient that is not finite.
func (e Entropy) Validate() error { return finite("coef", e.Coef) }
