package algos

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/algos/shape"
	"github.com/turnwise-rl/turnwise/kernels"
)

// Every setting of a credit rule, a term and a transform that is unknown or out of range is named.
func TestSettingsOutOfRange(t *testing.T) {
	term := func(edit func(*advantage.Term)) any {
		m := GRPO()
		edit(&m.Advantage.Terms[0])
		return m
	}
	for want, part := range map[string]any{
		`of: unknown value "all": use outcome, turns or total`:                                                       credit.Broadcast{Of: "all"},
		`discount: -1 is outside [0, 1]`:                                                                             credit.TurnReturn{Discount: -1},
		`discount: NaN is outside [0, 1]`:                                                                            credit.TokenReturn{Of: credit.Total, Discount: math.NaN(), ObsTokens: kernels.BetweenSkip},
		`obs_tokens: unknown value "carry": use skip, plain, reset or zero`:                                          credit.TokenReturn{Of: credit.Total, ObsTokens: "carry"},
		`of: unknown value "": use outcome, turns or total`:                                                          credit.TokenReturn{},
		`lambda: 2 is outside [0, 1]`:                                                                                credit.GAE{Of: credit.Total, Lambda: 2, ObsTokens: kernels.BetweenSkip},
		`discount: 2 is outside [0, 1]`:                                                                              credit.GAE{Of: credit.Total, Discount: 2, ObsTokens: kernels.BetweenSkip},
		`obs_tokens: unknown value "none": use skip, plain, reset or zero`:                                           credit.GAE{Of: credit.Total, ObsTokens: "none"},
		`of: unknown value "gain": use outcome, turns or total`:                                                      credit.NeighborReturn{Of: "gain"},
		`backup: unknown value "max": use entropy, mean or leaf`:                                                     credit.TreeValue{Backup: "max"},
		`advantage: unknown value "own": use value, minus_parent, minus_root or both`:                                credit.TreeValue{Backup: credit.BackupMean, Advantage: "own"},
		`epsilon: 0 must be positive: leaves that all earned the same have no deviation`:                             credit.TreeValue{Backup: credit.BackupMean, Advantage: credit.TreeOwn},
		`rollout: empty: name the recorded score that numbers the rollouts of a group`:                               credit.SegmentBroadcast{Of: credit.Outcome},
		`epsilon: -1 must be a finite number, at least 0`:                                                            advantage.Whiten{Epsilon: -1},
		`bound: 0 must be positive`:                                                                                  advantage.Clip{},
		`bound: NaN must be positive`:                                                                                advantage.SmoothingClip{Bound: math.NaN()},
		`center: unknown value "turn": use batch, group, leave-one-out or none`:                                      advantage.Normalize{Center: "turn"},
		`scale: unknown value "turn": use batch, group or none`:                                                      advantage.Normalize{Center: advantage.CenterNone, Scale: "turn"},
		`epsilon: +Inf must be a finite number, at least 0`:                                                          advantage.Normalize{Center: advantage.CenterNone, Scale: advantage.ScaleNone, Epsilon: math.Inf(1)},
		`delta: NaN is not a finite number`:                                                                          advantage.EarlyCall{Delta: math.NaN()},
		`bound: -1 must be a finite number, at least 0`:                                                              advantage.EarlyCall{Bound: -1},
		`floor: 2 is outside [0, 1]`:                                                                                 advantage.TrustScale{Normalize: outcome.Text, Floor: 2},
		`high: 0.3 must be a finite number above low, 0.3`:                                                           advantage.TrustScale{Normalize: outcome.Text, Low: 0.3, High: 0.3},
		`normalize: unknown value "": use text or words`:                                                             advantage.TrustScale{},
		`coef: +Inf is not a finite number`:                                                                          advantage.EntropyScale{Coef: math.Inf(1)},
		`decay: NaN is outside [0, 1]`:                                                                               advantage.TurnDecay{Decay: math.NaN()},
		`advantage.terms[0].credit: missing: set its type to one of ` + alternatives(credit.Table):                   term(func(t *advantage.Term) { t.Credit = nil }),
		`advantage.terms[0].compare: unknown value "task": use one of group, turn-index, pooled, state, role, batch`: term(func(t *advantage.Term) { t.Compare = "task" }),
		`advantage.terms[0].center: unknown value "median": use one of [mean leave-one-out length-weighted turn-weighted runner-up greedy ema critic none]`: term(func(t *advantage.Term) { t.Center = "median" }),
		`advantage.terms[0].scale: unknown value "range": use one of [sample population batch group-mean none]`:                                             term(func(t *advantage.Term) { t.Scale = "range" }),
		`advantage.terms[0].singleton: unknown value "keep": use one of [raw zero drop]`:                                                                    term(func(t *advantage.Term) { t.Singleton = "keep" }),
		`advantage.terms[0].epsilon: NaN must be a finite number, at least 0`:                                                                               term(func(t *advantage.Term) { t.Epsilon = math.NaN() }),
		`advantage.terms[0].weight: +Inf is not a finite number`:                                                                                            term(func(t *advantage.Term) { t.Weight = math.Inf(1) }),
	} {
		if err := part.(validator).Validate(); err == nil || err.Error() != want {
			t.Errorf("%+v: error %v\nwant  %s", part, err, want)
		}
	}
}

// Rewards at single tokens count with their trajectory and with their turn.
func TestRewardsAtTokensCount(t *testing.T) {
	trajectory := masked("a", 0, 1, 1, 0, 1)
	outcome := 1.0
	trajectory.Outcome = &outcome
	for k, reward := range []float64{0.5, 0.25} {
		trajectory.Turns[k].Rewards = map[string]float64{"r": reward}
	}
	penalties := tokenRewards{"a": {0, -0.1, -0.2, 0, -0.4}}
	for name, test := range map[string]struct {
		rule credit.Rule
		want []float64
	}{
		"broadcast":       {credit.Broadcast{Of: credit.Outcome}, []float64{0.3, 0.3}},
		"turn_return":     {credit.TurnReturn{Discount: 0.5}, []float64{0.2 - 0.5*0.15, -0.15}},
		"neighbor_return": {credit.NeighborReturn{Of: credit.Total}, []float64{1.2, 0.85}},
		"token_return":    {credit.TokenReturn{Of: credit.Outcome, Discount: 1, ObsTokens: kernels.BetweenSkip}, []float64{0.4, 0.6}},
	} {
		m := termMethod(test.rule)
		m.TurnReward, m.Shape = recorded(), []shape.Shaper{penalties}
		agree(t, name, test.want, streams(t, m, one(trajectory))[0].Terms[0].Turns)
	}
}
