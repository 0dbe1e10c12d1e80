package mask

import (
	"math"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/fact/facttest"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

type (
	episode = facttest.Episode
	turn    = facttest.Turn
)

var calls = facttest.Calls

// group has episodes of every way to end, each with turns of every kind.
func group(t *testing.T) *scored.Group {
	return facttest.Group(t, rollout.Gold{},
		episode{Answer: "rome", Turns: []turn{{Calls: calls(rollout.CallOK)}, {}}, Scores: map[string]float64{"signal": 1}},
		episode{Stop: rollout.StopMaxTurns, Turns: []turn{{Calls: calls(rollout.CallBadArgs, rollout.CallOK)}}, Scores: map[string]float64{"signal": 0.5}},
		episode{Stop: rollout.StopMaxTokens, Turns: []turn{{Calls: calls(rollout.CallError)}, {Malformed: true}}},
		episode{Stop: rollout.StopVoid, Turns: []turn{{Calls: calls(rollout.CallUnparsable), Malformed: true}}, Scores: map[string]float64{"signal": math.NaN()}},
		episode{Stop: rollout.StopMaxTokens},
		episode{Stop: rollout.StopToolFailure, Turns: []turn{{Malformed: true}}},
	)
}

func TestMasks(t *testing.T) {
	for name, test := range map[string]struct {
		rule    Rule
		reasons []string
		weights [][]float64 // at the first token of each turn of a trajectory that has any
	}{
		"over_turn":               {OverTurn{}, []string{"", "over_turn", "over_turn", "", "over_turn", "tool_failure"}, make([][]float64, 6)},
		"overlong":                {Overlong{}, []string{"", "", "overlong", "", "overlong", "tool_failure"}, make([][]float64, 6)},
		"void_turn, whole":        {VoidTurn{Whole: true}, []string{"", "", "void_turn", "void_turn", "", "tool_failure"}, make([][]float64, 6)},
		"void_turn":               {VoidTurn{}, []string{"", "", "", "", "", "tool_failure"}, [][]float64{nil, nil, {1, 0}, {0}, nil, nil}},
		"incomplete_signal":       {NewIncompleteSignal(), []string{"", "incomplete_signal", "incomplete_signal", "incomplete_signal", "incomplete_signal", "tool_failure"}, make([][]float64, 6)},
		"incomplete_signal, half": {IncompleteSignal{Score: "signal", AtLeast: 0.5}, []string{"", "", "incomplete_signal", "incomplete_signal", "incomplete_signal", "tool_failure"}, make([][]float64, 6)},
		"malformed_turn":          {MalformedTurn{}, []string{"", "", "", "", "", "tool_failure"}, [][]float64{nil, nil, {1, 0}, {0}, nil, nil}},
		"erroneous_turn":          {NewErroneousTurn(), []string{"", "", "", "", "", "tool_failure"}, [][]float64{nil, {0}, {0, 1}, {0}, nil, nil}},
		"erroneous_turn, errors": {ErroneousTurn{Statuses: []rollout.CallStatus{rollout.CallError}}, []string{"", "", "", "", "", "tool_failure"},
			[][]float64{nil, nil, {0, 1}, nil, nil, nil}},
	} {
		g := group(t)
		g.Reason[5] = "tool_failure"
		if err := test.rule.Mask(g); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(test.reasons, g.Reason); diff != "" {
			t.Errorf("%s: reasons (-want +got):\n%s", name, diff)
		}
		got := make([][]float64, 6)
		for i := range g.LossWeights {
			if weights := g.LossWeights[i]; weights != nil {
				for _, turn := range g.Trajectories[i].Turns {
					got[i] = append(got[i], weights[turn.Start])
				}
			}
		}
		if diff := cmp.Diff(test.weights, got); diff != "" {
			t.Errorf("%s: weights (-want +got):\n%s", name, diff)
		}
	}
}

// An answer that came with the last token allowed is an answer.
func TestAnsweredEpisodesAreNotOverlong(t *testing.T) {
	g := facttest.Group(t, rollout.Gold{}, episode{Stop: rollout.StopMaxTokens, Answer: "rome"})
	for _, rule := range []Rule{OverTurn{}, Overlong{}} {
		if err := rule.Mask(g); err != nil || g.Reason[0] != "" {
			t.Errorf("%T: reason %q, %v", rule, g.Reason[0], err)
		}
	}
}

// Masks change nothing outside the turns they mean, commute, and applied twice are applied once.
func TestMasksSilenceWholeTurnsOnly(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		first := Table[rapid.IntRange(0, len(Table)-1).Draw(r, "first")].New().(Rule)
		second := Table[rapid.IntRange(0, len(Table)-1).Draw(r, "second")].New().(Rule)
		apply := func(rules ...Rule) *scored.Group {
			g := group(t)
			for _, rule := range rules {
				if err := rule.Mask(g); err != nil {
					r.Fatal(err)
				}
			}
			return g
		}
		once, twice, other := apply(first, second), apply(first, second, first, second), apply(second, first)
		if diff := cmp.Diff(once.Reason, twice.Reason) + cmp.Diff(once.LossWeights, twice.LossWeights); diff != "" {
			r.Fatalf("%T and %T twice:\n%s", first, second, diff)
		}
		for i := range once.Trajectories {
			if once.Kept(i) != other.Kept(i) {
				r.Fatalf("%T, %T: trajectory %d is kept in one order only", first, second, i)
			}
			if once.LossWeights == nil || once.LossWeights[i] == nil {
				continue
			}
			inTurn := make([]bool, len(once.LossWeights[i]))
			for _, turn := range once.Trajectories[i].Turns {
				weights := once.LossWeights[i][turn.Start:turn.End]
				if slices.Contains(weights, 0) && slices.Contains(weights, 1) {
					r.Fatalf("a turn is half masked: %v", weights)
				}
				for p := turn.Start; p < turn.End; p++ {
					inTurn[p] = true
				}
			}
			for p, weight := range once.LossWeights[i] {
				if !inTurn[p] && weight != 1 {
					r.Fatalf("token %d of no turn has weight %v", p, weight)
				}
			}
		}
	})
}

func TestSettingsAreChecked(t *testing.T) {
	type validator interface{ Validate() error }
	for _, test := range []struct {
		rule validator
		want string
	}{
		{IncompleteSignal{AtLeast: 1}, "score: empty: name a recorded value"},
		{IncompleteSignal{Score: "s", AtLeast: math.Inf(1)}, "at_least: +Inf is not a finite number"},
		{ErroneousTurn{}, "statuses: empty: list at least one of [ok error unknown_tool bad_args unparsable]"},
		{ErroneousTurn{Statuses: []rollout.CallStatus{"error", "slow"}}, `statuses[1]: unknown value "slow": use one of [ok error unknown_tool bad_args unparsable]`},
	} {
		if err := test.rule.Validate(); err == nil || err.Error() != test.want {
			t.Errorf("%T: got %v, want %s", test.rule, err, test.want)
		}
	}
	for _, variant := range Table {
		if v, ok := variant.New().(validator); ok && v.Validate() != nil {
			t.Errorf("%s: the default settings are not valid: %v", variant.Name, v.Validate())
		}
	}
}
