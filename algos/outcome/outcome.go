// Package outcome holds the rules that give a trajectory its outcome reward.
package outcome

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Rule gives each trajectory one reward for its result.
type Rule interface {
	// Outcomes returns one reward per trajectory; that of a dropped trajectory is not read.
	Outcomes(g *scored.Group) ([]float64, error)
}

// Table lists every outcome rule.
var Table = []scored.Variant{
	{Name: "verifier", Doc: "the environment's verdict, as recorded with the trajectory", New: func() any { return Verifier{} }},
	{Name: "answer_f1", Doc: "token-set F1 of the answer and the gold answer", Cite: "MatchTIR, arXiv 2601.10712, answer reward", New: func() any { return AnswerF1{} }},
	{Name: "none", Doc: "no outcome reward: 0", New: func() any { return None{} }},
	{
		Name: "exact_match", Doc: "1 when the normalised answer is the gold answer",
		Cite: "Rajpurkar et al., arXiv 1606.05250, evaluation", New: func() any { return ExactMatch{Normalize: Words} },
	},
	{
		Name: "answer_recall", Doc: "fraction of the gold answer's words that the answer says",
		Cite: "WebSeer, verl/tools/re_rag_tool.py", New: func() any { return AnswerRecall{} },
	},
	{Name: "score", Doc: "a score recorded with the trajectory, a judge's for example", New: func() any { return Score{Score: "judge"} }},
	{
		Name: "signed", Doc: "1 for a right answer, −1 for everything else",
		Cite: "ReTool, verl-recipe retool/retool.py", New: func() any { return Signed{Threshold: 1, Correct: 1, Wrong: -1} },
	},
	{
		Name: "all_of", Doc: "1 when every one of several recorded checks is passed",
		Cite: "MUA-RL, verl/utils/reward_score/taubench.py", New: func() any { return NewAllOf() },
	},
	{
		Name: "checklist", Doc: "fraction of the checks of the final state that passed",
		Cite: "EnvScaler, rl/roll/pipeline/agentic/env/envscaler_env/base_env.py", New: func() any { return NewChecklist() },
	},
	{
		Name: "majority", Doc: "1 for the answer that most members of the group give",
		Cite: "Agent0, Agent0/executor_train/verl_tool", New: func() any { return Majority{Normalize: Text} },
	},
	{
		Name: "tool_ladder", Doc: "a fixed reward for a right answer, else the mean of how far the calls got; 0 when malformed",
		Cite: "AdaReasoner, AdaTG/verl/utils/reward_score/unified_tool.py", New: func() any { return ToolLadder{Correct: 8, Threshold: 1} },
	},
	{
		Name: "pair_gain", Doc: "how well a process reward model orders two steps and how near its scores are to their gains",
		Cite: "PRInTS, verl/workers/reward_manager/pair.py", New: func() any { return PairGain{Range: 8, Unparsable: -4} },
	},
	{
		Name: "curriculum", Doc: "a proposed question's difficulty, its difference from others and its use of tools",
		Cite: "Agent0, Agent0/curriculum_train/examples/reward_function/curriculum_reward.py", New: func() any { return NewCurriculum() },
	},
	{
		Name: "preference_ladder", Doc: "rungs for right answers with and without the right decision about tools, and for wrong ones by closeness",
		Cite: "TRICE, generate_data/score.py", New: func() any { return NewPreferenceLadder() },
	},
	{
		Name: "picked", Doc: "1 for picking the good action, and a little for the format",
		Cite: "ToolPRMBench (reconstructed)", New: func() any { return Picked{Format: 0.1} },
	},
}

// Verifier uses the verdict recorded with the trajectory: R = outcome.
type Verifier struct{}

// Outcomes returns the recorded verdicts. A kept trajectory without one is an error.
func (Verifier) Outcomes(g *scored.Group) ([]float64, error) { return each(g, fact.Verdict) }

// None gives no outcome reward.
type None struct{}

// Outcomes returns zeros.
func (None) Outcomes(g *scored.Group) ([]float64, error) {
	return make([]float64, len(g.Trajectories)), nil
}
