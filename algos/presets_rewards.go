package algos

import (
	"time"

	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/filter"
	"github.com/turnwise-rl/turnwise/algos/mask"
	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/algos/shape"
	"github.com/turnwise-rl/turnwise/algos/turnreward"
	"github.com/turnwise-rl/turnwise/algos/weight"
	"github.com/turnwise-rl/turnwise/kernels"
)

// rewardPresets give credit by the outcome alone and differ in how it is rewarded, shaped, filtered and masked.
func rewardPresets() []Preset {
	return []Preset{
		{"verltool", "signed verdict, with penalties for invalid, failed, missing and unfinished calls that are off until set", "VerlTool, verl_tool/trainer/config/verltool/agent.yaml", Code, "", verlTool},
		{"adatooler", "a bonus for tools that helps where tools help and costs where they do not (AT-GRPO)", "AdaTooler-V, verltool/verl_tool/workers/reward_manager/AdaTooler-V .py", Code, "the reference model's samples with and without tools, recorded as the score tool_benefit", adaTooler},
		{"adareasoner", "8 for a right answer, else the mean rung its calls reached, nothing for broken format (Tool-GRPO)", "AdaReasoner, AdaTG/verl/utils/reward_score/unified_tool.py", Code, "randomised tool names, and tools that record the reward tool_score: a call that ran is worth 2", adaReasoner},
		{"openthinkimg", "accuracy plus the share of well-formed turns, under TRL's defaults (V-ToolRL)", "OpenThinkIMG, r1_v/open_r1/tool_grpo.py", Code, "", openThinkIMG},
		{"vista-r1", "repetition dominates, then format, then correctness (constants reconstructed); prompts of middling pass rate", "VISTA-Gym 61b1388", Notes, "", vistaR1},
		{"deepeyes-v2", "0.8 accuracy, a tenth less when search was used, plus 0.2 format", "DeepEyesV2, reinforcement_learning/verl/utils/reward_score/deepeyesv2.py", Code, "the judge of accuracy: the environment's verdict takes its place", deepEyes},
		{"mini-o3", "rollouts that ran out of turns count in the baseline and not in the loss", "Mini-o3, verl/workers/actor/dp_actor.py", Code, "the judge of accuracy: the environment's verdict takes its place", miniO3},
		{"envscaler", "share of passed checks, normalised by group, whitened, clipped to ±0.2", "EnvScaler, rl/roll/pipeline/agentic/env/envscaler_env/base_env.py", Code, "environments with checks of the final state, recorded as the scores checks_passed and checks_total", envScaler},
		{"mua-rl", "1 where the database ends as it should and everything required was said", "MUA-RL, verl/utils/reward_score/taubench.py", Code, "the model that plays the user, and environments with a database, recorded as the scores db_state and required_outputs", muaRL},
		{"tgrl", "correctness plus small terms for format and for few calls", "TGRL abstract", Reconstructed, "", tgrl},
		{"mtr", "answer match plus consistency of the trace minus schema errors", "MTR abstract", Reconstructed, "tools simulated by a model, and the judge of traces, recorded as the scores consistency and schema_errors", mtr},
		{"agent0", "agreement with the majority answer, scaled and clipped by how sure the majority is (ADPO)", "arXiv 2511.16043; Agent0/executor_train/verl_tool/trainer/ppo/core_algos.py", Code, "the curriculum agent that proposes tasks", agent0},
		{"agent0-curriculum", "tasks rewarded for being uncertain, unlike others and tool-using", "Agent0/curriculum_train/examples/reward_function/curriculum_reward.py", Code, "the executor whose answers give the score majority_share, and clustering of the tasks for the score cluster_share", agent0Curriculum},
		{"otc-grpo", "correctness times how near the calls are to the fewest that sufficed", "OTC-PO, arXiv 2504.14870", Notes, "the fewest calls of a prompt kept across epochs: it is that of the group", otcGRPO},
		{"otc-ppo", "correctness times a cosine of the number of calls, under a critic", "OTC-PO, arXiv 2504.14870", Notes, "", otcPPO},
		{"aspo", "group z-score plus a bounded bonus for code that comes early", "arXiv 2508.19201; verl recipe ASPO", CodeThird, "", aspo},
		{"et-agent", "correctness times sigmoids of calls and length, minus 1 for broken format; Pareto sampling", "ET-Agent, ARPO/verl_arpo_entropy/verl/utils/reward_score/efficiency.py", Code, "ARPO's branching sampler, and rounds: Pareto sampling picks groups of each batch by shaped outcomes, not prompts between rounds by their correctness", etAgent},
		{"webseer", "best recall of the submitted answers, less with each further submission", "WebSeer, verl/tools/re_rag_tool.py", Code, "the environment that lets an episode submit several answers, whose verdict is the best recall and which records the score submissions", webSeer},
		{"timely-rl", "correctness and format plus a sine of the time used", "Timely-RL abstract", Reconstructed, "the timer tool", timelyRL},
		{"calibrated", "correctness with a score of the stated confidence that keeps right above wrong (CAR, MSCR)", "Confidence Dichotomy abstract", Reconstructed, "the parser of stated confidences, recorded as the score confidence", calibrated},
		{"prs-vspo", "staged rewards on prompts resampled by their value, with smoothed advantages", "PRS + VSPO abstract", Reconstructed, "refilling the batch with copies: a copy is a weight", prsVSPO},
		{"supo", "one z-score over rollouts for all segments that summaries cut them into; overlong rollouts masked", "arXiv 2510.06727", Notes, "summarising the context when it is long, and recording each segment as a trajectory with its rollout's verdict, stop and score rollout", supo},
		{"retool", "signed verdict under a critic, interpreter output masked", "ReTool, arXiv 2504.11536", Memory, "", reTool},
		{"retool-dapo", "signed verdict, failures that used tools punished less, under DAPO's clip", "ReTool, retool/retool.py in verl-recipe", Code, "", reToolDAPO},
		{"medresearcher", "task success plus an expert's view plus efficiency", "MedResearcher-R1, arXiv 2508.14880", Memory, "the expert judge and the measure of efficiency, recorded as the scores expert and efficiency", medResearcher},
		{"genome-bench", "1 for format plus 2 for the right letter, under TRL's conventions", "Genome-Bench, training/rl_training.py", Code, "", genomeBench},
		{"funreason-mt", "GRPO on a match of the call's syntax tree: the paper states no objective", "FunReason-MT abstract", Reconstructed, "", funReason},
		{"tl-training", "a ladder from −2 to 1 for each call, under a critic, with the divergence in the reward", "TL-Training, code/irm/dschat/rlhf/ppo_trainer.py", Code, "", tlTraining},
		{"longcat", "mean-centered rewards, a clip that bounds failures on both sides, sequences of incomplete signal masked", "LongCat-Flash-Thinking, first report", Notes, "rollouts of several policy versions at once, the filter with replacement, and the score signal that says a verdict is whole: a trajectory without it is masked", longCat},
	}
}

func verlTool() Method {
	m := outcomeGRPO("verltool")
	m.Outcome, m.Shape = outcome.Signed{Threshold: 1, Correct: 1, Wrong: -1}, []shape.Shaper{shape.Penalties{}}
	return m
}

func adaTooler() Method {
	m := outcomeGRPO("adatooler")
	m.Shape = []shape.Shaper{shape.NewToolBell()}
	return m
}

func adaReasoner() Method {
	m := outcomeGRPO("adareasoner")
	m.Outcome = outcome.ToolLadder{Correct: 8, Threshold: 1}
	return m
}

func openThinkIMG() Method {
	m := trl(outcomeGRPO("openthinkimg"))
	m.Loss.Regularizers = []kernels.Regularizer{kl(0.04)}
	m.Shape = []shape.Shaper{shape.FormatBonus{Weight: 1, Of: shape.MeanTurn}}
	return m
}

func vistaR1() Method {
	m := outcomeGRPO("vista-r1")
	band := filter.NewPassRateBand()
	band.Low, band.High, band.Of, band.KeepAllIfEmpty = 0.125, 0.375, filter.RateOutcome, true
	m.Shape, m.Filter = []shape.Shaper{shape.NewRepetitionGate()}, []filter.Rule{band}
	return m
}

func deepEyes() Method {
	m := outcomeGRPO("deepeyes-v2")
	m.Shape = []shape.Shaper{
		shape.CallDiscount{Tools: []string{"search"}, Discount: 0.1, Count: shape.CountIssued},
		shape.Weighted{Outcome: 0.8}, shape.FormatBonus{Weight: 0.2, Of: shape.EveryTurn},
	}
	return m
}

func miniO3() Method {
	m := outcomeGRPO("mini-o3")
	m.Mask = []mask.Rule{mask.OverTurn{}}
	m.Loss.Objective = kernels.Clip{ClipLow: 0.2, ClipHigh: 0.3}
	return m
}

func envScaler() Method {
	m := outcomeGRPO("envscaler")
	m.Outcome = outcome.NewChecklist()
	m.Advantage.Terms[0].Singleton = advantage.Zero
	m.Advantage.Transforms = []advantage.Transform{advantage.Whiten{Epsilon: 1e-8}, advantage.Clip{Bound: 0.2}}
	m.Loss.Regularizers = []kernels.Regularizer{kl(0.1)}
	return m
}

func muaRL() Method {
	m := outcomeGRPO("mua-rl")
	m.Outcome = outcome.NewAllOf()
	m.Loss.Regularizers = []kernels.Regularizer{kl(0.001)}
	return m
}

func tgrl() Method {
	m := outcomeGRPO("tgrl")
	m.Shape = []shape.Shaper{
		shape.CallBudget{Bonus: 0.1, Limit: 10, Count: shape.CountIssued, Threshold: 0.5}, shape.FormatBonus{Weight: 0.1, Of: shape.EveryTurn},
	}
	return m
}

func mtr() Method {
	m := outcomeGRPO("mtr")
	m.Outcome = outcome.AnswerF1{}
	m.Shape = []shape.Shaper{shape.Weighted{Outcome: 1, Scores: map[string]float64{"consistency": 0.3, "schema_errors": -0.2}}}
	return m
}

func agent0() Method {
	m := outcomeGRPO("agent0")
	band := filter.NewPassRateBand()
	band.Low, band.High, band.Of = 0.3, 0.8, filter.RateMajority
	m.Outcome, m.Filter = outcome.Majority{Normalize: outcome.Text}, []filter.Rule{band}
	m.Advantage.Transforms = []advantage.Transform{advantage.NewTrustScale()}
	m.Weight = []weight.Rule{weight.NewTrustClip()}
	m.Loss.Aggregate, m.Loss.Regularizers = kernels.SequenceMeanTokenAvg, []kernels.Regularizer{kl(0.01)}
	return m
}

func agent0Curriculum() Method {
	m := outcomeGRPO("agent0-curriculum")
	m.Outcome = outcome.NewCurriculum()
	return m
}

func otcGRPO() Method {
	m := outcomeGRPO("otc-grpo")
	m.Shape = []shape.Shaper{shape.NewToolEfficiency()}
	return m
}

func otcPPO() Method {
	m, efficiency := ppo(), shape.NewToolEfficiency()
	efficiency.Variant = shape.EfficiencyPPO
	m.Name, m.Shape = "otc-ppo", []shape.Shaper{efficiency}
	return m
}

func aspo() Method {
	m := outcomeGRPO("aspo")
	m.Advantage.Transforms = []advantage.Transform{advantage.NewEarlyCall()}
	return m
}

func etAgent() Method {
	m := outcomeGRPO("et-agent")
	m.Outcome, m.Shape = outcome.AnswerF1{}, []shape.Shaper{shape.NewSigmoidEfficiency()}
	m.Filter = []filter.Rule{filter.Pareto{Quota: 0.5, Threshold: 0.75}}
	return m
}

func webSeer() Method {
	m := outcomeGRPO("webseer")
	m.Shape = []shape.Shaper{shape.RetryDecay{Decay: 0.8, Score: "submissions"}}
	m.Loss.Objective = kernels.Clip{ClipLow: 0.2, ClipHigh: 0.28}
	m.Loss.Regularizers = []kernels.Regularizer{kl(1e-4)}
	return m
}

func timelyRL() Method {
	m := outcomeGRPO("timely-rl")
	m.Shape = []shape.Shaper{shape.FormatBonus{Weight: 0.1, Of: shape.EveryTurn}, shape.TimeBonus{Weight: 0.5, Budget: time.Minute}}
	return m
}

func calibrated() Method {
	m := outcomeGRPO("calibrated")
	m.Shape = []shape.Shaper{shape.NewCalibration()}
	return m
}

func prsVSPO() Method {
	m := outcomeGRPO("prs-vspo")
	m.Shape = []shape.Shaper{shape.Progressive{Credit: 0.2, Of: shape.StageOutcome}}
	m.Filter = []filter.Rule{filter.ValueResample{Threshold: 0.5, Normalize: outcome.Text}}
	m.Advantage.Transforms = []advantage.Transform{advantage.SmoothingClip{Bound: 5}}
	return m
}

func supo() Method {
	m := outcomeGRPO("supo")
	m.Advantage.Terms[0].Credit = credit.SegmentBroadcast{Of: credit.Outcome, Rollout: "rollout"}
	m.Mask = []mask.Rule{mask.OverTurn{}}
	return m
}

func reTool() Method {
	m := ppo()
	m.Name, m.Outcome = "retool", outcome.Signed{Threshold: 1, Correct: 1, Wrong: -1}
	m.Loss.Objective = kernels.Clip{ClipLow: 0.2, ClipHigh: 0.28}
	return m
}

func reToolDAPO() Method {
	m, lift := outcomeGRPO("retool-dapo"), shape.NewLiftToolUse()
	lift.Count = shape.CountMessages // as the released recipe counts turns
	m.Outcome, m.Shape = outcome.Signed{Threshold: 1, Correct: 1, Wrong: -1}, []shape.Shaper{lift}
	m.Loss.Objective = kernels.Clip{ClipLow: 0.2, ClipHigh: 0.28}
	return m
}

func medResearcher() Method {
	m := outcomeGRPO("medresearcher")
	m.Shape = []shape.Shaper{shape.Weighted{Outcome: 1, Scores: map[string]float64{"expert": 0.2, "efficiency": 0.1}}}
	return m
}

func genomeBench() Method {
	m := trl(outcomeGRPO("genome-bench"))
	m.Shape = []shape.Shaper{shape.Weighted{Outcome: 2}, shape.FormatBonus{Weight: 1, Of: shape.EveryTurn}}
	m.Loss.Regularizers = []kernels.Regularizer{kl(0.005)}
	return m
}

func funReason() Method {
	m := outcomeGRPO("funreason-mt")
	m.Outcome, m.TurnReward = outcome.None{}, turnreward.CallCorrect{Weight: 1, Judge: turnreward.JudgeGold}
	m.Advantage.Terms[0].Credit = credit.Broadcast{Of: credit.Turns}
	return m
}

func tlTraining() Method {
	m := critic(outcomeGRPO("tl-training"), credit.GAE{Of: credit.Turns, Discount: 1, Lambda: 0.95, ObsTokens: kernels.BetweenPlain})
	m.Outcome, m.TurnReward = outcome.None{}, turnreward.ParameterLadder{}
	m.Advantage.Transforms = nil // the released trainer does not whiten
	m.Shape = []shape.Shaper{shape.ClipReward{Bound: 5}, klInReward(0.3)}
	return m
}

func longCat() Method {
	m := outcomeGRPO("longcat")
	m.Advantage.Terms[0].Scale = advantage.NoScale
	m.Mask = []mask.Rule{mask.NewIncompleteSignal()}
	m.Loss.Objective = kernels.Clip{ClipLow: 0.2, ClipHigh: 0.28, DualClip: 3}
	m.Loss.OffPolicy = []kernels.Correction{kernels.TIS{Level: kernels.LevelToken, Cap: 2, Normalize: kernels.NormalizeNone}}
	m.Loss.Aggregate, m.Loss.AggregateConst = kernels.SequenceSumConst, 1024
	return m
}
