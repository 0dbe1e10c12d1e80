package algos

import (
	"github.com/turnwise-rl/turnwise/algos/filter"
	"github.com/turnwise-rl/turnwise/algos/mask"
	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/algos/pair"
	"github.com/turnwise-rl/turnwise/algos/weight"
	"github.com/turnwise-rl/turnwise/kernels"
)

// preferencePresets learn from pairs, from ranks or by imitation.
func preferencePresets() []Preset {
	return []Preset{
		{"dpo", "the best against the worst member of a group", "arXiv 2305.18290; areal/engine", Code, "", dpo},
		{"ipo", "the best against the worst member of a group, at a fixed margin per token", "arXiv 2310.12036; AReaL", Code, "", ipo},
		{"magnet-mdpo", "recorded pairs of trajectories, observations masked; imitate_coef adds imitation of the chosen", "Magnet, arXiv 2503.07826", Memory, "the hints that make the chosen and the rejected trajectory", magnet},
		{"diatool-dpo", "recorded pairs of dialogues, early turns weighing more, normalised by the number of turns", "DiaTool-DPO, arXiv 2504.02882", Reconstructed, "pairing dialogues by their state types: pairs are recorded", diaTool},
		{"trice", "ranks answers by how right they and their tool decisions are, and imitates the best", "TRICE, arXiv 2305.13068; train/train_stage2.py, generate_data/score.py", Code, "whether a task needs a tool and how close a wrong answer is, recorded as the scores tool_needed and closeness", trice},
		{"toolplanner", "ranks solution paths by two feedbacks, and imitates the best", "ToolPlanner, arXiv 2409.14826; toolbench/train/train_RRHF.py", Code, "the feedback that rates completion and instruction match, recorded as the score feedback", toolPlanner},
		{"rrhf", "ranks the members of a group by their rewards, and imitates the best", "arXiv 2304.05302", Memory, "", rrhf},
		{"sft", "imitates every sampled token of every trajectory", "prime-rl trainer/sft", Code, "demonstrations as training data: a run imitates what its policy samples", sft},
		{"rft", "imitates the trajectories that succeeded", "ET-Agent, rejection-sampling fine-tuning", Code, "", rft},
		{"filtered-sft", "imitates trajectories that succeeded without their erroneous turns, which stay as context (AskToAct, ToolMind, DEER, GEM, TOUCAN, Simple o3, TaskCraft, FABRIC, AutoSafe)", "AskToAct, ToolMind and the others named, their papers", Memory, "the pipelines that write and filter the traces", filteredSFT},
		{"tl-training-sft", "imitates calls with more weight on the tokens that tell tools apart (PKT), without turns whose calls failed (MAE)", "TL-Training, code/mae/mae.py, code/pkt/utils.py", Code, "demonstrations as training data, and the token ids of the tools' names, which are the tokenizer's: set weight[0].tools", tlTrainingSFT},
		{"mindflow", "imitates dialogues that carry their reward as a token in the prompt", "MindFlow+ abstract", Reconstructed, "writing the discretised reward into the prompt", mindFlow},
		{"toolprmbench", "imitates the choice of the better of two actions", "ToolPRMBench abstract", Reconstructed, "cases of a good and a bad action at one history", toolPRMBench},
		{"toolprmbench-rl", "GRPO on choosing the better of two actions, with a small reward for format", "ToolPRMBench abstract", Reconstructed, "cases of a good and a bad action at one history", toolPRMBenchRL},
		{"ste", "imitates what trial and error found to work", "Simulated Trial and Error, arXiv 2403.04746", Memory, "exploring each tool with memory, and replay of earlier tools", ste},
		{"tora", "imitates rationales and programs, outputs masked", "ToRA, arXiv 2309.17452", Memory, "corrections of failed prefixes by a teacher", tora},
		{"cat", "imitates trajectories with calls that compress the context (SWE-Compressor)", "CAT abstract", Memory, "the context tool, and trajectories with its calls at milestones", cat},
	}
}

// preference is a method of pairs or ranks: no advantage takes part in its loss.
func preference(name string, rule pair.Rule, objective kernels.Objective) Method {
	m := outcomeGRPO(name)
	m.Pair, m.Advantage = rule, Advantage{}
	m.Loss.Ratio, m.Loss.Objective, m.Loss.Aggregate = kernels.RatioOne, objective, kernels.SequenceMeanTokenSum
	return m
}

func dpo() Method { return preference("dpo", pair.BestWorst{Of: pair.Outcome}, kernels.DPO{Beta: 0.1}) }

func ipo() Method { return preference("ipo", pair.BestWorst{Of: pair.Outcome}, kernels.IPO{Beta: 0.1}) }

func magnet() Method {
	m := preference("magnet-mdpo", pair.Recorded{}, kernels.DPO{Beta: 0.1})
	m.Outcome = outcome.None{}
	return m
}

func diaTool() Method {
	m := preference("diatool-dpo", pair.Recorded{}, kernels.DMPO{Beta: 0.1, Discount: 0.9})
	m.Outcome = outcome.None{}
	return m
}

func trice() Method {
	m := preference("trice", pair.Rank{Of: pair.Outcome}, kernels.Rank{Coef: 100, LengthPower: 1, BestCoef: 1})
	m.Outcome = outcome.NewPreferenceLadder()
	return m
}

func toolPlanner() Method {
	m := preference("toolplanner", pair.Rank{Of: pair.Outcome}, kernels.Rank{Coef: 1, LengthPower: 1, BestCoef: 1})
	m.Outcome = outcome.Score{Score: "feedback"}
	return m
}

func rrhf() Method {
	return preference("rrhf", pair.Rank{Of: pair.Outcome}, kernels.Rank{Coef: 1, LengthPower: 1, BestCoef: 1})
}

// imitation is a method whose loss is cross-entropy, averaged over the loss weights.
func imitation(name string) Method {
	m := outcomeGRPO(name)
	m.Advantage = Advantage{}
	m.Loss.Ratio, m.Loss.Objective, m.Loss.Aggregate = kernels.RatioOne, kernels.CrossEntropy{}, kernels.WeightedMean
	return m
}

func sft() Method {
	m := imitation("sft")
	m.Outcome = outcome.None{}
	return m
}

func rft() Method {
	m := imitation("rft")
	m.Filter = []filter.Rule{filter.Success{Threshold: 0.5}}
	return m
}

func filteredSFT() Method {
	m := rft()
	m.Name, m.Mask = "filtered-sft", []mask.Rule{mask.NewErroneousTurn()}
	return m
}

func tlTrainingSFT() Method {
	m := sft()
	m.Name, m.Mask, m.Weight = "tl-training-sft", []mask.Rule{mask.NewErroneousTurn()}, []weight.Rule{weight.KeyTokens{Max: 9}}
	return m
}

func mindFlow() Method {
	m := sft()
	m.Name = "mindflow"
	return m
}

func toolPRMBench() Method {
	m := rft()
	m.Name = "toolprmbench"
	return m
}

func toolPRMBenchRL() Method {
	m := outcomeGRPO("toolprmbench-rl")
	m.Outcome = outcome.Picked{Format: 0.1}
	return m
}

func ste() Method {
	m := rft()
	m.Name = "ste"
	return m
}

func tora() Method {
	m := rft()
	m.Name = "tora"
	return m
}

func cat() Method {
	m := rft()
	m.Name = "cat"
	return m
}
