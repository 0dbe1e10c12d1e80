package algos

import (
	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/filter"
	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/algos/pair"
	"github.com/turnwise-rl/turnwise/algos/shape"
	"github.com/turnwise-rl/turnwise/algos/turnreward"
	"github.com/turnwise-rl/turnwise/kernels"
)

// basePresets are the algorithms that others build on: one outcome a trajectory, and an estimator of its advantage.
func basePresets() []Preset {
	return []Preset{
		{"ppo", "clipped surrogate with a critic: generalised advantages over the policy's tokens, whitened, and a clipped value loss", "arXiv 1707.06347; verl core_algos.py", Code, "", ppo},
		{"grpo", "group z-score of the outcome", "arXiv 2402.03300; verl core_algos.py", Code, "", GRPO},
		{"dr-grpo", "outcome minus the group mean, losses summed and divided by a constant", "arXiv 2503.20783", Code, "", drGRPO},
		{"dapo", "GRPO with a higher upper clip, groups without variance dropped and long answers punished softly", "arXiv 2503.14476; verl recipe", Code, "sampling on until the batch is full: a dropped group leaves the batch smaller", dapo},
		{"rloo", "outcome minus the mean of the other members", "arXiv 2402.14740; verl core_algos.py", Code, "", rloo},
		{"reinforce-pp", "token returns with a divergence penalty in the reward, whitened over the batch's tokens", "arXiv 2501.03262; verl core_algos.py", Code, "", reinforcePP},
		{"reinforce-pp-baseline", "outcome minus the group mean, whitened over the batch's tokens", "arXiv 2501.03262; verl core_algos.py", Code, "", reinforcePPBaseline},
		{"remax", "reward to go minus the reward of the greedy answer", "arXiv 2310.10505; verl core_algos.py", Code, "the sampler that adds one greedy rollout to each group", remax},
		{"opo", "outcome minus the group's mean weighted by length", "arXiv 2505.23585; verl core_algos.py", Code, "", opo},
		{"max-rl", "outcome minus the group mean, divided by the group mean", "prime-rl orchestrator/algo max_rl", Code, "", maxRL},
		{"pass-at-k", "the best member gets its lead over the second best, the others nothing", "arXiv 2503.19595; verl core_algos.py", Code, "", passAtK},
		{"rae", "outcome minus a running mean of outcomes", "SPIRAL, arXiv 2506.24119; prime-rl", Code, "carrying the running mean from step to step: it starts anew with each batch", rae},
		{"hierarchical-grpo", "outcome minus the mean of the members with the same role: solvers of one proposal, or proposals of one task, as one group", "prime-rl orchestrator/algo hierarchical_grpo", Code, "agents that propose and solve, and a group for each set of peers", hierarchicalGRPO},
		{"prime-rl-grpo", "mean-centered rewards with a penalty on what a trajectory costs", "prime-rl orchestrator/advantage.py", Code, "", primeRLGRPO},
		{"td-grpo", "group z-score that fades with the turns left to the end", "VerlTool, verl_tool/trainer/ppo/core_algos.py", Code, "", tdGRPO},
		{"gapo", "group z-score whose statistics weigh members by their turns", "VerlTool, verl_tool/trainer/ppo/core_algos.py", Code, "", gapo},
	}
}

// GRPO is the group z-score of the verifier's outcome (arXiv 2402.03300).
func GRPO() Method {
	return Method{
		Name: "grpo", Outcome: outcome.Verifier{}, TurnReward: turnreward.None{}, Pair: pair.None{},
		Advantage: Advantage{Terms: []advantage.Term{advantage.NewTerm()}}, Loss: DefaultLoss(),
	}
}

// outcomeGRPO is GRPO under another name, for methods that differ from it in a few parts.
func outcomeGRPO(name string) Method {
	m := GRPO()
	m.Name = name
	return m
}

// critic is the term and the loss of a critic: raw advantages, since what they are compared with is a value.
func critic(m Method, rule credit.GAE) Method {
	term := &m.Advantage.Terms[0]
	term.Credit, term.Compare, term.Center, term.Scale = rule, advantage.WholeBatch, advantage.NoCenter, advantage.NoScale
	m.Advantage.Transforms = []advantage.Transform{advantage.Whiten{Epsilon: 1e-8}}
	m.Loss.Regularizers = append(m.Loss.Regularizers, kernels.NewValue())
	return m
}

func ppo() Method {
	return critic(outcomeGRPO("ppo"), credit.GAE{Of: credit.Outcome, Discount: 1, Lambda: 1, ObsTokens: kernels.BetweenSkip})
}

// klInReward charges for leaving the reference policy, by k1.
func klInReward(coef float64) shape.KLInReward {
	s := shape.NewKLInReward()
	s.Coef = coef
	return s
}

func drGRPO() Method {
	m := outcomeGRPO("dr-grpo")
	m.Advantage.Terms[0].Scale = advantage.NoScale
	m.Loss.Aggregate, m.Loss.AggregateConst = kernels.SequenceSumConst, 1024
	return m
}

func dapo() Method {
	m, overlong := outcomeGRPO("dapo"), shape.NewOverlong()
	overlong.MaxLength = 20480
	m.Shape = []shape.Shaper{overlong}
	m.Filter = []filter.Rule{filter.ZeroVariance{Of: filter.Outcome}}
	m.Loss.Objective = kernels.Clip{ClipLow: 0.2, ClipHigh: 0.28}
	return m
}

func rloo() Method {
	m := outcomeGRPO("rloo")
	m.Advantage.Terms[0].Center, m.Advantage.Terms[0].Scale = advantage.LeaveOneOut, advantage.NoScale
	return m
}

// uncompared makes a term's raw scores the advantage.
func uncompared(t *advantage.Term) {
	t.Compare, t.Center, t.Scale = advantage.WholeBatch, advantage.NoCenter, advantage.NoScale
}

func reinforcePP() Method {
	m := outcomeGRPO("reinforce-pp")
	uncompared(&m.Advantage.Terms[0])
	m.Advantage.Terms[0].Credit = credit.TokenReturn{Of: credit.Outcome, Discount: 1, ObsTokens: kernels.BetweenSkip}
	m.Shape = []shape.Shaper{klInReward(0.001)}
	m.Advantage.Transforms = []advantage.Transform{advantage.Whiten{Epsilon: 1e-8}}
	return m
}

func reinforcePPBaseline() Method {
	m := outcomeGRPO("reinforce-pp-baseline")
	m.Advantage.Terms[0].Scale = advantage.NoScale
	m.Advantage.Transforms = []advantage.Transform{advantage.Whiten{Epsilon: 1e-8}}
	return m
}

func remax() Method {
	m := outcomeGRPO("remax")
	m.Advantage.Terms[0].Center, m.Advantage.Terms[0].Scale = advantage.Greedy, advantage.NoScale
	return m
}

func opo() Method {
	m := outcomeGRPO("opo")
	m.Advantage.Terms[0].Center, m.Advantage.Terms[0].Scale = advantage.LengthWeighted, advantage.NoScale
	return m
}

func maxRL() Method {
	m := outcomeGRPO("max-rl")
	term := &m.Advantage.Terms[0]
	term.Scale, term.Singleton, term.Epsilon = advantage.GroupMean, advantage.Zero, 0
	return m
}

func passAtK() Method {
	m := outcomeGRPO("pass-at-k")
	m.Advantage.Terms[0].Center = advantage.RunnerUp
	return m
}

func rae() Method {
	m := outcomeGRPO("rae")
	term := &m.Advantage.Terms[0]
	term.Compare, term.Center, term.Scale, term.Decay = advantage.WholeBatch, advantage.EMA, advantage.NoScale, 0.95
	return m
}

func hierarchicalGRPO() Method {
	m := outcomeGRPO("hierarchical-grpo")
	term := &m.Advantage.Terms[0]
	term.Compare, term.Scale, term.Singleton = advantage.SameRole, advantage.NoScale, advantage.Zero
	return m
}

func primeRLGRPO() Method {
	m := outcomeGRPO("prime-rl-grpo")
	m.Shape = []shape.Shaper{shape.LengthPenalty{Output: 1, Input: 0.1, Turns: 0.1}}
	m.Advantage.Terms[0].Scale, m.Advantage.Terms[0].Singleton = advantage.NoScale, advantage.Zero
	return m
}

func tdGRPO() Method {
	m := outcomeGRPO("td-grpo")
	m.Advantage.Transforms = []advantage.Transform{advantage.TurnDecay{Decay: 0.9}}
	return m
}

func gapo() Method {
	m := outcomeGRPO("gapo")
	m.Advantage.Terms[0].Center = advantage.TurnWeighted
	return m
}
