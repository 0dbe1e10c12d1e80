package shape

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/fact/facttest"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/rollout"
)

// with is a part whose defaults were edited.
func with[T any](part T, edit func(*T)) T {
	edit(&part)
	return part
}

func TestBadSettingsAreRefused(t *testing.T) {
	nan := math.NaN()
	for want, part := range map[string]interface{ Validate() error }{
		"penalty: NaN is not a finite number":                                     FormatGate{Penalty: nan},
		"penalty: +Inf is not a finite number":                                    TurnFormat{Penalty: math.Inf(1)},
		"scores.judge: NaN is not a finite number":                                Weighted{Scores: map[string]float64{"judge": nan}},
		"constant: NaN is not a finite number":                                    Weighted{Constant: nan},
		"bound: 0 must be a finite number greater than 0":                         ClipReward{},
		`of: unknown value "all": use one of [every mean]`:                        FormatBonus{Of: "all"},
		"n: 0 must be at least 1":                                                 with(NewRepetitionGate(), func(s *RepetitionGate) { s.N = 0 }),
		"share: 1.5 must lie between 0 and 1":                                     with(NewRepetitionGate(), func(s *RepetitionGate) { s.Share = 1.5 }),
		"credit: -0.1 must lie between 0 and 1":                                   Progressive{Credit: -0.1, Of: StageOutcome},
		`of: unknown value "": use one of [outcome bleu]`:                         Progressive{},
		"residue_score: empty: name a recorded value":                             with(NewHallucination(), func(s *Hallucination) { s.ResidueScore = "" }),
		"call_weight: -1 must be a finite number, at least 0":                     with(NewHallucination(), func(s *Hallucination) { s.CallWeight = -1 }),
		"no_tool: NaN is not a finite number":                                     Penalties{NoTool: nan},
		`variant: unknown value "best": use one of [ppo group]`:                   with(NewToolEfficiency(), func(s *ToolEfficiency) { s.Variant = "best" }),
		"smoothing: 0 must be a finite number greater than 0":                     with(NewToolEfficiency(), func(s *ToolEfficiency) { s.Smoothing = 0 }),
		`count: unknown value "all": use one of [issued valid ok]`:                with(NewToolEfficiency(), func(s *ToolEfficiency) { s.Count = "all" }),
		"max_calls: 0 must be a finite number greater than 0":                     with(NewToolBell(), func(s *ToolBell) { s.MaxCalls = 0 }),
		"score: empty: name a recorded value":                                     with(NewToolBell(), func(s *ToolBell) { s.Score = "" }),
		"progress: 2 must lie between 0 and 1":                                    with(NewSigmoidEfficiency(), func(s *SigmoidEfficiency) { s.Progress = 2 }),
		`length: unknown value "all": use one of [sampled response]`:              with(NewSigmoidEfficiency(), func(s *SigmoidEfficiency) { s.Length = "all" }),
		"limit: 0 must be a finite number greater than 0":                         CallBudget{},
		"tools: empty: name at least one tool":                                    MultiToolBonus{Count: CountOK},
		"discount: 2 must lie between 0 and 1":                                    CallDiscount{Tools: []string{"x"}, Discount: 2, Count: CountOK},
		`count: unknown value "": use one of [turns messages]`:                    LiftToolUse{},
		"decay: 1.1 must lie between 0 and 1":                                     RetryDecay{Decay: 1.1, Score: "s"},
		"max_length: 0 must be at least 1":                                        Overlong{},
		"cache: 20 must lie between 1 and max_length 10":                          Overlong{MaxLength: 10, Cache: 20},
		"output: -1 must be a finite number, at least 0":                          LengthPenalty{Output: -1},
		"budget: 0s must be above 0":                                              TimeBonus{},
		"clamp: 0 must lie between 0 and 0.5, both excluded":                      with(NewCalibration(), func(s *Calibration) { s.Clamp = 0 }),
		"spread: 0.6 must lie between 0 and 0.5":                                  with(NewCalibration(), func(s *Calibration) { s.Spread = 0.6 }),
		`rule: unknown value "ece": use one of [correctness brier log margin]`:    with(NewCalibration(), func(s *Calibration) { s.Rule = "ece" }),
		"beta: 0.6 must lie between 0 and 0.5":                                    with(NewCodeSimilarity(), func(s *CodeSimilarity) { s.Beta = 0.6 }),
		"beta: 0.5 is more than threshold 0.4: a failure would outrank a success": with(NewCodeSimilarity(), func(s *CodeSimilarity) { s.Threshold = 0.4 }),
		"tool: empty: name one":                                                   with(NewCodeSimilarity(), func(s *CodeSimilarity) { s.Tool = "" }),
		`estimator: unknown value "k3+": use one of [k1 k2 k3 abs]`:               with(NewKLInReward(), func(s *KLInReward) { s.Estimator = kernels.KLK3Plus }),
		"horizon: 0 must be a finite number greater than 0":                       with(NewKLInReward(), func(s *KLInReward) { s.Horizon = 0 }),
	} {
		if err := part.Validate(); err == nil || err.Error() != want {
			t.Errorf("%T: got %v\nwant %s", part, err, want)
		}
	}
}

func TestMissingFactsAreErrors(t *testing.T) {
	scores := func(values map[string]float64) *scored.Group {
		return group(t, []float64{1}, facttest.Episode{Scores: values, Turns: turns{{Malformed: true}}})
	}
	confidence := scores(map[string]float64{"confidence": 1.2})
	submissions := scores(map[string]float64{"submissions": -1})
	noReference := scores(nil)
	noReference.Trajectories[0].BehaviorLogProbs = make([]float32, len(noReference.Trajectories[0].Tokens))
	short := scores(nil)
	short.Trajectories[0].BehaviorLogProbs = make([]float32, 1)
	nan := scores(nil)
	nan.Trajectories[0].BehaviorLogProbs = make([]float32, 4)
	nan.Trajectories[0].ReferenceLogProbs = []float32{0, 0, float32(math.NaN()), 0}
	code := group(t, []float64{1}, facttest.Episode{Turns: turns{{Calls: []rollout.Call{{Name: "python", Args: rollout.StringArgs("text", "x"), Status: rollout.CallOK}}}}})
	for _, test := range []struct {
		part Shaper
		g    *scored.Group
		want string
	}{
		{Weighted{Outcome: 1, Scores: map[string]float64{"judge": 1}}, scores(nil), `trajectory g/0: no score named "judge": record it with the trajectory, which has none`},
		{NewToolBell(), scores(map[string]float64{"benefit": 1}), `trajectory g/0: no score named "tool_benefit": record it with the trajectory, which has benefit`},
		{NewHallucination(), scores(nil), `trajectory g/0: no score named "residue": record it with the trajectory, which has none`},
		{NewHallucination(), scores(map[string]float64{"residue": 3}), `trajectory g/0: no score named "responses": record it with the trajectory, which has residue`},
		{RetryDecay{Decay: 0.8, Score: "submissions"}, scores(nil), `trajectory g/0: no score named "submissions": record it with the trajectory, which has none`},
		{RetryDecay{Decay: 0.8, Score: "submissions"}, submissions, `trajectory g/0: score "submissions" is -1, want a number of submissions`},
		{NewCalibration(), scores(nil), `trajectory g/0: no score named "confidence": record it with the trajectory, which has none`},
		{NewCalibration(), confidence, `trajectory g/0: score "confidence" is 1.2, want a confidence from 0 to 1`},
		{TimeBonus{Weight: 1, Budget: 1}, scores(nil), `trajectory g/0: elapsed_seconds is 0, which time_bonus reads: record the episode's wall time or remove the part`},
		{NewKLInReward(), scores(nil), `trajectory g/0: behavior_logprobs is null, which kl_in_reward reads: record them when sampling`},
		{NewKLInReward(), noReference, `trajectory g/0: reference_logprobs is null, which kl_in_reward reads: give the run a reference policy, or remove the part`},
		{NewKLInReward(), short, `trajectory g/0: behavior_logprobs: 1 values for 4 tokens`},
		{NewKLInReward(), nan, `trajectory g/0: token 2: behavior_logprobs 0, reference_logprobs NaN: kl_in_reward needs finite numbers where sampled is 1`},
		{NewCodeSimilarity(), code, `trajectory g/0: turns[0]: call of python has no text argument "code": set code_similarity's tool and argument to those that hold code`},
	} {
		if err := test.part.Shape(test.g); err == nil || err.Error() != test.want {
			t.Errorf("%T: got %v\nwant %s", test.part, err, test.want)
		}
	}
}
