package credit

import (
	"fmt"
	"slices"

	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/kernels"
)

// TokenReturn scores a token by what follows it:
//
//	G_t = Σ_{s ≥ t} Discount^{s−t}·r_s
//
// A turn's reward lies at its last token, the outcome at the trajectory's last sampled token, and rewards at
// single tokens, a penalty for divergence for example, where they were given. REINFORCE++, arXiv 2501.03262;
// verl core_algos.py, compute_reinforce_plus_plus_outcome_advantage.
type TokenReturn struct {
	// Of says which rewards count beside those at single tokens. Default outcome.
	Of Of `yaml:"of" jsonschema:"enum=outcome,enum=turns,enum=total"`
	// Discount is in [0, 1], per token. Default 1.
	Discount float64 `yaml:"discount"`
	// ObsTokens is what tokens the policy did not sample do to the sum: skip them, treat them plainly as time
	// that passes, reset the sum at them, or zero their rewards. Default skip.
	ObsTokens kernels.Between `yaml:"obs_tokens" jsonschema:"enum=skip,enum=plain,enum=reset,enum=zero"`
}

// NewTokenReturn returns TokenReturn with its defaults.
func NewTokenReturn() TokenReturn {
	return TokenReturn{Of: Outcome, Discount: 1, ObsTokens: kernels.BetweenSkip}
}

// Validate reports settings that are unknown or out of range.
func (r TokenReturn) Validate() error {
	if err := r.Of.validate(); err != nil {
		return err
	}
	if err := fraction("discount", r.Discount); err != nil {
		return err
	}
	return validateBetween(r.ObsTokens)
}

func validateBetween(between kernels.Between) error {
	if !slices.Contains(kernels.Betweens, between) {
		return fmt.Errorf("obs_tokens: unknown value %q: use skip, plain, reset or zero", between)
	}
	return nil
}

// Level is the token.
func (TokenReturn) Level() Level { return Token }

// NeedsOutcome is true when the outcome counts.
func (r TokenReturn) NeedsOutcome() bool { return r.Of.outcome() }

// NeedsTurns is true when turn rewards count.
func (r TokenReturn) NeedsTurns() bool { return r.Of.turns() }

// Scores returns the return of every token.
func (r TokenReturn) Scores(b *scored.Batch) ([][][]float64, error) {
	returns, err := b.Arithmetic.Returns(tokenRewards(b, r.Of, r.ObsTokens), r.Discount)
	if err != nil {
		return nil, err
	}
	return cut(b, returns, tokenCount), nil
}
