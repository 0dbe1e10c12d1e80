package kernels

// GMPO is the geometric mean over a sequence's sampled tokens of ratios that are clipped one by one:
//
//	d̂_t = s·min(s·d_t, s·clip(d_t, −lo, hi)),  s = sign(A)
//	L = −A·exp(mean_t d̂_t), the same at every token of the sequence
//
// d is the log-ratio, limited to ±[LogRatioBound] first; the mean is over all sampled tokens of the sequence and the
// gradient flows through it to each of them that is not limited. A is each token's own; it is the same for all
// tokens of a sequence in the paper. A token with A = 0 has d̂ = 0. GMPO, arXiv 2507.20673, eq. 4; verl core_algos.py.
type GMPO struct {
	// ClipLow and ClipHigh bound the log-ratio to [−ClipLow, ClipHigh]. Default 0.4 each.
	ClipLow  float64 `yaml:"clip_low" json:"clip_low"`
	ClipHigh float64 `yaml:"clip_high" json:"clip_high"`
}

// Reads are the streams the objective needs.
func (GMPO) Reads() Stream { return ReadsAdvantages }

// UsesRatio is true.
func (GMPO) UsesRatio() bool { return true }

// Scope is one sequence.
func (GMPO) Scope() Scope { return OneSequence }

// Validate reports bounds that are negative.
func (g GMPO) Validate() error {
	if err := notNegative("clip_low", g.ClipLow); err != nil {
		return err
	}
	return notNegative("clip_high", g.ClipHigh)
}
