package kernels

import "fmt"

// ClipCov is [Clip] without the gradient of a few tokens that would cost the most entropy. Over the
// unclipped tokens of the update, with c = (A − mean A)(log π − mean log π) and means over all sampled
// tokens, it draws Share of all sampled tokens from those with Low < c < High and sets their loss to 0.
// The draw depends on the seed and the tokens' places alone: those with the smallest [ClipCov.Lot] are drawn.
// Clip-Cov, arXiv 2505.22617, eq. 11.
type ClipCov struct {
	// ClipLow and ClipHigh bound the ratio to [1−ClipLow, 1+ClipHigh]. Default 0.2 each.
	ClipLow  float64 `yaml:"clip_low" json:"clip_low"`
	ClipHigh float64 `yaml:"clip_high" json:"clip_high"`
	// Share of the tokens that lose their gradient, rounded down. Default 0.0002.
	Share float64 `yaml:"share" json:"share"`
	// Low and High bound the covariance of those tokens. Default 1 and 5.
	Low  float64 `yaml:"low" json:"low"`
	High float64 `yaml:"high" json:"high"`
	// Seed of the draw. Default 0.
	Seed uint64 `yaml:"seed" json:"seed"`
}

// Reads are the streams the objective needs.
func (ClipCov) Reads() Stream { return ReadsAdvantages }

// UsesRatio is true.
func (ClipCov) UsesRatio() bool { return true }

// Scope is the whole update.
func (ClipCov) Scope() Scope { return WholeUpdate }

// Validate reports settings out of range.
func (c ClipCov) Validate() error {
	if err := validateClip(c.ClipLow, c.ClipHigh); err != nil {
		return err
	}
	if err := share("share", c.Share); err != nil {
		return err
	}
	if err := finite("low", c.Low); err != nil {
		return err
	}
	if err := finite("high", c.High); err != nil {
		return err
	}
	if c.High <= c.Low {
		return fmt.Errorf("high: %v must be more than low, %v", c.High, c.Low)
	}
	return nil
}

// Lot is a token's lot in the draw. place counts the update's sampled tokens from 0, so that padding and observations
// change nothing. It is the mixing function of SplitMix64 (Steele, Lea and Flood 2014), which is one to one: no two
// tokens have the same lot.
func (c ClipCov) Lot(place int) uint64 {
	z := c.Seed + (uint64(place)+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// share checks that a setting is a share, in [0, 1].
func share(key string, value float64) error {
	if !(value >= 0 && value <= 1) {
		return fmt.Errorf("%s: %v is outside [0, 1]", key, value)
	}
	return nil
}
