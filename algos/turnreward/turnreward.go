// Package turnreward holds the rules that give rewards at turns.
package turnreward

import "github.com/turnwise-rl/turnwise/algos/scored"

// Rule gives rewards at turns. Outcome rewards are already in the group.
type Rule interface {
	// Rewards returns one reward per turn of each trajectory, or nil when the rule gives none at all.
	// The entry of a dropped trajectory has the right length and is not read otherwise.
	Rewards(g *scored.Group) ([][]float64, error)
}

// Table lists every turn-reward rule.
var Table = []scored.Variant{
	{Name: "none", Doc: "no rewards at turns", New: func() any { return None{} }},
	{
		Name: "match", Doc: "mean similarity of a turn's calls to the gold calls they are assigned to; token F1 at the answer turn",
		Cite: "MatchTIR, arXiv 2601.10712", New: func() any { return NewMatch() },
	},
	{
		Name: "outcome_last", Doc: "the outcome at the last turn, and a penalty at each turn with neither a valid call nor an answer",
		Cite: "GTPO, arXiv 2511.14846, eq. 5", New: func() any { return OutcomeLast{BadFormat: -0.1} },
	},
	{
		Name: "recorded", Doc: "weighted sum of the rewards the environment gave at the turn",
		New: func() any { return Recorded{Weights: map[string]float64{"env": 1}} },
	},
	{
		Name: "call_correct", Doc: "number of correct calls, and the preference for a memory fold",
		Cite: "ToolPO (DeepAgent), arXiv 2510.21618", New: func() any { return NewCallCorrect() },
	},
	{
		Name: "tool_ladder", Doc: "mean over the turn's calls of how far each got: unparsable, parsed, ran, up to a score of the tool's",
		Cite: "AdaReasoner, AdaTG/verl/workers/agent/parallel_env.py", New: func() any { return ToolLadder{} },
	},
	{
		Name: "step_contribution", Doc: "success and contribution of each turn before the last, the outcome at the last",
		Cite: "StepTool, arXiv 2410.07745", New: func() any { return NewStepContribution() },
	},
	{
		Name: "parameter_ladder", Doc: "mistakes in the parameters of the turn's calls against the gold calls, from −2 to 1",
		Cite: "TL-Training's IRM, code/irm/dschat/rlhf/ppo_trainer.py", New: func() any { return ParameterLadder{} },
	},
	{
		Name: "pass_rate_gain", Doc: "rise of the pass rate at turns that write code, share of valid tests at turns that test it",
		Cite: "ReVeal (TAPO), arXiv 2506.11442", New: func() any { return PassRateGain{Improvement: 1} },
	},
	{
		Name: "turn_format", Doc: "1 at each turn that parses strictly",
		Cite: "OpenThinkIMG, r1_v/open_r1/tool_grpo.py", New: func() any { return TurnFormat{Weight: 1} },
	},
	{
		Name: "information_gain", Doc: "rise of a recorded estimate of the chance of success",
		Cite: "PRInTS, examples/data_preprocess/prints_grpo_dataset.py", New: func() any { return NewInformationGain() },
	},
}

// None gives no rewards at turns.
type None struct{}

// Rewards returns nil.
func (None) Rewards(*scored.Group) ([][]float64, error) { return nil, nil }

// zeros returns one zero per turn of each trajectory.
func zeros(g *scored.Group) [][]float64 {
	turns := 0
	for i := range g.Trajectories {
		turns += len(g.Trajectories[i].Turns)
	}
	all, out := make([]float64, turns), make([][]float64, len(g.Trajectories))
	for i := range g.Trajectories {
		n := len(g.Trajectories[i].Turns)
		out[i], all = all[:n:n], all[n:]
	}
	return out
}
