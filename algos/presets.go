package algos

import (
	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/algos/pair"
	"github.com/turnwise-rl/turnwise/algos/turnreward"
	"github.com/turnwise-rl/turnwise/kernels"
)

// Pinned says how well a method's definition is known.
type Pinned string

const (
	Code          Pinned = "CODE"          // read in the released source
	CodeThird     Pinned = "CODE-3P"       // read in an independent re-implementation
	Notes         Pinned = "NOTES"         // read in a close reading of the paper
	Memory        Pinned = "MEM"           // standard definition
	Reconstructed Pinned = "RECONSTRUCTED" // the most faithful reading of an abstract; never a reproduction
)

// Preset is a method that comes with the program.
type Preset struct {
	// Name is what --method takes.
	Name string
	// Doc is one line on what the method does.
	Doc string
	// Cite is its source.
	Cite string
	// Pinned says how well the definition is known.
	Pinned Pinned
	// Missing says what the method needs beside credit and loss that the program does not have yet (a
	// sampler, a judge, a simulator); "" when it is whole.
	Missing string
	// New returns the method.
	New func() Method
}

// Presets lists the methods that come with the program.
func Presets() []Preset {
	return []Preset{
		{"matchtir", "turn rewards by matching tool calls to the known solution; half trajectory z-score, half turn-index z-score", "arXiv 2601.10712", Code, "", MatchTIR},
		{"matchtir-ot", "MatchTIR with optimal transport in place of one-to-one matching", "arXiv 2601.10712", Code, "", matchTIRTransport},
		{"gtpo", "discounted turn returns, standardised over all turns of the group", "arXiv 2511.14846", CodeThird, "", gtpo},
		{"gigpo", "group z-score of the outcome plus z-score of turn returns among turns that start in the same state", "arXiv 2505.10978", Code, "", gigpo},
		{"grpo", "group z-score of the outcome", "arXiv 2402.03300", Code, "", GRPO},
		{"dr-grpo", "outcome minus the group mean, losses summed and divided by a constant", "arXiv 2503.20783", Code, "", drGRPO},
		{"rloo", "outcome minus the mean of the other members", "arXiv 2402.14740", Code, "", rloo},
		{"max-rl", "outcome minus the group mean, divided by the group mean", "prime-rl orchestrator/algo max_rl", Code, "", maxRL},
		{"reinforce-pp-baseline", "outcome minus the group mean, whitened over the batch's tokens", "arXiv 2501.03262", Code, "", reinforcePPBaseline},
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

// GRPO is the group z-score of the verifier's outcome (arXiv 2402.03300).
func GRPO() Method {
	return Method{
		Name: "grpo", Outcome: outcome.Verifier{}, TurnReward: turnreward.None{}, Pair: pair.None{},
		Advantage: Advantage{Terms: []advantage.Term{advantage.NewTerm()}}, Loss: DefaultLoss(),
	}
}

func drGRPO() Method {
	m := GRPO()
	m.Name, m.Advantage.Terms[0].Scale = "dr-grpo", advantage.NoScale
	m.Loss.Aggregate, m.Loss.AggregateConst = kernels.SequenceSumConst, 1024
	return m
}

func rloo() Method {
	m := GRPO()
	m.Name = "rloo"
	m.Advantage.Terms[0].Center, m.Advantage.Terms[0].Scale = advantage.LeaveOneOut, advantage.NoScale
	return m
}

func maxRL() Method {
	m := GRPO()
	term := &m.Advantage.Terms[0]
	m.Name, term.Scale, term.Singleton, term.Epsilon = "max-rl", advantage.GroupMean, advantage.Zero, 0
	return m
}

func reinforcePPBaseline() Method {
	m := GRPO()
	m.Name, m.Advantage.Terms[0].Scale = "reinforce-pp-baseline", advantage.NoScale
	m.Advantage.Transforms = []advantage.Transform{advantage.Whiten{Epsilon: 1e-8}}
	return m
}

func gtpo() Method {
	m := GRPO()
	term := &m.Advantage.Terms[0]
	m.Name, m.TurnReward = "gtpo", turnreward.OutcomeLast{BadFormat: -0.1}
	term.Name, term.Credit, term.Compare = "turn", credit.TurnReturn{Discount: 0.9}, advantage.Pooled
	m.Loss.Objective = kernels.Clip{ClipLow: 0.2, ClipHigh: 0.28}
	return m
}

func gigpo() Method {
	m := GRPO()
	episode, step := advantage.NewTerm(), advantage.NewTerm()
	episode.Name, episode.Credit = "episode", credit.Broadcast{Of: credit.Turns}
	step.Name, step.Credit, step.Compare, step.Singleton = "step", credit.TurnReturn{Discount: 0.95}, advantage.SameState, advantage.Zero
	m.Name, m.TurnReward = "gigpo", turnreward.OutcomeLast{}
	m.Advantage.Terms = []advantage.Term{episode, step}
	return m
}
