package algos

import (
	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/algos/pair"
	"github.com/turnwise-rl/turnwise/algos/shape"
	"github.com/turnwise-rl/turnwise/algos/turnreward"
	"github.com/turnwise-rl/turnwise/kernels"
)

// turnPresets give credit turn by turn, or along a tree of turns.
func turnPresets() []Preset {
	return []Preset{
		{"matchtir", "turn rewards by matching tool calls to the known solution; half trajectory z-score, half turn-index z-score", "arXiv 2601.10712; Code/verl/utils/reward_score/tool.py, Code/verl/trainer/ppo/core_algos.py", Code, "", MatchTIR},
		{"matchtir-ot", "MatchTIR with optimal transport in place of one-to-one matching", "arXiv 2601.10712; Code/verl/utils/reward_score/tool.py", Code, "", matchTIRTransport},
		{"gtpo", "discounted turn returns, standardised over all turns of the group; failed code earns by its likeness to code that works (reconstructed)", "arXiv 2511.14846; skyrl/backends/skyrl_train/utils/ppo_utils.py in a public SkyRL fork", CodeThird, "", gtpo},
		{"at2po", "leaf z-scores backed up a tree of turns by entropy; turn-level ratios", "arXiv 2601.04767; ATPO/verl_atpo/verl/trainer/ppo/core_algos.py", Code, "the sampler that grows the tree at uncertain turns", at2po},
		{"aepo", "group z-score that uncertain tokens scale up, clipped without losing the gradient", "arXiv 2510.14545; ATPO/verl_atpo in the release of AT²PO", Code, "the sampler that balances branches by entropy", aepo},
		{"arpo", "group z-score on rollouts that branch after uncertain observations", "arXiv 2507.19849; ARPO/verl_arpo_entropy/verl/utils/reward_score/deep_research.py", Code, "the sampler that branches where entropy rises", arpo},
		{"arpo-hard", "ARPO that gives tokens shared by several rollouts the mean of their advantages", "arXiv 2507.19849", Memory, "the sampler that branches where entropy rises", arpoHard},
		{"toolpo", "mean-centered success everywhere plus mean-centered correct calls on the turns that call", "DeepAgent, arXiv 2510.21618", Notes, "folding the context into memories, and tools simulated by a model", toolPO},
		{"steptool", "step rewards for successful and contributing calls under a critic, the divergence in the reward with a coefficient that adapts", "arXiv 2410.07745; src/steptool/step_ppotrainer.py", Code, "the judge that rates each step, recorded as the turn's reward contribution", stepTool},
		{"reveal", "gains in pass rate for code, validity for tests, each credited to the neighbour it helped, minus a critic", "TAPO, arXiv 2506.11442", Notes, "the environment that runs generated code and tests and records the rewards pass_rate and test_validity at turns, and a context of three turns", reveal},
		{"gigpo", "group z-score of the outcome plus z-score of turn returns among turns that start in the same state", "arXiv 2505.10978; openmanus_rl/algorithms/gigpo.py", Code, "", gigpo},
		{"prints", "scores of a process judge by how well they tell better from worse steps; members of one step are compared", "PRInTS, verl/workers/reward_manager/pair.py", Code, "the judge as the policy: two steps at one history, the gain of each by playing on from it, and several scores for each", prints},
		{"mindwatcher", "answer, format and answered calls rewarded; the loss averaged over tokens, then turns, then trajectories", "arXiv 2512.23412", Notes, "a judge of free answers, whose verdict is the environment's here, and the scores responses and residue that count what tools answered and what stands outside tags", mindWatcher},
	}
}

// MatchTIR is dual-level credit over matched tool calls (arXiv 2601.10712). Its loss compares with a
// reference policy (k3, 0.001).
func MatchTIR() Method {
	trajectory, turn := advantage.NewTerm(), advantage.NewTerm()
	trajectory.Name, trajectory.Weight, trajectory.Credit = "trajectory", 0.5, credit.Broadcast{Of: credit.Turns}
	turn.Name, turn.Weight, turn.Credit, turn.Compare = "turn", 0.5, credit.TurnReturn{Discount: 0.9}, advantage.TurnIndex
	loss := DefaultLoss()
	loss.Objective = kernels.Clip{ClipLow: 0.2, ClipHigh: 0.2, DualClip: 3}
	loss.Regularizers = []kernels.Regularizer{kernels.NewKL(), kernels.Entropy{Coef: 0.001}}
	return Method{
		Name: "matchtir", Outcome: outcome.AnswerF1{}, TurnReward: turnreward.NewMatch(), Pair: pair.None{},
		Advantage: Advantage{Terms: []advantage.Term{trajectory, turn}}, Loss: loss,
	}
}

func matchTIRTransport() Method {
	m, match := MatchTIR(), turnreward.NewMatch()
	match.Assignment = turnreward.Transport
	m.Name, m.TurnReward = "matchtir-ot", match
	return m
}

// kl is a divergence from the reference policy by k3.
func kl(coef float64) kernels.KL {
	k := kernels.NewKL()
	k.Coef = coef
	return k
}

func gtpo() Method {
	m := outcomeGRPO("gtpo")
	term := &m.Advantage.Terms[0]
	m.TurnReward = turnreward.OutcomeLast{BadFormat: -0.1}
	m.Shape = []shape.Shaper{shape.NewCodeSimilarity()}
	term.Name, term.Credit, term.Compare = "turn", credit.TurnReturn{Discount: 0.9}, advantage.Pooled
	m.Loss.Objective = kernels.Clip{ClipLow: 0.2, ClipHigh: 0.28}
	m.Loss.Regularizers = []kernels.Regularizer{kl(0.01)}
	return m
}

// f1Ladder is ARPO's reward: −1 where the format is broken, else the answer's F1, with a bonus for using both tools.
func f1Ladder(m *Method) {
	m.Outcome = outcome.AnswerF1{}
	m.Shape = []shape.Shaper{
		shape.MultiToolBonus{Tools: []string{"search", "python"}, Bonus: 0.1, Count: shape.CountValid}, shape.FormatGate{Penalty: -1},
	}
}

func at2po() Method {
	m := outcomeGRPO("at2po")
	f1Ladder(&m)
	term := &m.Advantage.Terms[0]
	term.Name, term.Credit = "tree", credit.NewTreeValue()
	uncompared(term)
	m.Loss.Ratio, m.Loss.Objective, m.Loss.Aggregate = kernels.RatioTurn, kernels.Clip{ClipLow: 3e-3, ClipHigh: 4e-3}, kernels.SequenceMeanTokenAvg
	return m
}

func aepo() Method {
	m := outcomeGRPO("aepo")
	f1Ladder(&m)
	m.Advantage.Transforms = []advantage.Transform{advantage.EntropyScale{Coef: 0.2}}
	m.Loss.Objective = kernels.ClipKeep{ClipLow: 0.2, ClipHigh: 0.2}
	return m
}

func arpo() Method {
	m := outcomeGRPO("arpo")
	f1Ladder(&m)
	return m
}

func arpoHard() Method {
	m := arpo()
	m.Name = "arpo-hard"
	m.Advantage.Transforms = []advantage.Transform{advantage.SharedPrefixMean{}}
	return m
}

func toolPO() Method {
	m := outcomeGRPO("toolpo")
	m.TurnReward = turnreward.NewCallCorrect()
	success, action := advantage.NewTerm(), advantage.NewTerm()
	success.Name, success.Scale = "success", advantage.NoScale
	action.Name, action.Scale, action.Credit, action.Support = "action", advantage.NoScale, credit.Broadcast{Of: credit.Turns}, advantage.CallTurns
	m.Advantage.Terms = []advantage.Term{success, action}
	return m
}

func stepTool() Method {
	m := critic(outcomeGRPO("steptool"), credit.GAE{Of: credit.Turns, Discount: 0.99, Lambda: 0.95, ObsTokens: kernels.BetweenSkip})
	m.TurnReward = turnreward.NewStepContribution()
	charge := klInReward(0.3)
	charge.Target, charge.Per = 6, shape.PerTrajectory // as the library it trains with has it
	m.Shape = []shape.Shaper{charge}
	return m
}

func reveal() Method {
	m := outcomeGRPO("reveal")
	// The verdict is the share of unit tests passed, and the reward of the result 5 times that and 1 for the format, else −1.
	m.TurnReward = turnreward.PassRateGain{Improvement: 1}
	m.Shape = []shape.Shaper{shape.Weighted{Outcome: 5, Constant: -1}, shape.FormatBonus{Weight: 2, Of: shape.EveryTurn}}
	term := &m.Advantage.Terms[0]
	term.Name, term.Credit = "neighbor", credit.NeighborReturn{Of: credit.Total}
	uncompared(term)
	term.Center = advantage.Critic
	m.Loss.Regularizers = []kernels.Regularizer{kernels.NewValue()}
	return m
}

func gigpo() Method {
	m := outcomeGRPO("gigpo")
	episode, step := advantage.NewTerm(), advantage.NewTerm()
	episode.Name, episode.Credit = "episode", credit.Broadcast{Of: credit.Turns}
	step.Name, step.Credit, step.Compare, step.Singleton = "step", credit.TurnReturn{Discount: 0.95}, advantage.SameState, advantage.Zero
	m.TurnReward = turnreward.OutcomeLast{}
	m.Advantage.Terms = []advantage.Term{episode, step}
	m.Loss.Regularizers = []kernels.Regularizer{kl(0.01)}
	return m
}

func prints() Method {
	m := outcomeGRPO("prints")
	m.Outcome = outcome.PairGain{Range: 8, Unparsable: -4}
	m.Advantage.Terms[0].Compare = advantage.SameRole
	m.Loss.Regularizers = []kernels.Regularizer{kl(0.001)}
	return m
}

func mindWatcher() Method {
	m := outcomeGRPO("mindwatcher")
	m.Shape = []shape.Shaper{shape.NewHallucination()}
	m.Loss.Aggregate = kernels.StepMean
	return m
}
