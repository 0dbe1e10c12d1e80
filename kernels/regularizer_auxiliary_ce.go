package kernels

// AuxiliaryCE adds Coef·Σ w·(−log π) / Σ w over the update, w the batch's ce_weights; 0 when they are all 0. Each
// component of the loss has its own denominator, as in prime-rl.
type AuxiliaryCE struct {
	// Coef multiplies it. Default 1.
	Coef float64 `yaml:"coef" json:"coef"`
}

// Reads are the weights.
func (AuxiliaryCE) Reads() Stream { return ReadsCEWeights }

// Validate reports a coefficient that is negative.
func (a AuxiliaryCE) Validate() error { return notNegative("coef", a.Coef) }
