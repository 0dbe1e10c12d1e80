package kernels

import "fmt"

// Clip is PPO's clipped surrogate, with dual clip when c = DualClip > 0:
//
//	L = max(−Aρ, −A·clip(ρ, 1−lo, 1+hi));  A < 0 and c > 0: L = min(L, −A·c)
//
// Where the batch has a clip_high of a sequence's own, that takes the place of ClipHigh there.
// Schulman et al., arXiv 1707.06347, eq. 7; dual clip: Ye et al., arXiv 1912.09729, eq. 5.
type Clip struct {
	// ClipLow and ClipHigh bound the ratio to [1−ClipLow, 1+ClipHigh]. Default 0.2 each.
	ClipLow  float64 `yaml:"clip_low" json:"clip_low"`
	ClipHigh float64 `yaml:"clip_high" json:"clip_high"`
	// DualClip bounds the loss of a token with negative advantage to −A·DualClip; 0 turns it off, else
	// more than 1. Default 0.
	DualClip float64 `yaml:"dual_clip" json:"dual_clip"`
}

// Reads are the streams the objective needs.
func (Clip) Reads() Stream { return ReadsAdvantages }

// UsesRatio is true.
func (Clip) UsesRatio() bool { return true }

// Scope is one sequence.
func (Clip) Scope() Scope { return OneSequence }

// Validate reports bounds that bound nothing.
func (c Clip) Validate() error {
	if err := validateClip(c.ClipLow, c.ClipHigh); err != nil {
		return err
	}
	if err := finite("dual_clip", c.DualClip); err != nil {
		return err
	}
	if c.DualClip != 0 && c.DualClip <= 1 {
		return fmt.Errorf("dual_clip: %v must be greater than 1, or 0 to turn it off", c.DualClip)
	}
	return nil
}

// validateClip checks bounds of the form [1−low, 1+high].
func validateClip(low, high float64) error {
	if err := finite("clip_low", low); err != nil {
		return err
	}
	if err := finite("clip_high", high); err != nil {
		return err
	}
	switch {
	case low < 0 || low > 1:
		return fmt.Errorf("clip_low: %v is outside [0, 1]: the ratio is bounded below by 1 − clip_low", low)
	case high < 0:
		return fmt.Errorf("clip_high: %v is negative: the ratio is bounded above by 1 + clip_high", high)
	}
	return nil
}
