package shape

import (
	"testing"

	"github.com/turnwise-rl/turnwise/algos/fact/facttest"
	"github.com/turnwise-rl/turnwise/rollout"
)

// TestCompositions expresses published rewards by the parts of this package and compares with their formulas,
// worked out by hand.
func TestCompositions(t *testing.T) {
	verdict := Weighted{Outcome: 2, Constant: -1} // 0 or 1 becomes ±1
	malformed := facttest.Episode{Turns: turns{{Malformed: true}, {}}}
	good := facttest.Episode{Turns: turns{{}, {}}}
	asking := facttest.Episode{Turns: turns{{Calls: calls("search", "search")}, {}}}
	judged := func(scores map[string]float64) facttest.Episode {
		return facttest.Episode{Scores: scores, Turns: turns{{}}}
	}
	for _, test := range []struct {
		name     string
		parts    []Shaper
		outcomes []float64
		episodes []facttest.Episode
		want     []float64
	}{
		// 1·1{format} + 2·1{letter}
		{"Genome-Bench", []Shaper{Weighted{Outcome: 2}, FormatBonus{Weight: 1, Of: EveryTurn}},
			[]float64{1, 0, 1, 0}, []facttest.Episode{good, good, malformed, malformed}, []float64{3, 1, 2, 0}},
		// acc + mean over turns of 1{format}
		{"OpenThinkIMG", []Shaper{FormatBonus{Weight: 1, Of: MeanTurn}},
			[]float64{1, 0, 1}, []facttest.Episode{good, good, malformed}, []float64{2, 1, 1.5}},
		// 0.8·acc·(1 − 0.1·1{search}) + 0.2·format
		{"DeepEyesV2", []Shaper{fresh[CallDiscount](t, "call_discount"), Weighted{Outcome: 0.8}, FormatBonus{Weight: 0.2, Of: EveryTurn}},
			[]float64{1, 1, 0, 1}, []facttest.Episode{asking, good, asking, malformed}, []float64{0.92, 1, 0.2, 0.8}},
		// ±1, a wrong one lifted by its turns
		{"ReTool", []Shaper{verdict, with(NewLiftToolUse(), func(s *LiftToolUse) { s.Count = CountMessages })},
			[]float64{1, 0, 0}, []facttest.Episode{good, good, {Turns: make(turns, 1)}}, []float64{1, -0.9, -1}},
		// ±1, less 0.25 without a tool and 0.5 for a tool that failed
		{"VerlTool, ToRL", []Shaper{verdict, Penalties{NoTool: -0.25, ToolError: -0.5}},
			[]float64{1, 1, 0}, []facttest.Episode{asking, good, {Turns: turns{{Calls: facttest.Calls(rollout.CallError)}}}}, []float64{1, 0.75, -1.5}},
		// F1 + 0.3·consistency − 0.2·schema errors
		{"MTR", []Shaper{Weighted{Outcome: 1, Scores: map[string]float64{"consistency": 0.3, "schema_errors": -0.2}}},
			[]float64{0.5}, []facttest.Episode{judged(map[string]float64{"consistency": 0.5, "schema_errors": 2})}, []float64{0.25}},
		// 1{correct} + 0.1·1{format} + 0.1·max(0, 1 − calls/limit)·1{correct}
		{"TGRL", []Shaper{CallBudget{Bonus: 0.1, Limit: 4, Count: CountIssued, Threshold: 0.5}, FormatBonus{Weight: 0.1, Of: EveryTurn}},
			[]float64{1, 0, 1}, []facttest.Episode{asking, asking, malformed}, []float64{1.15, 0.1, 1.1}},
		// 1.0·task + 0.2·expert + 0.1·efficiency
		{"MedResearcher-R1", []Shaper{Weighted{Outcome: 1, Scores: map[string]float64{"expert": 0.2, "efficiency": 0.1}}},
			[]float64{1}, []facttest.Episode{judged(map[string]float64{"expert": 0.5, "efficiency": 0.2})}, []float64{1.12}},
		// DAPO: ±1 and the soft penalty
		{"DAPO", []Shaper{verdict, Overlong{MaxLength: 8, Cache: 4, Factor: 1, Length: LengthSampled}},
			[]float64{1, 0}, []facttest.Episode{{Turns: turns{{Tokens: 4}}}, {Turns: turns{{Tokens: 3}, {Tokens: 3}}}}, []float64{1, -1.5}},
	} {
		same(t, test.name, test.want, shaped(t, group(t, test.outcomes, test.episodes...), test.parts...))
	}
}
