package advantage

import (
	"fmt"
	"math"
)

// TurnDecay multiplies a turn's advantages by how far it is from the end: A_k ← A_k·Decay^{K−k}, K the number of
// turns and k counted from 1. TD-GRPO, verl-tool verl_tool/trainer/ppo/core_algos.py.
type TurnDecay struct {
	// Decay is in [0, 1]. Default 0.9.
	Decay float64 `yaml:"decay"`
}

// Validate reports a decay outside [0, 1].
func (s TurnDecay) Validate() error {
	if !(s.Decay >= 0 && s.Decay <= 1) {
		return fmt.Errorf("decay: %v is outside [0, 1]", s.Decay)
	}
	return nil
}

// Transform scales the batch.
func (s TurnDecay) Transform(b *Batch) error {
	b.eachTurn(func(gi, i, k int) {
		b.scaleTurn(gi, i, k, math.Pow(s.Decay, float64(len(b.Groups[gi].Trajectories[i].Turns)-1-k)))
	})
	return nil
}

// GPGScale makes up for trajectories that earned nothing: A ← A·B/#{R ≠ 0}, with B the number of kept
// trajectories of the batch and R their shaped outcomes. A batch whose outcomes are all 0 is left as it is. GPG,
// arXiv 2504.02546.
type GPGScale struct{}

// NeedsOutcome is true.
func (GPGScale) NeedsOutcome() bool { return true }

// Transform scales the batch.
func (GPGScale) Transform(b *Batch) error {
	kept, earned := 0.0, 0.0
	for _, g := range b.Groups {
		for i := range g.Trajectories {
			if g.Kept(i) {
				kept++
				if g.Outcome[i] != 0 {
					earned++
				}
			}
		}
	}
	if earned > 0 {
		b.each(func(a *float64) { *a *= kept / earned })
	}
	return nil
}

// SmoothingClip keeps the copies of a group from counting in full where a filter has refilled the batch with them.
// Each of c copies has its advantages divided by √c and limited, and the one group that stands for all of them has
// their sum:
//
//	A ← c·clip(A/√c, −Bound, Bound)
//
// so that a group counts √c-fold while nothing is limited. VSPO (reconstructed from its abstract).
type SmoothingClip struct {
	// Bound limits the advantage of a copy; it is positive. Default 5.
	Bound float64 `yaml:"bound"`
}

// Validate reports a bound that is not positive.
func (s SmoothingClip) Validate() error { return Clip(s).Validate() }

// Transform scales and limits the batch.
func (s SmoothingClip) Transform(b *Batch) error {
	for gi, g := range b.Groups {
		copies := float64(max(g.Multiplicity, 1))
		b.eachOf(gi, func(a *float64) {
			*a = copies * min(max(*a/math.Sqrt(copies), -s.Bound), s.Bound)
		})
	}
	return nil
}
