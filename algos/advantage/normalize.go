package advantage

import (
	"fmt"
	"math"
	"slices"
)

// NormalizeCenter is what tokens are centred by.
type NormalizeCenter string

// NormalizeScale is what tokens are scaled by.
type NormalizeScale string

const (
	CenterBatch       NormalizeCenter = "batch"         // the mean over the batch's tokens
	CenterGroup       NormalizeCenter = "group"         // the mean over the group's tokens
	CenterLeaveOneOut NormalizeCenter = "leave-one-out" // the mean over the group's other tokens
	CenterNone        NormalizeCenter = "none"          // 0

	ScaleBatch NormalizeScale = "batch" // the standard deviation over the batch's tokens
	ScaleGroup NormalizeScale = "group" // the standard deviation over the group's tokens
	ScaleNone  NormalizeScale = "none"  // 1, without epsilon
)

// Normalize centres and scales advantages, every sampled token counted once:
//
//	A ← (A − centre)/(std + Epsilon),  std with n−1 around its own mean
//
// A set of one token has centre 0 and scale 1. AReaL, areal/utils/data.py, Normalization, whose default is batch
// and batch.
type Normalize struct {
	// Center is what is subtracted. Default batch.
	Center NormalizeCenter `yaml:"center" jsonschema:"enum=batch,enum=group,enum=leave-one-out,enum=none"`
	// Scale is what the result is divided by. Default batch.
	Scale NormalizeScale `yaml:"scale" jsonschema:"enum=batch,enum=group,enum=none"`
	// Epsilon is added to the standard deviation. Default 1e-5.
	Epsilon float64 `yaml:"epsilon"`
}

// NewNormalize returns Normalize with its defaults.
func NewNormalize() Normalize {
	return Normalize{Center: CenterBatch, Scale: ScaleBatch, Epsilon: 1e-5}
}

// Validate reports settings that are unknown or out of range.
func (n Normalize) Validate() error {
	switch {
	case !slices.Contains([]NormalizeCenter{CenterBatch, CenterGroup, CenterLeaveOneOut, CenterNone}, n.Center):
		return fmt.Errorf("center: unknown value %q: use batch, group, leave-one-out or none", n.Center)
	case !slices.Contains([]NormalizeScale{ScaleBatch, ScaleGroup, ScaleNone}, n.Scale):
		return fmt.Errorf("scale: unknown value %q: use batch, group or none", n.Scale)
	case !(n.Epsilon >= 0) || math.IsInf(n.Epsilon, 0):
		return fmt.Errorf("epsilon: %v must be a finite number, at least 0", n.Epsilon)
	}
	return nil
}

// Transform normalises the batch.
func (n Normalize) Transform(b *Batch) error {
	// The tokens group after group, and all of them once more as the last segment.
	var values []float64
	bounds, segment := []int32{0}, make([]int, len(b.Groups))
	for gi := range b.Groups {
		b.eachOf(gi, func(a *float64) { values = append(values, *a) })
		segment[gi] = len(bounds) - 1
		if len(values) > int(bounds[len(bounds)-1]) {
			bounds = append(bounds, int32(len(values)))
		}
	}
	if len(values) == 0 {
		return nil
	}
	whole := len(bounds) - 1
	values = append(values, values...)
	bounds = append(bounds, int32(len(values)))
	mean, variance, err := b.Arithmetic.Moments(values, bounds)
	if err != nil {
		return err
	}
	for gi := range b.Groups {
		size := func(s int) float64 { return float64(bounds[s+1] - bounds[s]) }
		b.eachOf(gi, func(a *float64) {
			*a = n.normalized(*a, mean, variance, size, segment[gi], whole)
		})
	}
	return nil
}

// normalized is one token's advantage, given the moments of its group and of the whole batch.
func (n Normalize) normalized(a float64, mean, variance []float64, size func(int) float64, group, whole int) float64 {
	center, scale := 0.0, 1.0
	switch {
	case n.Center == CenterBatch && size(whole) > 1:
		center = mean[whole]
	case n.Center == CenterGroup && size(group) > 1:
		center = mean[group]
	case n.Center == CenterLeaveOneOut && size(group) > 1:
		center = (size(group)*mean[group] - a) / (size(group) - 1)
	}
	of := whole
	switch n.Scale {
	case ScaleNone:
		return a - center
	case ScaleGroup:
		of = group
	}
	if count := size(of); count > 1 {
		scale = math.Sqrt(variance[of] * count / (count - 1))
	}
	return (a - center) / (scale + n.Epsilon)
}
