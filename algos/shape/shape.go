// Package shape holds the parts that edit rewards after they are given and before credit spreads them.
// Shaping never touches the loss.
//
// A shaper sees a whole group and edits the outcomes, the rewards at turns or those at tokens in place.
// What it needs to know of a trajectory stands in the trajectory: turns, calls, tokens, time, and facts
// recorded by name in its scores. A kept trajectory that lacks a fact is an error, never a 0. Trajectories
// that are dropped are in no statistic; their rewards are neither read nor edited.
package shape

import (
	"time"

	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Shaper edits the rewards of a group; it sees the whole group.
type Shaper interface {
	// Shape changes g.Outcome, g.Turns and g.Tokens in place. Rewards of dropped trajectories are not read.
	Shape(g *scored.Group) error
}

// Table lists every shaper.
var Table = []scored.Variant{
	{
		Name: "weighted", Doc: "weighted sum of the outcome, of recorded scores and of a constant",
		New: func() any { return Weighted{Outcome: 1} },
	},
	{
		Name: "clip_reward", Doc: "limits the outcome and the rewards at turns",
		Cite: "TL-Training, code/irm/dschat/rlhf/ppo_trainer.py", New: func() any { return ClipReward{Bound: 5} },
	},

	{
		Name: "format_gate", Doc: "the outcome becomes the penalty when any turn is malformed",
		Cite: "ARPO, arXiv 2507.19849, reward", New: func() any { return FormatGate{Penalty: -1} },
	},
	{
		Name: "format_bonus", Doc: "adds a bonus for well-formed turns, all of them or their share",
		Cite: "Genome-Bench, training/rl_training.py; OpenThinkIMG, r1_v/open_r1/tool_grpo.py",
		New:  func() any { return FormatBonus{Weight: 1, Of: EveryTurn} },
	},
	{
		Name: "turn_format", Doc: "adds the penalty to the reward of each malformed turn",
		Cite: "GTPO, arXiv 2511.14846, eq. 5", New: func() any { return TurnFormat{Penalty: -0.1} },
	},
	{
		Name: "repetition_gate", Doc: "repetition decides before format, format before the answer (constants reconstructed)",
		Cite: "VISTA-Gym, reward order", New: func() any { return NewRepetitionGate() },
	},
	{
		Name: "progressive", Doc: "format first: the answer counts only once every turn is well-formed (reconstructed)",
		Cite: "PRS, staged reward", New: func() any { return Progressive{Credit: 0.2, Of: StageOutcome} },
	},
	{
		Name: "hallucination", Doc: "rewards format and punishes calls that no tool answered",
		Cite: "MindWatcher, arXiv 2512.23412", New: func() any { return NewHallucination() },
	},
	{
		Name: "penalties", Doc: "adds small penalties for broken calls, failed tools, no tool at all, bad format and no end",
		Cite: "VerlTool, verl_tool/workers/reward_manager (ToRL)", New: func() any { return NewPenalties() },
	},

	{
		Name: "tool_efficiency", Doc: "multiplies the outcome by how few calls it took, absolutely or beside the group's best",
		Cite: "OTC-PO, arXiv 2504.14870", New: func() any { return NewToolEfficiency() },
	},
	{
		Name: "tool_bell", Doc: "pays for calls where tools help and charges for them where they do not",
		Cite: "AdaTooler-V, verl_tool/workers/reward_manager/AdaTooler-V .py", New: func() any { return NewToolBell() },
	},
	{
		Name: "sigmoid_efficiency", Doc: "multiplies the outcome by sigmoids of calls and length beside the group's, fading as training goes on",
		Cite: "ET-Agent, verl/utils/reward_score/efficiency.py", New: func() any { return NewSigmoidEfficiency() },
	},
	{
		Name: "call_budget", Doc: "adds a bonus for what a correct trajectory leaves of its call budget (reconstructed)",
		Cite: "TGRL, reward", New: func() any { return CallBudget{Bonus: 0.1, Limit: 10, Count: CountIssued, Threshold: 0.5} },
	},
	{
		Name: "call_discount", Doc: "takes a share off the outcome when a named tool was called",
		Cite: "DeepEyesV2, verl/utils/reward_score/deepeyesv2.py",
		New:  func() any { return CallDiscount{Tools: []string{"search"}, Discount: 0.1, Count: CountIssued} },
	},
	{
		Name: "multi_tool_bonus", Doc: "adds a bonus to a positive outcome that used every named tool",
		Cite: "ARPO, verl/utils/reward_score/deep_research.py",
		New:  func() any { return MultiToolBonus{Tools: []string{"search", "python"}, Bonus: 0.1, Count: CountValid} },
	},
	{
		Name: "lift_tool_use", Doc: "a wrong trajectory loses less the more turns it took",
		Cite: "ReTool recipe, retool/retool.py in verl-recipe", New: func() any { return NewLiftToolUse() },
	},
	{
		Name: "retry_decay", Doc: "multiplies the outcome by a factor for each submission after the first",
		Cite: "WebSeer, verl/tools/re_rag_tool.py", New: func() any { return RetryDecay{Decay: 0.8, Score: "submissions"} },
	},

	{
		Name: "overlong", Doc: "adds a penalty that grows over the last stretch before the length limit",
		Cite: "DAPO, arXiv 2503.14476, eq. 13", New: func() any { return NewOverlong() },
	},
	{
		Name: "length_penalty", Doc: "takes a share of the group's mean outcome off, by tokens and turns beside the group's longest",
		Cite: "prime-rl, orchestrator/algo/grpo.py", New: func() any { return LengthPenalty{Output: 1, Input: 0.1, Turns: 0.1} },
	},
	{
		Name: "time_bonus", Doc: "pays for using the time there is and nothing after it (shape reconstructed)",
		Cite: "Timely-RL, time reward", New: func() any { return TimeBonus{Weight: 0.5, Budget: time.Minute} },
	},

	{
		Name: "calibration", Doc: "rewards a stated confidence by a scoring rule (reconstructed)",
		Cite: "Confidence Dichotomy (CAR, MSCR)", New: func() any { return NewCalibration() },
	},
	{
		Name: "code_similarity", Doc: "a failure earns by how much its code resembles that of the group's successes (reconstructed)",
		Cite: "GTPO, arXiv 2511.14846", New: func() any { return NewCodeSimilarity() },
	},
	{
		Name: "kl_in_reward", Doc: "subtracts the divergence from the reference policy at every sampled token",
		Cite: "Ziegler et al., arXiv 1909.08593, eq. 2", New: func() any { return NewKLInReward() },
	},
}
