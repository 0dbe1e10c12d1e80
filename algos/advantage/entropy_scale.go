package advantage

import (
	"fmt"
	"math"
	"slices"

	"github.com/turnwise-rl/turnwise/algos/scored"
)

// EntropyScale scales advantages by how unsure the policy was:
//
//	A_t ← A_t·(1 + Coef·z_t),  z the standardised entropy over the batch's sampled tokens
//
// A trajectory without recorded entropies is measured by its surprise −log μ, which has the entropy as its mean.
// AEPO, in the release of AT²PO, arXiv 2601.04767.
type EntropyScale struct {
	// Coef is how much a token one standard deviation above the mean gains. Default 0.2.
	Coef float64 `yaml:"coef"`
}

// NewEntropyScale returns EntropyScale with its defaults.
func NewEntropyScale() EntropyScale { return EntropyScale{Coef: 0.2} }

// Validate reports a coefficient that is not finite.
func (s EntropyScale) Validate() error {
	if math.IsNaN(s.Coef) || math.IsInf(s.Coef, 0) {
		return fmt.Errorf("coef: %v is not a finite number", s.Coef)
	}
	return nil
}

// Transform scales the batch.
func (s EntropyScale) Transform(b *Batch) error {
	entropies, at := make([]float64, len(b.flat)), 0
	for _, g := range b.Groups {
		for i := range g.Trajectories {
			n := len(g.Trajectories[i].Tokens)
			if g.Kept(i) {
				if err := tokenEntropies(g, i, entropies[at:at+n]); err != nil {
					return err
				}
			}
			at += n
		}
	}
	counted := b.counted()
	if n := slices.Index(counted, true); n < 0 || slices.Index(counted[n+1:], true) < 0 {
		return nil // a token alone is as unsure as the average
	}
	z, err := b.Arithmetic.Whiten(entropies, counted, 1e-12)
	if err != nil {
		return err
	}
	for t := range b.flat {
		b.flat[t] *= 1 + s.Coef*z[t]
	}
	return nil
}

// tokenEntropies writes the entropies of trajectory i's sampled tokens.
func tokenEntropies(g *scored.Group, i int, into []float64) error {
	t, sign := &g.Trajectories[i], 1.0
	source := t.Entropies
	if source == nil {
		source, sign = t.BehaviorLogProbs, -1
	}
	if source == nil {
		return fmt.Errorf("group %s: trajectory %s: neither entropies nor behavior_logprobs: entropy_scale reads one of them", g.ID, t.ID)
	}
	for p, sampled := range t.Sampled {
		if sampled {
			into[p] = sign * float64(source[p])
		}
	}
	return nil
}
