package kernels

// EntropyQuantile keeps sampled tokens whose entropy is at least the (1 − Keep) quantile over the update's
// sampled tokens: the policy decides at those, and follows its habits elsewhere. With the n entropies in ascending
// order e_0 … and p = (1 − Keep)·(n − 1), the quantile is e_⌊p⌋ + (p − ⌊p⌋)·(e_⌈p⌉ − e_⌊p⌋).
// Wang et al., arXiv 2506.01939; TRL, get_high_entropy_mask.
type EntropyQuantile struct {
	// Keep is the share of tokens that stay. Default 0.2.
	Keep float64 `yaml:"keep" json:"keep"`
}

// Reads is the entropy.
func (EntropyQuantile) Reads() Stream { return ReadsEntropy }

// Scope is the whole update.
func (EntropyQuantile) Scope() Scope { return WholeUpdate }

// Validate reports a share outside [0, 1].
func (m EntropyQuantile) Validate() error { return share("keep", m.Keep) }
