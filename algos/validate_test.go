package algos

import (
	"testing"

	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/algos/pair"
	"github.com/turnwise-rl/turnwise/algos/shape"
	"github.com/turnwise-rl/turnwise/algos/turnreward"
	"github.com/turnwise-rl/turnwise/algos/weight"
	"github.com/turnwise-rl/turnwise/kernels"
)

// criticTerm is PPO's term.
func criticTerm() advantage.Term {
	term := advantage.NewTerm()
	term.Credit, term.Center, term.Scale = credit.NewGAE(), advantage.NoCenter, advantage.NoScale
	return term
}

// preferenceLoss is the loss of an objective that compares sequences.
func preferenceLoss(objective kernels.Objective) kernels.Program {
	loss := DefaultLoss()
	loss.Objective, loss.Ratio = objective, kernels.RatioOne
	return loss
}

func TestValidateNamesBothPlaces(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func(*Method)
		want string
	}{
		{"turn credit without turn rewards", func(m *Method) { m.TurnReward = turnreward.None{} },
			"advantage.terms[0].credit: broadcast needs turn rewards, but turn_reward.type is none: set turn_reward.type to one of " + alternatives(turnreward.Table)},
		{"turn comparison of trajectory scores", func(m *Method) { m.Advantage.Terms[0].Compare = advantage.TurnIndex },
			"advantage.terms[0].compare: turn-index compares turn scores, but advantage.terms[0].credit.type broadcast gives one score per trajectory"},
		{"outcome credit without outcome", func(m *Method) {
			m.Outcome, m.Advantage.Terms[0].Credit = outcome.None{}, credit.Broadcast{Of: credit.Outcome}
		}, "advantage.terms[0].credit: broadcast needs the outcome, but outcome.type is none: set outcome.type to one of " + alternatives(outcome.Table)},
		{"unknown setting of a part", func(m *Method) { m.TurnReward = turnreward.Match{Assignment: "best"} },
			`turn_reward.assignment: unknown value "best": use one of exact, greedy, transport`},
		{"loss", func(m *Method) { m.Loss.Ratio = "tokens" },
			`loss.ratio: unknown value "tokens": use one of token, turn, sequence-geometric, sequence-product, one`},
		{"no terms", func(m *Method) { m.Advantage.Terms = nil }, "advantage.terms: empty: add at least one term"},
		{"bad discount", func(m *Method) { m.Advantage.Terms[1].Credit = credit.TurnReturn{Discount: 1.5} },
			"advantage.terms[1].credit.discount: 1.5 is outside [0, 1]"},
		{"dropping turns", func(m *Method) { m.Advantage.Terms[1].Singleton = advantage.Drop },
			"advantage.terms[1].singleton: drop removes a whole trajectory, but advantage.terms[1].credit.type turn_return gives one score per turn: use zero or raw"},
		{"no score of a token in a group", func(m *Method) { m.Advantage.Terms[0].Credit = credit.NewTokenReturn() },
			"advantage.terms[0].compare: group compares trajectory scores, but advantage.terms[0].credit.type token_return gives one score per token"},
		{"unknown support", func(m *Method) { m.Advantage.Terms[0].Support = "tools" },
			`advantage.terms[0].support: unknown value "tools": use one of [all calls answer]`},
		{"two readers of a critic", func(m *Method) {
			m.Advantage.Terms = []advantage.Term{criticTerm(), criticTerm()}
		}, "advantage.terms[1]: reads the critic, as advantage.terms[0] does already, and a critic has one target: keep one of them"},
		{"comparing what a critic has compared", func(m *Method) {
			m.Advantage.Terms[0].Credit, m.Advantage.Terms[0].Compare = credit.NewGAE(), advantage.Pooled
		}, "advantage.terms[0].center: mean of what advantage.terms[0].credit.type gae has compared with a critic already: set it to none"},
		{"scaling what a critic has compared", func(m *Method) {
			m.Advantage.Terms[0] = criticTerm()
			m.Advantage.Terms[0].Scale, m.Advantage.Terms[0].Compare = advantage.SampleStd, advantage.Pooled
		}, "advantage.terms[0].scale: sample of what advantage.terms[0].credit.type gae has compared with a critic already: set it to none, or add the transform whiten"},
		{"scaling by a set that is not compared with", func(m *Method) { m.Advantage.Terms[0].Center = advantage.Greedy },
			"advantage.terms[0].scale: sample is of the comparison set, but advantage.terms[0].center greedy is not: set it to none, or add the transform whiten"},
		{"averaging turns", func(m *Method) {
			m.Advantage.Terms[1].Center, m.Advantage.Terms[1].Scale = advantage.EMA, advantage.NoScale
		}, "advantage.terms[1].center: ema averages trajectories, but advantage.terms[1].credit.type turn_return gives one score per turn: set credit.type to broadcast"},
		{"decay", func(m *Method) {
			m.Advantage.Terms[0].Center, m.Advantage.Terms[0].Scale, m.Advantage.Terms[0].Decay = advantage.EMA, advantage.NoScale, 2
		}, "advantage.terms[0].decay: 2 is outside [0, 1]"},
		{"critic on calls alone", func(m *Method) {
			m.Advantage.Terms[0] = criticTerm()
			m.Advantage.Terms[0].Support = advantage.CallTurns
		}, "advantage.terms[0].support: calls leaves out tokens that the critic has values of: set it to all"},
		{"critic that nothing trains", func(m *Method) { m.Advantage.Terms[0] = criticTerm() },
			"advantage.terms[0].credit.type: gae reads a critic, but nothing trains one: add a part of type value to loss.regularizers"},
		{"center critic that nothing trains", func(m *Method) {
			m.Advantage.Terms[1].Center, m.Advantage.Terms[1].Scale = advantage.Critic, advantage.NoScale
		}, "advantage.terms[1].center: critic reads a critic, but nothing trains one: add a part of type value to loss.regularizers"},
		{"critic that nothing reads", func(m *Method) { m.Loss.Regularizers = append(m.Loss.Regularizers, kernels.NewValue()) },
			"loss.regularizers[2].type: value trains a critic, but no term of the advantage reads one: set advantage.terms[0].credit.type to gae or advantage.terms[0].center to critic, or remove it"},
		{"pairs without a rule", func(m *Method) { m.Loss = preferenceLoss(kernels.DPO{Beta: 0.1}) },
			"loss.objective.type: dpo compares pairs, but pair.type is none: set pair.type to one of best_worst, sorted, recorded"},
		{"pairs of a rule that ranks", func(m *Method) { m.Loss, m.Pair = preferenceLoss(kernels.IPO{Beta: 0.1}), pair.Rank{Of: pair.Outcome} },
			"loss.objective.type: ipo compares pairs, but pair.type rank gives scores to rank by: set pair.type to one of best_worst, sorted, recorded"},
		{"ranks of a rule of pairs", func(m *Method) {
			m.Loss, m.Pair = preferenceLoss(kernels.Rank{Coef: 1}), pair.BestWorst{Of: pair.Outcome}
		}, "loss.objective.type: rank orders a group by scores, but pair.type best_worst gives none: set pair.type to rank"},
		{"ranks without a rule", func(m *Method) { m.Loss, m.Pair = preferenceLoss(kernels.Rank{Coef: 1}), nil },
			"loss.objective.type: rank orders a group by scores, but pair.type none gives none: set pair.type to rank"},
		{"pairs for nothing", func(m *Method) { m.Pair = pair.Sorted{Of: pair.Outcome} },
			"pair.type: sorted makes preferences, but loss.objective.type clip compares no sequences: set pair.type to none"},
		{"imitation without weights", func(m *Method) { m.Loss.Regularizers = []kernels.Regularizer{kernels.AuxiliaryCE{Coef: 1}} },
			"loss.regularizers[0].type: cross_entropy reads weights that no part of weight writes: add one, or remove it"},
		{"divergence without weights", func(m *Method) {
			m.Loss.Regularizers = []kernels.Regularizer{kernels.ReferenceKL{Estimator: kernels.KLK2, Coef: 1}}
		}, "loss.regularizers[0].type: reference_kl reads weights that no part of weight writes: add one, or remove it"},
		{"weights for nothing", func(m *Method) { m.Weight = []weight.Rule{weight.NewImitate()} },
			"weight[0].type: imitate writes weights that no part of the loss reads: add a part of type cross_entropy to loss.regularizers, or remove it"},
		{"bounds for nothing", func(m *Method) {
			m.Weight, m.Loss.Objective = []weight.Rule{weight.NewTrustClip()}, kernels.CISPO{ClipLow: 1, ClipHigh: 0.28}
		}, "weight[0].type: trust_clip gives trajectories clip bounds of their own, which loss.objective.type cispo does not have: set that to clip, or remove the part"},
		{"signs of outcomes without outcomes", func(m *Method) {
			m.Outcome, m.Loss = outcome.None{}, kernels.Program{
				Ratio: kernels.RatioSequenceProduct, RatioGradient: kernels.GradientOwn, Anchor: kernels.AnchorBehavior,
				Objective: kernels.TOPR{}, Rejected: kernels.RejectedStay, Aggregate: kernels.TokenMean,
			}
		}, "loss.objective.type: topr reads the outcome, but outcome.type is none: set outcome.type to one of " + alternatives(outcome.Table)},
		{"shaping turns without turn rewards", func(m *Method) {
			*m = GRPO()
			m.Shape = []shape.Shaper{shape.TurnFormat{Penalty: -1}}
		}, "shape[0].type: turn_format edits turn rewards, but turn_reward.type is none: set turn_reward.type or remove the shaper"},
		{"pairs by turns without turn rewards", func(m *Method) {
			*m = GRPO()
			m.Loss, m.Pair = preferenceLoss(kernels.DPO{Beta: 0.1}), pair.BestWorst{Of: pair.Turns}
		}, "pair.type: best_worst reads turn rewards, but turn_reward.type is none: set turn_reward.type to one of " + alternatives(turnreward.Table)},
		{"early calls without outcomes", func(m *Method) {
			m.Outcome, m.Advantage.Transforms = outcome.None{}, []advantage.Transform{advantage.NewEarlyCall()}
		}, "advantage.transforms[0].type: early_call reads the outcome, but outcome.type is none: set outcome.type to one of " + alternatives(outcome.Table)},
		{"a transform's settings", func(m *Method) { m.Advantage.Transforms = []advantage.Transform{advantage.TurnDecay{Decay: 2}} },
			"advantage.transforms[0].decay: 2 is outside [0, 1]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := MatchTIR()
			test.edit(&m)
			err := m.Validate()
			if err == nil || err.Error() != test.want {
				t.Errorf("error %v\nwant  %s", err, test.want)
			}
		})
	}
}

// A loss that reads no advantages needs no terms.
func TestPreferencesNeedNoTerms(t *testing.T) {
	m := GRPO()
	m.Advantage.Terms, m.Loss, m.Pair = nil, preferenceLoss(kernels.DPO{Beta: 0.1}), pair.BestWorst{Of: pair.Outcome}
	got := streams(t, m, outcomes([]float64{1, 0}, []string{"g", "g"})...)
	if got[0].Pair == "" || got[0].Pair != got[1].Pair || !got[0].Chosen || got[1].Chosen || len(got[0].Terms) != 0 {
		t.Errorf("streams %+v", got)
	}
}
