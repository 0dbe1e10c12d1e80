package credit

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/kernels"
)

// GAE is the generalised advantage over a critic's values V, token by token:
//
//	δ_t = r_t + Discount·V_{t+1} − V_t,  A_t = δ_t + Discount·Lambda·A_{t+1}
//
// with rewards where [TokenReturn] has them and V = A = 0 after the last token. The critic's targets are A + V.
// Schulman et al., arXiv 1506.02438, eq. 16; skipping observations as in verl core_algos.py,
// compute_gae_advantage_return. StepTool, arXiv 2410.07745, has Discount 0.99 and Lambda 0.95; TL-Training 1 and 0.95.
type GAE struct {
	// Of says which rewards count beside those at single tokens. Default outcome.
	Of Of `yaml:"of" jsonschema:"enum=outcome,enum=turns,enum=total"`
	// Discount is in [0, 1], per token. Default 1.
	Discount float64 `yaml:"discount"`
	// Lambda is in [0, 1]: 0 trusts the critic, 1 the rewards. Default 1.
	Lambda float64 `yaml:"lambda"`
	// ObsTokens is what tokens the policy did not sample do: skip carries the next value and advantage over
	// them, plain lets time pass and their values count, reset starts anew, zero lets time pass with reward and
	// value 0. Default skip.
	ObsTokens kernels.Between `yaml:"obs_tokens" jsonschema:"enum=skip,enum=plain,enum=reset,enum=zero"`
}

// NewGAE returns GAE with its defaults.
func NewGAE() GAE { return GAE{Of: Outcome, Discount: 1, Lambda: 1, ObsTokens: kernels.BetweenSkip} }

// Validate reports settings that are unknown or out of range.
func (r GAE) Validate() error {
	if err := r.Of.validate(); err != nil {
		return err
	}
	if err := fraction("discount", r.Discount); err != nil {
		return err
	}
	if err := fraction("lambda", r.Lambda); err != nil {
		return err
	}
	return validateBetween(r.ObsTokens)
}

// Level is the token.
func (GAE) Level() Level { return Token }

// NeedsOutcome is true when the outcome counts.
func (r GAE) NeedsOutcome() bool { return r.Of.outcome() }

// NeedsTurns is true when turn rewards count.
func (r GAE) NeedsTurns() bool { return r.Of.turns() }

// ReadsValues is true.
func (GAE) ReadsValues() bool { return true }

// Scores returns the advantage of every token.
func (r GAE) Scores(b *scored.Batch) ([][][]float64, error) {
	scan := tokenRewards(b, r.Of, r.ObsTokens)
	flat, values := units(b, tokenCount)
	for gi, g := range b.Groups {
		for i := range g.Trajectories {
			if !g.Kept(i) {
				continue
			}
			all := scan.Between == kernels.BetweenPlain
			if err := checkValues(g, i, all); err != nil {
				return nil, err
			}
			for t, v := range g.Trajectories[i].Values {
				// A value that no pass reads may be anything; one that is not finite must not spread from there.
				if all || g.Trajectories[i].Sampled[t] {
					values[gi][i][t] = float64(v)
				}
			}
		}
	}
	advantages, err := b.Arithmetic.GAE(scan, flat, r.Discount, r.Lambda)
	if err != nil {
		return nil, err
	}
	return cut(b, advantages, tokenCount), nil
}

// CheckValues reports a kept trajectory that does not carry a critic's finite values where the policy sampled.
func CheckValues(g *scored.Group, i int) error { return checkValues(g, i, false) }

// checkValues looks at every token from the first sampled one on when all are read.
func checkValues(g *scored.Group, i int, all bool) error {
	t := &g.Trajectories[i]
	fail := func(format string, args ...any) error {
		return fmt.Errorf("group %s: trajectory %s: values: %s", g.ID, t.ID, fmt.Sprintf(format, args...))
	}
	if t.Values == nil {
		return fail("null: the method reads a critic: record one value per token, or choose a method without a critic")
	}
	for p, v := range t.Values {
		began := all && len(t.Turns) > 0 && p >= t.Turns[0].Start
		if (began || t.Sampled[p]) && (math.IsNaN(float64(v)) || math.IsInf(float64(v), 0)) {
			return fail("token %d: %v, want a finite number", p, v)
		}
	}
	return nil
}
