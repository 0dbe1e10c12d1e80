package outcome

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/fact/facttest"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

type (
	episode = facttest.Episode
	turn    = facttest.Turn
	facts   = map[string]float64
)

var (
	within = cmpopts.EquateApprox(0, 1e-9)
	one    = facttest.One
)

func check(t *testing.T, name string, rule Rule, g *scored.Group, want ...float64) {
	t.Helper()
	got, err := rule.Outcomes(g)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if diff := cmp.Diff(want, got, within); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestExactMatch(t *testing.T) {
	g := facttest.Group(t, rollout.Gold{Answer: "The Eiffel-Tower, Paris"},
		episode{Answer: "the eiffeltower  paris"}, episode{Answer: "THE  Eiffel-Tower, paris"}, episode{Answer: "Paris"}, episode{}, episode{Answer: "the"},
	)
	check(t, "words", ExactMatch{Normalize: Words}, g, 1, 1, 0, 0, 0)
	check(t, "text", ExactMatch{Normalize: Text}, g, 0, 1, 0, 0, 0)
	numbers := facttest.Group(t, rollout.Gold{Answer: "1.5"}, episode{Answer: "15"}, episode{Answer: " 1.5 "})
	check(t, "numbers as text", ExactMatch{Normalize: Text}, numbers, 0, 1)
	nothing := facttest.Group(t, rollout.Gold{Answer: "The"}, episode{Answer: "a"})
	check(t, "nothing remains", ExactMatch{Normalize: Words}, nothing, 0)
}

func TestAnswerRecall(t *testing.T) {
	var v struct{ In struct{ Recall float64 } }
	facttest.Vector(t, "webseer", &v)
	gold := "one two three four five six seven eight nine nine"
	g := facttest.Group(t, rollout.Gold{Answer: gold},
		episode{Answer: "One, two; three four five six seven eight nine, and ten"}, episode{Answer: gold + " and more"}, episode{})
	check(t, "recall", AnswerRecall{}, g, v.In.Recall, 1, 0)
	if got := Recall("anything", ""); got != 0 {
		t.Errorf("recall of nothing: got %v, want 0", got)
	}
}

func TestRecordedScores(t *testing.T) {
	g := facttest.Group(t, rollout.Gold{},
		episode{Scores: facts{"judge": 0.3, "db_state": 1, "required_outputs": 1, "checks_passed": 4, "checks_total": 4}},
		episode{Scores: facts{"judge": -2, "db_state": 1, "required_outputs": 0.9, "checks_passed": 0, "checks_total": 5}},
	)
	check(t, "score", Score{Score: "judge"}, g, 0.3, -2)
	check(t, "all_of", NewAllOf(), g, 1, 0)
	check(t, "checklist", NewChecklist(), g, 1, 0)

	var v struct {
		In struct{ Passed, Checks float64 }
		R  float64
	}
	facttest.Vector(t, "envscaler", &v)
	check(t, "checklist", NewChecklist(), facttest.Group(t, rollout.Gold{},
		episode{Scores: facts{"checks_passed": v.In.Passed, "checks_total": v.In.Checks}}), v.R)
}

func TestSigned(t *testing.T) {
	g := facttest.Group(t, rollout.Gold{}, episode{Outcome: one(1)}, episode{Outcome: one(0.99)}, episode{Outcome: one(0), Stop: rollout.StopMaxTurns})
	check(t, "signed", Signed{Threshold: 1, Correct: 1, Wrong: -1}, g, 1, -1, -1)
	check(t, "half right is right", Signed{Threshold: 0.5, Correct: 2, Wrong: 0}, g, 2, 2, 0)
}

func TestMajority(t *testing.T) {
	g := facttest.Group(t, rollout.Gold{}, episode{Answer: "42"}, episode{Answer: "41"}, episode{Answer: " 42"}, episode{Stop: rollout.StopMaxTurns},
		episode{Answer: "41", Stop: rollout.StopToolFailure}, episode{Answer: "41", Role: "greedy"})
	g.Reason[4], g.Reason[5] = "tool_failure", "baseline"
	check(t, "majority", Majority{Normalize: Text}, g, 1, 0, 1, 0, 0, 0)
	for _, masked := range []string{"", "over_turn"} { // p̂ does not move when a part drops a member
		g.Reason[3] = masked
		if label, share := Vote(g, Text); label != "42" || share != 0.5 {
			t.Errorf("vote: got %q, %v, want 42, .5", label, share)
		}
	}
	tie := facttest.Group(t, rollout.Gold{}, episode{Answer: "b"}, episode{Answer: "a"})
	check(t, "tie", Majority{Normalize: Text}, tie, 0, 1)
	silent := facttest.Group(t, rollout.Gold{}, episode{}, episode{})
	check(t, "nobody answers", Majority{Normalize: Text}, silent, 0, 0)
	if label, share := Vote(silent, Text); label != "" || share != 0 {
		t.Errorf("vote of nobody: got %q, %v", label, share)
	}
}

func TestToolLadderVector(t *testing.T) {
	var v struct {
		Correct   float64
		Wrong     float64 `json:"wrong_tool_mean_1.5"`
		BadFormat float64 `json:"bad_format"`
	}
	facttest.Vector(t, "adareasoner", &v)
	calls := facttest.Calls
	ran, refused, unparsable := turn{Calls: calls(rollout.CallOK)}, turn{Calls: calls(rollout.CallBadArgs)}, turn{Calls: calls(rollout.CallUnparsable)}
	g := facttest.Group(t, rollout.Gold{},
		episode{Outcome: one(1), Turns: []turn{unparsable, {}}},
		episode{Outcome: one(0), Turns: []turn{ran, refused, unparsable, unparsable}, Stop: rollout.StopMaxTurns}, // zeros at the end are cut off
		episode{Outcome: one(1), Turns: []turn{ran, {Malformed: true}}},
		episode{Outcome: one(0), Turns: []turn{ran, refused, unparsable, {}}},                                                    // the answer ends the ladder, the zero before it counts
		episode{Outcome: one(0), Turns: []turn{ran, {}, refused}},                                                                // a turn without calls ends it
		episode{Outcome: one(0), Turns: []turn{{}}},                                                                              // no tool at all
		episode{Outcome: one(0), Turns: []turn{{Calls: calls(rollout.CallOK, rollout.CallOK), Rewards: facts{"tool_score": 4}}}}, // the most tools are worth
		episode{Outcome: one(0), Stop: rollout.StopMaxTokens},
	)
	check(t, "ladder", ToolLadder{Correct: 8, Threshold: 1}, g, v.Correct, v.Wrong, v.BadFormat, 1, 2, 0, 4, 0)
}

func TestPairGainVector(t *testing.T) {
	var v struct {
		In struct {
			Chosen   float64   `json:"gain_chosen"`
			Rejected float64   `json:"gain_rejected"`
			OfChosen []float64 `json:"chosen_scores"`
			OfReject []float64 `json:"rejected_scores"`
			M        float64
		}
		Chosen, Rejected []float64
	}
	facttest.Vector(t, "prints", &v)
	better, worse := facts{"gain": v.In.Chosen}, facts{"gain": v.In.Rejected}
	g := facttest.Group(t, rollout.Gold{},
		episode{Role: "chosen", Pair: "p", Scores: better, Answer: "1.5"}, episode{Role: "chosen", Pair: "p", Scores: better, Answer: " -0.5\n"},
		episode{Role: "rejected", Pair: "p", Scores: worse, Answer: "0"}, episode{Role: "rejected", Pair: "p", Scores: worse, Answer: "-2"},
	)
	rule := PairGain{Range: v.In.M, Unparsable: -4}
	check(t, "pair", rule, g, v.Chosen[0], v.Chosen[1], v.Rejected[0], v.Rejected[1])

	// −4 for what is no score between −4 and 4.
	for _, answer := range []string{"", "good", "4.1", "NaN", "inf", "-4"} {
		g.Trajectories[0].Answer = answer
		check(t, "unparsable "+answer, rule, g, -0.375+1-6.0/8, v.Chosen[1], -0.375+1-1.0/8, 0+1-1.0/8)
	}
}

func TestPairGainTakesATieForTheWrongOrder(t *testing.T) {
	g := facttest.Group(t, rollout.Gold{},
		episode{Role: "chosen", Pair: "p", Scores: facts{"gain": 1}, Answer: "1"}, episode{Role: "rejected", Pair: "p", Scores: facts{"gain": -1}, Answer: "1"})
	check(t, "tie", PairGain{Range: 8, Unparsable: -4}, g, -0.25+1, -0.25+1-0.25)
}

func TestCurriculumVector(t *testing.T) {
	var v struct {
		C struct {
			In struct {
				P     float64
				Share float64 `json:"cluster_share"`
				Calls int     `json:"tool_calls"`
			}
			R float64
		} `json:"curriculum_reward"`
	}
	facttest.Vector(t, "adpo", &v)
	var turns []turn
	for range v.C.In.Calls {
		turns = append(turns, turn{Calls: facttest.Calls(rollout.CallOK)})
	}
	scores := facts{"majority_share": v.C.In.P, "cluster_share": v.C.In.Share}
	five := []turn{{Calls: facttest.Calls(rollout.CallOK, rollout.CallError, rollout.CallOK, rollout.CallOK, rollout.CallOK, rollout.CallUnparsable)}}
	g := facttest.Group(t, rollout.Gold{},
		episode{Answer: "a question", Turns: turns, Scores: scores},
		episode{Turns: turns, Scores: facts{"cluster_share": 0.25}, Stop: rollout.StopMaxTurns},
		episode{Answer: "a question", Turns: five, Scores: scores},
		episode{Answer: "a question", Scores: scores},
	)
	check(t, "curriculum", NewCurriculum(), g, v.C.R, -1-0.25+0.15, 0.3-0.25+0.2, 0.3-0.25)
}

func TestPreferenceLadder(t *testing.T) {
	used := []turn{{Calls: facttest.Calls(rollout.CallOK)}, {}}
	g := facttest.Group(t, rollout.Gold{},
		episode{Outcome: one(1), Answer: "a", Turns: used, Scores: facts{"tool_needed": 1}},
		episode{Outcome: one(1), Answer: "a", Turns: used, Scores: facts{"tool_needed": 0}},
		episode{Outcome: one(1), Answer: "a", Scores: facts{"tool_needed": 0}},
		episode{Outcome: one(0), Answer: "b", Scores: facts{"closeness": 0.5}},
		episode{Outcome: one(0), Answer: "c", Scores: facts{"closeness": 0.9}},
		episode{Outcome: one(0), Answer: "d", Scores: facts{"closeness": 0.5}},
		episode{Outcome: one(0), Answer: "e", Scores: facts{"closeness": 0.1}},
		episode{Outcome: one(0), Stop: rollout.StopMaxTurns},
	)
	check(t, "ladder", NewPreferenceLadder(), g, 20, 15, 20, 10, 15, 10, 5, 0)
	short := NewPreferenceLadder()
	short.Wrong = []float64{3, 1}
	check(t, "short ladder", short, g, 20, 15, 20, 1, 3, 1, 1, 1)
}

func TestPicked(t *testing.T) {
	g := facttest.Group(t, rollout.Gold{Answer: "2"}, episode{Answer: " 2", Turns: []turn{{}}}, episode{Answer: "1", Turns: []turn{{}}},
		episode{Answer: "2", Turns: []turn{{Malformed: true}}}, episode{Stop: rollout.StopMaxTokens, Turns: []turn{{Malformed: true}}})
	check(t, "picked", Picked{Format: 0.1}, g, 1.1, 0.1, 1, 0)
}

// rich is a member that has every fact any rule may ask for.
func rich(t *rapid.T) episode {
	draw := func(name string) float64 { return rapid.Float64Range(0, 1).Draw(t, name) }
	e := episode{
		Answer:  rapid.SampledFrom([]string{"", "1", "2", "the end"}).Draw(t, "answer"),
		Outcome: one(rapid.SampledFrom([]float64{0, 0.5, 1}).Draw(t, "outcome")),
		Role:    rapid.SampledFrom([]string{"chosen", "rejected"}).Draw(t, "role"), Pair: "p",
		Scores: facts{"judge": draw("judge"), "db_state": draw("db"), "required_outputs": draw("said"), "checks_passed": draw("passed"), "checks_total": 1,
			"majority_share": draw("share"), "cluster_share": draw("cluster"), "tool_needed": draw("needed"), "closeness": draw("closeness")},
	}
	e.Scores["gain"] = map[string]float64{"chosen": 2, "rejected": -1}[e.Role]
	for range rapid.IntRange(0, 3).Draw(t, "turns") {
		e.Turns = append(e.Turns, turn{
			Malformed: rapid.Bool().Draw(t, "malformed"),
			Calls:     facttest.Calls(rapid.SliceOfN(rapid.SampledFrom(rollout.CallStatuses), 0, 2).Draw(t, "calls")...),
		})
	}
	return e
}

// Permuting a group permutes its rewards, and a dropped member, which may lack every fact, changes none.
func TestOrderAndDroppedMembersDoNotMatter(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		variant := Table[rapid.IntRange(0, len(Table)-1).Draw(r, "rule")]
		rule := variant.New().(Rule)
		members := []episode{rich(r), rich(r), rich(r), rich(r)}
		for i, role := range []string{"chosen", "rejected"} { // both steps of a pair are there
			members[i].Role, members[i].Scores["gain"] = role, []float64{2, -1}[i]
		}
		gold := rollout.Gold{Answer: "1"}
		before, err := rule.Outcomes(facttest.Group(t, gold, members...))
		if err != nil {
			r.Fatalf("%s: %v", variant.Name, err)
		}
		order := rapid.Permutation([]int{0, 1, 2, 3, 4}).Draw(r, "order")
		moved := make([]episode, 5)
		for i, at := range order {
			moved[at] = episode{Answer: "2", Stop: rollout.StopToolFailure}
			if i < 4 {
				moved[at] = members[i]
			}
		}
		g := facttest.Group(t, gold, moved...)
		g.Reason[order[4]] = "tool_failure"
		after, err := rule.Outcomes(g)
		if err != nil {
			r.Fatalf("%s: %v", variant.Name, err)
		}
		for i := range members {
			if math.Abs(before[i]-after[order[i]]) > 1e-12 {
				r.Fatalf("%s: member %d has %v, and %v in another order and company", variant.Name, i, before[i], after[order[i]])
			}
		}
	})
}

func TestMissingFactsAreErrors(t *testing.T) {
	noGold := `trajectory g/0: has an answer, but task t has no gold answer to compare it with: record gold.answer with the task, or use another outcome.type`
	null := `trajectory g/0: outcome is null: record a verdict, or let the method compute it with outcome.type answer_f1`
	for name, test := range map[string]struct {
		rule Rule
		e    episode
		want string
	}{
		"f1":                {AnswerF1{}, episode{Answer: "1"}, noGold},
		"exact match":       {ExactMatch{Normalize: Words}, episode{Answer: "1"}, noGold},
		"recall":            {AnswerRecall{}, episode{Answer: "1"}, noGold},
		"picked":            {Picked{}, episode{Answer: "1"}, noGold},
		"verifier":          {Verifier{}, episode{}, null},
		"signed":            {Signed{}, episode{}, null},
		"tool ladder":       {ToolLadder{}, episode{}, null},
		"preference ladder": {NewPreferenceLadder(), episode{}, null},
		"score":             {Score{Score: "judge"}, episode{}, `trajectory g/0: no score named "judge": record it with the trajectory, which has none`},
		"all of": {NewAllOf(), episode{Scores: facts{"db_state": 0}},
			`trajectory g/0: no score named "required_outputs": record it with the trajectory, which has db_state`},
		"no checks": {NewChecklist(), episode{Scores: facts{"checks_passed": 0, "checks_total": 0}},
			`trajectory g/0: score "checks_total" is 0: a checklist needs at least one check`},
		"too many checks": {NewChecklist(), episode{Scores: facts{"checks_passed": 3, "checks_total": 2}},
			`trajectory g/0: score "checks_passed" is 3, outside [0, 2], the "checks_total"`},
		"share":     {NewCurriculum(), episode{Answer: "q"}, `trajectory g/0: no score named "majority_share": record it with the trajectory, which has none`},
		"bad share": {NewCurriculum(), episode{Scores: facts{"cluster_share": 25}}, `trajectory g/0: score "cluster_share" is 25, outside [0, 1]`},
		"need":      {NewPreferenceLadder(), episode{Outcome: one(1)}, `trajectory g/0: no score named "tool_needed": record it with the trajectory, which has none`},
		"closeness": {NewPreferenceLadder(), episode{Outcome: one(0), Answer: "1"}, `trajectory g/0: no score named "closeness": record it with the trajectory, which has none`},
		"no role": {PairGain{Range: 8}, episode{},
			`trajectory g/0: role is "": record chosen for members on the better step of the pair, rejected for those on the worse`},
		"gain": {PairGain{Range: 8}, episode{Role: "chosen", Pair: "p"}, `trajectory g/0: no score named "gain": record it with the trajectory, which has none`},
		"big gain": {PairGain{Range: 8}, episode{Role: "chosen", Pair: "p", Scores: facts{"gain": 5}},
			`trajectory g/0: score "gain" is 5, outside ±4: set outcome.range to the distance from the least to the greatest gain`},
		"no opponent": {PairGain{Range: 8}, episode{Role: "chosen", Pair: "p", Scores: facts{"gain": 1}},
			`trajectory g/0: role chosen, but no kept member of the group has role rejected: keep members of both steps of a pair`},
	} {
		_, err := test.rule.Outcomes(facttest.Group(t, rollout.Gold{}, test.e))
		if err == nil || err.Error() != test.want {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}
	uneven := facttest.Group(t, rollout.Gold{}, episode{Role: "chosen", Scores: facts{"gain": 1}}, episode{Role: "chosen", Scores: facts{"gain": 2}})
	want := `trajectory g/1: score "gain" is 2, but 1 for g/0, which scores the same step`
	if _, err := (PairGain{Range: 8}).Outcomes(uneven); err == nil || err.Error() != want {
		t.Errorf("two gains of one step: got %v, want %s", err, want)
	}
}

func TestSettingsAreChecked(t *testing.T) {
	type validator interface{ Validate() error }
	ladder := NewPreferenceLadder()
	ladder.Wrong = []float64{5, 10}
	for _, test := range []struct {
		rule validator
		want string
	}{
		{ExactMatch{Normalize: "stem"}, `normalize: unknown value "stem": use text or words`},
		{Majority{}, `normalize: unknown value "": use text or words`},
		{Score{}, "score: empty: name a recorded value"},
		{AllOf{}, "scores: empty: name at least one recorded score"},
		{AllOf{Scores: []string{"a", "a"}}, `scores[1]: "a" stands there twice: remove one`},
		{Signed{Wrong: math.NaN()}, "wrong: NaN is not a finite number"},
		{Checklist{Passed: "p"}, "total: empty: name a recorded value"},
		{PairGain{}, "range: 0 must be a finite number greater than 0"},
		{PairGain{Range: 8, Unparsable: -5}, "unparsable: -5 is outside ±4, half the range"},
		{Curriculum{MaxCalls: -1}, "max_calls: -1 must be at least 0"},
		{ladder, "wrong[1]: 10 is more than 5 before it: a closer answer has the greater score"},
		{PreferenceLadder{}, "wrong: empty: list at least one score for wrong answers"},
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
