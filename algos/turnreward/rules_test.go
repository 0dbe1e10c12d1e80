package turnreward

import (
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
	rewards = map[string]float64
)

var goldCalls = rollout.Gold{Answer: "rome", Calls: []rollout.GoldCall{
	{Name: "search", Args: rollout.StringArgs("q", "cat")},
	{Name: "search", Args: rollout.StringArgs("q", "dog")},
}}

func call(query string, status rollout.CallStatus) rollout.Call {
	return rollout.Call{Name: "search", Args: rollout.StringArgs("q", query), Status: status}
}

func give(t *testing.T, rule Rule, g *scored.Group) [][]float64 {
	t.Helper()
	got, err := rule.Rewards(g)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func check(t *testing.T, name string, want, got [][]float64) {
	t.Helper()
	if diff := cmp.Diff(want, got, within); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// The turn totals of four rollouts are the reference's R_action, and centred its A_action.
func TestCallCorrectVector(t *testing.T) {
	var v struct {
		In struct {
			R []float64 `json:"R_action"`
		}
		A []float64 `json:"A_action"`
	}
	facttest.Vector(t, "toolpo", &v)
	ok, failed := rollout.CallOK, rollout.CallError
	g := facttest.Group(t, rollout.Gold{},
		episode{Turns: []turn{{Calls: facttest.Calls(ok, ok, failed)}, {Rewards: rewards{"fold": 0.6}}, {Calls: facttest.Calls(ok)}}},
		episode{Turns: []turn{{Calls: facttest.Calls(ok, ok)}, {Calls: facttest.Calls(ok)}}},
		episode{Turns: []turn{{Calls: facttest.Calls(failed), Rewards: rewards{"fold": 0.4}}}},
		episode{Turns: []turn{{Rewards: rewards{"fold": 0.2}}}},
	)
	rule := CallCorrect{Weight: 0.2, FoldWeight: 0.5, Judge: JudgeStatus}
	g.Turns = give(t, rule, g)
	check(t, "turns", [][]float64{{0.4, 0.3, 0.2}, {0.4, 0.2}, {0.2}, {0.1}}, g.Turns)
	var totals, centred []float64
	for i := range g.Turns {
		totals = append(totals, g.TurnTotal(i))
	}
	for i := range totals {
		centred = append(centred, totals[i]-(totals[0]+totals[1]+totals[2]+totals[3])/4)
	}
	check(t, "totals and centred totals", [][]float64{v.In.R, v.A}, [][]float64{totals, centred})
}

func TestCallCorrectAgainstGold(t *testing.T) {
	rule := NewCallCorrect()
	rule.Judge = JudgeGold
	g := facttest.Group(t, goldCalls,
		episode{Turns: []turn{
			{Calls: []rollout.Call{call("dog", rollout.CallOK), call("dog", rollout.CallOK)}}, // the second repeats
			{Calls: []rollout.Call{call("cow", rollout.CallOK), call("cat", rollout.CallUnparsable)}},
			{Calls: []rollout.Call{call("cat", rollout.CallError)}}, // the right call, whatever the tool made of it
			{},
		}},
		episode{},
	)
	check(t, "gold", [][]float64{{1, 0, 1, 0}, {}}, give(t, rule, g))
}

func TestToolLadder(t *testing.T) {
	g := facttest.Group(t, rollout.Gold{}, episode{Turns: []turn{
		{Calls: facttest.Calls(rollout.CallUnparsable)},
		{Calls: facttest.Calls(rollout.CallBadArgs, rollout.CallUnknownTool, rollout.CallOK, rollout.CallError)},
		{Calls: facttest.Calls(rollout.CallOK, rollout.CallUnparsable), Rewards: rewards{"tool_score": 3.5}},
		{},
	}})
	check(t, "ladder", [][]float64{{0, 1.5, 1.75, 0}}, give(t, ToolLadder{}, g))
}

func TestStepContributionVector(t *testing.T) {
	var v struct {
		In struct {
			Alpha  float64
			Succ   []float64
			Con    []float64 `json:"contrib_0_5"`
			Solved float64
		}
		Steps    []float64 `json:"step_rewards"`
		Released []float64 `json:"released_code_weights_T=3"`
	}
	facttest.Vector(t, "steptool", &v)
	e := episode{}
	for k, success := range v.In.Succ {
		status := rollout.CallOK
		if success == 0 {
			status = rollout.CallError
		}
		e.Turns = append(e.Turns, turn{Calls: facttest.Calls(status), Rewards: rewards{"contribution": v.In.Con[k]}})
	}
	e.Turns = append(e.Turns, turn{})
	g := facttest.Group(t, rollout.Gold{}, e, episode{})
	g.Outcome = []float64{v.In.Solved, 1}
	rule := NewStepContribution()
	rule.Alpha = v.In.Alpha
	check(t, "steps", [][]float64{v.Steps, {}}, give(t, rule, g))

	rule.ReleasedWeights = true
	for k := range v.Steps {
		v.Steps[k] *= v.Released[k]
	}
	check(t, "released weights", [][]float64{v.Steps, {}}, give(t, rule, g))
}

// A turn that calls nothing, and one of which a call failed, did not succeed; the contribution may come by rule.
func TestStepContributionOfTurnsThatDidNotSucceed(t *testing.T) {
	g := facttest.Group(t, rollout.Gold{}, episode{Stop: rollout.StopMaxTurns, Turns: []turn{
		{Rewards: rewards{"contribution": 1}},
		{Calls: facttest.Calls(rollout.CallOK, rollout.CallBadArgs), Rewards: rewards{"contribution": 0}},
		{Calls: facttest.Calls(rollout.CallOK), Rewards: rewards{"contribution": 1}},
		{Calls: facttest.Calls(rollout.CallOK)}, // where it stopped
	}})
	g.Outcome[0] = 0.25
	check(t, "steps", [][]float64{{0.5, 0, 1, 0.25}}, give(t, StepContribution{Alpha: 0.5, ContributionScale: 1}, g))
}

func TestParameterLadderVector(t *testing.T) {
	var want map[string]float64
	facttest.Vector(t, "tl_training_irm", &want)
	gold := &rollout.GoldCall{Name: "book", Args: rollout.StringArgs("from", "a", "to", "b")}
	rule := ParameterLadder{Parameters: map[string][]string{"book": {"from", "to", "class"}}}
	args := rollout.StringArgs
	for name, c := range map[string]rollout.Call{
		"unknown_tool": {Name: "boook", Status: rollout.CallUnknownTool},
		"wrong_tool":   {Name: "search", Status: rollout.CallOK},
		"hal+red+mis":  {Name: "book", Args: args("from", "a", "class", "2", "pet", "no"), Status: rollout.CallBadArgs},
		"hal+mis":      {Name: "book", Args: args("from", "a", "pet", "no"), Status: rollout.CallBadArgs},
		"red+mis":      {Name: "book", Args: args("from", "a", "class", "2"), Status: rollout.CallBadArgs},
		"hal":          {Name: "book", Args: args("from", "a", "to", "b", "pet", "no"), Status: rollout.CallBadArgs},
		"mis":          {Name: "book", Args: args("from", "a"), Status: rollout.CallBadArgs},
		"wrong_value":  {Name: "book", Args: args("from", "a", "to", "c"), Status: rollout.CallOK},
		"ok":           {Name: "book", Args: args("from", "a", "to", "b"), Status: rollout.CallOK},
	} {
		partner := gold
		if c.Name != "book" {
			partner = nil
		}
		if got := rule.Rung(c, partner); got != want[name] {
			t.Errorf("%s: got %v, want %v", name, got, want[name])
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("rungs without a case: %v", want)
	}
	for name, test := range map[string]struct {
		call rollout.Call
		want float64
	}{
		"redundant":                     {rollout.Call{Name: "book", Args: args("from", "a", "to", "b", "class", "2"), Status: rollout.CallOK}, -0.5},
		"hallucinated and redundant":    {rollout.Call{Name: "book", Args: args("from", "a", "to", "b", "class", "2", "pet", "no"), Status: rollout.CallBadArgs}, -1.3},
		"unparsable":                    {rollout.Call{Name: "book", Status: rollout.CallUnparsable}, -2},
		"the tool failed the gold call": {rollout.Call{Name: "book", Args: args("from", "a", "to", "b"), Status: rollout.CallError}, 1},
	} {
		if got := rule.Rung(test.call, gold); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
	surplus := rollout.Call{Name: "book", Args: args("from", "a", "to", "b", "pet", "no"), Status: rollout.CallBadArgs}
	if got := (ParameterLadder{}).Rung(surplus, gold); got != -0.8 {
		t.Errorf("a surplus parameter the tool refused, no list: got %v, want -0.8", got)
	}
	surplus.Status = rollout.CallOK
	if got := (ParameterLadder{}).Rung(surplus, gold); got != -0.5 {
		t.Errorf("a surplus parameter the tool took, no list: got %v, want -0.5", got)
	}
}

func TestParameterLadderOverATrajectory(t *testing.T) {
	g := facttest.Group(t, goldCalls,
		episode{Turns: []turn{
			{Calls: []rollout.Call{call("dog", rollout.CallOK), call("cow", rollout.CallOK)}}, // gold, a wrong value
			{Calls: []rollout.Call{call("cat", rollout.CallUnparsable)}},
			{},
			{},
		}},
		episode{Turns: []turn{{Calls: []rollout.Call{call("cat", rollout.CallOK), call("dog", rollout.CallOK), call("dog", rollout.CallOK)}}}, Stop: rollout.StopMaxTurns},
	)
	check(t, "ladder", [][]float64{{(1 - 0.25) / 2, -2, -2, 0}, {(1 + 1 - 1.5) / 3}}, give(t, ParameterLadder{}, g))
}

func TestPassRateGainVector(t *testing.T) {
	var v struct {
		In struct{ Turns [][]any }
	}
	facttest.Vector(t, "reveal", &v)
	// The reference starts from the rewards: the pass rates that give them are .2 and .2 + .6.
	var want []float64
	for _, pair := range v.In.Turns {
		want = append(want, pair[1].(float64))
	}
	g := facttest.Group(t, rollout.Gold{}, episode{Turns: []turn{
		{Rewards: rewards{"pass_rate": 0.2}}, {Rewards: rewards{"test_validity": 0.5}}, {Rewards: rewards{"pass_rate": 0.8}},
	}}, episode{})
	check(t, "gain", [][]float64{want, {}}, give(t, PassRateGain{Improvement: 1}, g))
	check(t, "gain and rate", [][]float64{{0.2, 0.5, 0.3*0.8 + 0.5*0.6}, {}}, give(t, PassRateGain{Absolute: 0.3, Improvement: 0.5}, g))
}

func TestTurnFormat(t *testing.T) {
	g := facttest.Group(t, rollout.Gold{}, episode{Turns: []turn{{}, {Malformed: true}, {}, {}}}, episode{})
	check(t, "each turn", [][]float64{{1, 0, 1, 1}, {}}, give(t, TurnFormat{Weight: 1}, g))
	g.Turns = give(t, TurnFormat{Weight: 1, Average: true}, g)
	if got := g.TurnTotal(0); got != 0.75 {
		t.Errorf("averaged rewards add up to %v, want the fraction .75", got)
	}
}

func TestInformationGainVector(t *testing.T) {
	var v struct {
		In struct {
			Chosen   float64 `json:"gain_chosen"`
			Rejected float64 `json:"gain_rejected"`
		}
	}
	facttest.Vector(t, "prints", &v)
	g := facttest.Group(t, rollout.Gold{}, episode{
		Scores: rewards{"accuracy": 0.25},
		Turns:  []turn{{Rewards: rewards{"accuracy": 0.75}}, {Rewards: rewards{"accuracy": 0.5}}},
	}, episode{})
	check(t, "gain", [][]float64{{v.In.Chosen, v.In.Rejected}, {}}, give(t, NewInformationGain(), g))
}

// rich is an episode that has every fact any rule may ask for.
func rich(t *rapid.T, name string) episode {
	e := episode{
		Scores:  rewards{"accuracy": rapid.Float64Range(0, 1).Draw(t, name+" accuracy")},
		Stop:    rapid.SampledFrom([]rollout.StopReason{rollout.StopAnswer, rollout.StopMaxTurns, rollout.StopVoid}).Draw(t, name+" stop"),
		Answer:  "rome",
		Outcome: facttest.One(rapid.Float64Range(-1, 1).Draw(t, name+" outcome")),
	}
	for range rapid.IntRange(0, 4).Draw(t, name+" turns") {
		now := turn{Malformed: rapid.Bool().Draw(t, name+" malformed"), Rewards: rewards{}}
		for _, fact := range []string{"accuracy", "contribution", "pass_rate", "test_validity", "fold", "env"} {
			now.Rewards[fact] = rapid.Float64Range(0, 1).Draw(t, name+" "+fact)
		}
		now.Rewards["tool_score"] = rapid.Float64Range(2, 4).Draw(t, name+" tool score")
		for range rapid.IntRange(0, 2).Draw(t, name+" calls") {
			now.Calls = append(now.Calls, call(rapid.SampledFrom([]string{"cat", "dog", "cow"}).Draw(t, name+" query"),
				rapid.SampledFrom(rollout.CallStatuses).Draw(t, name+" status")))
		}
		e.Turns = append(e.Turns, now)
	}
	return e
}

// A trajectory's rewards depend neither on the order of its group nor on dropped members, which may lack facts.
func TestRewardsAreATrajectorysOwn(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		variant := Table[rapid.IntRange(0, len(Table)-1).Draw(r, "rule")]
		rule := variant.New().(Rule)
		e, other := rich(r, "one"), rich(r, "other")
		alone := facttest.Group(t, goldCalls, e)
		alone.Outcome[0] = *e.Outcome
		want, err := rule.Rewards(alone)
		if err != nil {
			r.Fatalf("%s: %v", variant.Name, err)
		}
		if want == nil {
			return // none
		}
		bare := episode{Turns: []turn{{}, {Calls: facttest.Calls(rollout.CallOK)}, {}}}
		g := facttest.Group(t, goldCalls, bare, other, e)
		g.Reason[0] = "tool_failure"
		g.Outcome = []float64{0, *other.Outcome, *e.Outcome}
		got, err := rule.Rewards(g)
		if err != nil {
			r.Fatalf("%s: %v", variant.Name, err)
		}
		if diff := cmp.Diff(want[0], got[2], within); diff != "" {
			r.Fatalf("%s: rewards depend on the rest of the group:\n%s", variant.Name, diff)
		}
		if len(got[0]) != 3 || len(got[1]) != len(other.Turns) {
			r.Fatalf("%s: %d and %d rewards for 3 and %d turns", variant.Name, len(got[0]), len(got[1]), len(other.Turns))
		}
	})
}

func TestMissingFactsAreErrors(t *testing.T) {
	called := []turn{{Calls: facttest.Calls(rollout.CallOK)}, {}}
	for name, test := range map[string]struct {
		rule Rule
		e    episode
		want string
	}{
		"contribution": {NewStepContribution(), episode{Turns: called}, `trajectory g/0: turns[0]: no reward named "contribution": record it with the turn, which has none`},
		"contribution out of scale": {NewStepContribution(), episode{Turns: []turn{{Rewards: rewards{"contribution": 6}}, {}}},
			`trajectory g/0: turns[0]: reward "contribution" is 6, outside [0, 5]: set turn_reward.contribution_scale to its greatest value`},
		"pass rate":       {PassRateGain{}, episode{Turns: []turn{{Rewards: rewards{"env": 1}}}}, `trajectory g/0: turns[0]: no reward named "pass_rate": record it with the turn, which has env`},
		"validity":        {PassRateGain{}, episode{Turns: []turn{{Rewards: rewards{"pass_rate": 1}}, {}}}, `trajectory g/0: turns[1]: no reward named "test_validity": record it with the turn, which has none`},
		"accuracy before": {NewInformationGain(), episode{Turns: called}, `trajectory g/0: no score named "accuracy": record it with the trajectory, which has none`},
		"accuracy after":  {NewInformationGain(), episode{Turns: called, Scores: rewards{"accuracy": 1}}, `trajectory g/0: turns[0]: no reward named "accuracy": record it with the turn, which has none`},
		"tool score":      {ToolLadder{}, episode{Turns: []turn{{Rewards: rewards{"tool_score": 5}}}}, `trajectory g/0: turns[0]: reward "tool_score" is 5, outside [2, 4]: it says what a call that ran is worth`},
		"gold calls, count": {CallCorrect{Judge: JudgeGold}, episode{Turns: called},
			`trajectory g/0: turns[0]: has calls, but task t has no gold calls to compare them with: record gold.calls with the task`},
		"gold calls, ladder": {ParameterLadder{}, episode{Turns: called},
			`trajectory g/0: turns[0]: has calls, but task t has no gold calls to compare them with: record gold.calls with the task`},
	} {
		_, err := test.rule.Rewards(facttest.Group(t, rollout.Gold{}, test.e))
		if err == nil || err.Error() != test.want {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}
}

func TestSettingsAreChecked(t *testing.T) {
	type validator interface{ Validate() error }
	for _, test := range []struct {
		rule validator
		want string
	}{
		{CallCorrect{Judge: "llm"}, `judge: unknown value "llm": use status or gold`},
		{StepContribution{Alpha: -1, ContributionScale: 5}, "alpha: -1 must be a finite number, at least 0"},
		{StepContribution{Alpha: 1}, "contribution_scale: 0 must be a finite number greater than 0"},
		{InformationGain{Scale: 4}, "score: empty: name a recorded value"},
		{OutcomeLast{BadFormat: 0.1}, "bad_format: 0.1 rewards turns with neither a valid call nor the answer: use 0 or less"},
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
