package kernels

// NegativeDrift drops the tokens with negative advantage of a sequence whose mean of log μ − log π over sampled
// tokens is more than Threshold. DeepSeek-V3.2, arXiv 2512.02556, eq. 9; TRL, get_off_policy_mask.
type NegativeDrift struct {
	// Threshold bounds the mean drift in nats. Default 1.
	Threshold float64 `yaml:"threshold" json:"threshold"`
}

// Reads are the advantages and the behavior policy.
func (NegativeDrift) Reads() Stream { return ReadsAdvantages | ReadsBehavior }

// Scope is one sequence.
func (NegativeDrift) Scope() Scope { return OneSequence }

// Validate reports a bound that is negative.
func (m NegativeDrift) Validate() error { return notNegative("threshold", m.Threshold) }
