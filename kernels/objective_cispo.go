package kernels

// CISPO is the score-function loss weighted by the clipped ratio, through which no gradient flows:
//
//	L = −sg[clip(ρ, 1−lo, 1+hi)]·A·log π
//
// With ClipLow 1 only the upper side is bounded, which is also the AIPO form min(ρ, C).
// MiniMax-M1, arXiv 2506.13585, eq. 4.
type CISPO struct {
	// ClipLow and ClipHigh bound the weight to [1−ClipLow, 1+ClipHigh]. Default 1 and 0.28.
	ClipLow  float64 `yaml:"clip_low" json:"clip_low"`
	ClipHigh float64 `yaml:"clip_high" json:"clip_high"`
}

// Reads are the streams the objective needs.
func (CISPO) Reads() Stream { return ReadsAdvantages }

// UsesRatio is true.
func (CISPO) UsesRatio() bool { return true }

// Scope is one sequence.
func (CISPO) Scope() Scope { return OneSequence }

// Validate reports bounds that bound nothing.
func (c CISPO) Validate() error { return validateClip(c.ClipLow, c.ClipHigh) }
