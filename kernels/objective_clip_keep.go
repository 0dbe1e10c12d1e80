package kernels

// ClipKeep is the clipped surrogate whose upper branch keeps its gradient: where A > 0 and ρ > 1+hi,
//
//	L = −A·(1+hi)·ρ/sg[ρ]
//
// and elsewhere as in [Clip]. Same value as Clip, another gradient. AEPO, in the release of AT²PO,
// arXiv 2601.04767.
type ClipKeep struct {
	// ClipLow and ClipHigh bound the ratio to [1−ClipLow, 1+ClipHigh]. Default 0.2 each.
	ClipLow  float64 `yaml:"clip_low" json:"clip_low"`
	ClipHigh float64 `yaml:"clip_high" json:"clip_high"`
}

// Reads are the streams the objective needs.
func (ClipKeep) Reads() Stream { return ReadsAdvantages }

// UsesRatio is true.
func (ClipKeep) UsesRatio() bool { return true }

// Scope is one sequence.
func (ClipKeep) Scope() Scope { return OneSequence }

// Validate reports bounds that bound nothing.
func (c ClipKeep) Validate() error { return validateClip(c.ClipLow, c.ClipHigh) }
