package shape

import (
	"testing"
	"time"

	"github.com/turnwise-rl/turnwise/algos/fact/facttest"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

type turns = []facttest.Turn

// calls are calls of tools that answered.
func calls(tools ...string) []rollout.Call {
	var out []rollout.Call
	for _, tool := range tools {
		out = append(out, rollout.Call{Name: tool, Status: rollout.CallOK})
	}
	return out
}

// TestPartsByHand checks parts that have no reference numbers against their equation, worked out by hand.
func TestPartsByHand(t *testing.T) {
	mixed := facttest.Episode{Turns: turns{{}, {Malformed: true}, {}, {}}}
	good := facttest.Episode{Turns: turns{{}, {}}}
	none := facttest.Episode{}
	tests := []struct {
		name     string
		part     Shaper
		outcomes []float64
		episodes []facttest.Episode
		want     []float64
	}{
		{"format gate", FormatGate{Penalty: -1}, []float64{1, 1, 1}, []facttest.Episode{mixed, good, none}, []float64{-1, 1, 1}},
		{"format bonus, every turn", FormatBonus{Weight: 0.2, Of: EveryTurn}, []float64{1, 1, 1}, []facttest.Episode{mixed, good, none}, []float64{1, 1.2, 1}},
		{"format bonus, mean", FormatBonus{Weight: 2, Of: MeanTurn}, []float64{1, 0, 1}, []facttest.Episode{mixed, good, none}, []float64{2.5, 2, 1}},
		{"progressive", Progressive{Credit: 0.2, Of: StageOutcome}, []float64{1, 0.5, -3, 7, 1}, []facttest.Episode{mixed, good, good, good, none},
			[]float64{0.15, 0.6, 0.2, 1, 0}},
		{"clip", ClipReward{Bound: 5}, []float64{7, -7, 1}, []facttest.Episode{good, good, good}, []float64{5, -5, 1}},
		{"call budget", CallBudget{Bonus: 0.1, Limit: 4, Count: CountIssued, Threshold: 0.5}, []float64{1, 1, 1, 0},
			[]facttest.Episode{calling("search", 1), calling("search", 4), calling("search", 9), calling("search", 1)}, []float64{1.075, 1, 1, 0}},
		{"call discount", CallDiscount{Tools: []string{"search"}, Discount: 0.1, Count: CountIssued}, []float64{1, 1, -1},
			[]facttest.Episode{calling("search", 3), calling("crop", 3), calling("search", 1)}, []float64{0.9, 1, -1}},
		{"lift, turns", NewLiftToolUse(), []float64{-1, -1, 1, -1},
			[]facttest.Episode{{Turns: make(turns, 1)}, {Turns: make(turns, 4)}, {Turns: make(turns, 4)}, {Turns: make(turns, 12)}}, []float64{-1.05, -0.9, 1, -0.6}},
		{"lift, messages", LiftToolUse{Base: -1, Step: 0.05, Cap: -0.6, Count: CountMessages}, []float64{-1, -1, 1, -1},
			[]facttest.Episode{{Turns: make(turns, 1)}, {Turns: make(turns, 4)}, {Turns: make(turns, 4)}, {Turns: make(turns, 12)}}, []float64{-1, -0.7, 1, -0.6}},
		{"overlong past the limit, saturated", Overlong{MaxLength: 10, Cache: 4, Factor: 2, Saturate: true, Length: LengthSampled}, []float64{0, 0},
			[]facttest.Episode{{Turns: turns{{Tokens: 8}}}, {Turns: turns{{Tokens: 14}}}}, []float64{-1, -2}},
		{"overlong past the limit", Overlong{MaxLength: 10, Cache: 4, Factor: 2, Length: LengthSampled}, []float64{0, 0},
			[]facttest.Episode{{Turns: turns{{Tokens: 8}}}, {Turns: turns{{Tokens: 14}}}}, []float64{-1, -4}},
		// Two turns of 4 tokens with an observation of 1 after each: 10 tokens of response.
		{"overlong, response", Overlong{MaxLength: 10, Cache: 4, Factor: 1, Length: LengthResponse}, []float64{0},
			[]facttest.Episode{{Turns: turns{{Tokens: 4}, {Tokens: 4}}}}, []float64{-1}},
		// Output 4 and 8, input 2 (prompt, observation) and 3, turns 1 and 2; mean outcome 0.5.
		{"length penalty", LengthPenalty{Output: 1, Input: 0.1, Turns: 0.1}, []float64{1, 0},
			[]facttest.Episode{{Turns: turns{{Tokens: 4}}}, {Turns: turns{{Tokens: 4}, {Tokens: 4}}}},
			[]float64{1 - 0.5*(0.5+0.1*2/3+0.1*0.5), -0.5 * 1.2}},
		// 2-grams 1 2, 2 1, 1 2, 2 1, 1 2: two distinct of five.
		{"repetition gate", RepetitionGate{Penalty: -1, BadFormat: -0.5, Bonus: 0.1, N: 2, Share: 0.5}, []float64{1, 1, 1, 1},
			[]facttest.Episode{
				{Turns: turns{{IDs: []int32{1, 2, 1, 2, 1, 2}, Malformed: true}}},
				{Turns: turns{{IDs: []int32{1, 2, 3, 4, 5, 6}, Malformed: true}}},
				{Turns: turns{{IDs: []int32{1, 2, 3, 4, 5, 6}}, {IDs: []int32{1, 2, 3}}}},
				{Turns: turns{{IDs: []int32{1}}}},
			}, []float64{-1, -0.5, 1.1, 1.1}},
		// 3-grams of the same tokens over both turns: half of them occurred before, which is not more than half.
		{"repetition at the limit", RepetitionGate{Penalty: -1, N: 3, Share: 0.5}, []float64{1},
			[]facttest.Episode{{Turns: turns{{IDs: []int32{1, 2, 3, 4}}, {IDs: []int32{1, 2, 3, 4}}}}}, []float64{1}},
	}
	for _, test := range tests {
		same(t, test.name, test.want, shaped(t, group(t, test.outcomes, test.episodes...), test.part))
	}
}

func TestPenaltiesCountEachMistakeOnce(t *testing.T) {
	part := Penalties{InvalidAction: -1, ToolError: -0.1, NoTool: -0.01, BadFormat: -0.001, Unfinished: -0.0001}
	all := facttest.Episode{Stop: rollout.StopMaxTurns, Turns: turns{
		{Calls: facttest.Calls(rollout.CallUnknownTool, rollout.CallBadArgs, rollout.CallError, rollout.CallError)}, {Malformed: true}, {Malformed: true},
	}}
	g := group(t, []float64{1, 1, 1}, all, facttest.Episode{Turns: turns{{}}}, facttest.Episode{Turns: turns{{Calls: facttest.Calls(rollout.CallUnparsable)}}})
	same(t, "penalties", []float64{1 - 1.1011, 1 - 0.01, 0}, shaped(t, g, part))
}

func TestCountsSayWhichCallsCount(t *testing.T) {
	statuses := []rollout.CallStatus{rollout.CallOK, rollout.CallError, rollout.CallUnknownTool, rollout.CallBadArgs, rollout.CallUnparsable}
	g := group(t, []float64{1}, facttest.Episode{Turns: turns{{Calls: facttest.Calls(statuses...)}, {Calls: calls("python")}}})
	for counted, want := range map[Counted]int{CountIssued: 6, CountValid: 3, CountOK: 2} {
		same(t, string(counted), want, counted.calls(&g.Trajectories[0], nil))
		same(t, string(counted)+" of search", want-1, counted.calls(&g.Trajectories[0], []string{"search"}))
	}
}

func TestTimeBonus(t *testing.T) {
	g := group(t, []float64{1, 1, 1, 0}, make([]facttest.Episode, 4)...)
	for i, seconds := range []float64{20, 60, 60.5, 30} {
		g.Trajectories[i].ElapsedSeconds = seconds
	}
	// sin(π/6) = 1/2, sin(π/2) = 1, over time, sin(π/4) = √½.
	same(t, "time bonus", []float64{1.25, 1.5, 0, 0.5 * 0.70710678}, shaped(t, g, TimeBonus{Weight: 0.5, Budget: time.Minute}))
}

func TestCalibrationMenu(t *testing.T) {
	for rule, want := range map[CalibrationRule][]float64{
		CalibrationCorrectness: {1, 1, 0, 0},
		CalibrationBrier:       {1 - 0.04, 0, -0.04, -1},
		CalibrationLog:         {1 + -0.2231435513, 1 + -4.6051701860, -0.2231435513, -4.6051701860},
		CalibrationMargin:      {1 - 0.02, 0.5, -0.02, -0.5},
	} {
		part := NewCalibration()
		part.Rule = rule
		g := group(t, []float64{1, 0.5, 0.25, 0}, make([]facttest.Episode, 4)...)
		for i, p := range []float64{0.8, 0, 0.2, 1} {
			g.Trajectories[i].Scores = map[string]float64{"confidence": p}
		}
		same(t, string(rule), want, shaped(t, g, part))
	}
}

func TestBLEU(t *testing.T) {
	for _, test := range []struct {
		answer, gold string
		want         float64
	}{
		{"", "", 1},
		{"rome", "", 0},
		{"", "rome", 0},
		{"Rome", "rome", 1},
		{"paris", "rome", 0},
		{"the cat sat on mats", "the cat sat on mats", 1},
		{"the the", "the cat", 0}, // a bigram is missing
		// Words 3 of 4, bigrams 2 of 3; one word more than the gold answer's three: e^(1 − 4/3), trigrams 1 of 2.
		{"a b c d", "a b c", 0.4513864406}, // e^(−1/3)·(3/4·2/3·1/2)^(1/3)
		{"b c", "a b c", 0},                // no trigram
		{"a", "a b", 0},                    // no bigram
	} {
		same(t, test.answer+" | "+test.gold, test.want, bleu(test.answer, test.gold))
	}
}

func TestCodeSimilarity(t *testing.T) {
	python := func(code string, status rollout.CallStatus) rollout.Call {
		return rollout.Call{Name: "python", Args: rollout.StringArgs("code", code), Status: status}
	}
	episodes := []facttest.Episode{
		{Turns: turns{{Calls: []rollout.Call{python("x = a + b", rollout.CallOK)}}, {}}},     // x = a + b: a success
		{Turns: turns{{Calls: []rollout.Call{python("x=a", rollout.CallError)}}, {}}},        // 3 of 5
		{Turns: turns{{Calls: []rollout.Call{python("y", rollout.CallOK)}}, {}}},             // 0 of 6
		{Turns: turns{{Calls: []rollout.Call{python("x = a + b", rollout.CallOK)}}}},         // all, but partly right already
		{Turns: turns{{Calls: []rollout.Call{python("x = a + b", rollout.CallBadArgs)}}}},    // the tool never saw it
		{Turns: turns{{Calls: []rollout.Call{python("x_1 = a+b", rollout.CallOK)}}, {}}},     // 4 of 6
		{Turns: turns{{Calls: []rollout.Call{{Name: "search", Status: rollout.CallOK}}}}},    // no code
		{Turns: turns{{Calls: []rollout.Call{python("q q q q q", rollout.CallOK)}}, {}, {}}}, // another success
	}
	outcomes := []float64{1, 0, 0, 0.45, 0, -1, 0, 0.5}
	g := group(t, outcomes, episodes...)
	g.Turns = [][]float64{{0, 1}, {0, -0.1}, {0, 0}, {0.45}, {0}, {0.2, -1}, {0}, {0, 0, 0.5}}
	want := []float64{1, 0.3, 0, 0.5, 0, 0.5 * 4 / 6, 0, 0.5}
	same(t, "outcomes", want, shaped(t, g, NewCodeSimilarity()))
	same(t, "turns", [][]float64{{0, 1}, {0, 0.2}, {0, 0}, {0.5}, {0}, {0.2, 0.5 * 4 / 6}, {0}, {0, 0, 0.5}}, g.Turns)

	alone := group(t, []float64{0, 0}, episodes[1], episodes[5])
	same(t, "no success", []float64{0, 0}, shaped(t, alone, NewCodeSimilarity()))
}

func TestTurnRewardsAreEditedInPlace(t *testing.T) {
	g := group(t, []float64{9}, facttest.Episode{Turns: turns{{}, {Malformed: true}, {}}})
	g.Turns = [][]float64{{1, 1, -8}}
	shaped(t, g, TurnFormat{Penalty: -0.1}, ClipReward{Bound: 5})
	same(t, "turns", [][]float64{{1, 0.9, -5}}, g.Turns)
	same(t, "outcome", []float64{5}, g.Outcome)
}

func TestToolEfficiencyKnowsEarlierMinima(t *testing.T) {
	part := NewToolEfficiency()
	part.MinimumScore = "fewest"
	e := calling("search", 2)
	e.Scores = map[string]float64{"fewest": 0}
	// Somebody once did without: cos(2π/(4 + 4)).
	same(t, "with a minimum of 0", []float64{0.70710678}, shaped(t, group(t, []float64{1}, e), part))
	part.MinimumScore = ""
	same(t, "the group alone", []float64{1}, shaped(t, group(t, []float64{1}, e), part))
	same(t, "no correct member", []float64{0.25, -1}, shaped(t, group(t, []float64{0.25, -1}, e, e), part))
}

func TestTokenRewardsAdd(t *testing.T) {
	g := group(t, []float64{0, 0}, facttest.Episode{Turns: turns{{Tokens: 2}}}, facttest.Episode{Turns: turns{{Tokens: 2}}})
	for i := range g.Trajectories {
		g.Trajectories[i].BehaviorLogProbs = []float32{0, -1, -3, 0}
		g.Trajectories[i].ReferenceLogProbs = []float32{0, -2, -2, 0}
	}
	g.Reason[1] = "dropped"
	part := NewKLInReward()
	part.Coef = 0.5
	shaped(t, g, part, part)
	want := &scored.Group{Tokens: [][]float64{{0, -1, 1, 0}, {0, 0, 0, 0}}}
	same(t, "tokens", want.Tokens, g.Tokens)
	if !part.ReadsReference() {
		t.Error("kl_in_reward does not say that it reads the reference policy")
	}
}
