package algos

import (
	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/kernels"
)

// likePresets are GRPO with the conventions of other trainers, so that a number of theirs can be had here. What
// GRPO does not show, how returns cross an observation, has presets of its own.
func likePresets() []Preset {
	return []Preset{
		{"like-verl", "GRPO as verl computes it", "verl trainer/ppo/core_algos.py", Code, "", likeVerl},
		{"like-skyrl", "GRPO as SkyRL computes it", "skyrl/backends/skyrl_train/utils/ppo_utils.py", Code, "", likeSkyRL},
		{"like-trl", "GRPO as TRL's synchronous trainer computes it", "trl/trainer/grpo_trainer.py", Code, "", likeTRL},
		{"like-trl-async", "GRPO as TRL's asynchronous trainer computes it", "trl/experimental/async_grpo", Code, "", likeTRLAsync},
		{"like-openrlhf", "GRPO as OpenRLHF computes it", "openrlhf/trainer/ppo_utils/experience_maker.py", Code, "", likeOpenRLHF},
		{"like-nemo", "GRPO as NeMo RL computes it", "nemo_rl/algorithms/grpo.py", Code, "", likeNeMo},
		{"like-slime", "GRPO as slime computes it", "slime/backends/training_utils", Code, "", likeSlime},
		{"like-roll", "GRPO as ROLL computes it", "roll/utils/functionals.py", Code, "", likeROLL},
		{"like-areal", "decoupled PPO as AReaL computes it: advantages normalised over the batch", "areal/trainer/ppo/actor.py", Code, asynchronous, likeAReaL},
		{"like-prime-rl", "prime-rl's default: centered rewards, probability mask, squared log-ratio", "src/prime_rl/trainer/rl/loss.py", Code, asynchronous, likePrimeRL},
		{"like-verl-ppo", "PPO as verl computes it: observations skipped", "verl trainer/ppo/core_algos.py, compute_gae_advantage_return", Code, "", likeVerlPPO},
		{"like-skyrl-ppo", "PPO as SkyRL computes it: observations are time that passes, and their values count", "skyrl/backends/skyrl_train/utils/ppo_utils.py", Code, "", likeSkyRLPPO},
		{"like-openrlhf-ppo", "PPO as OpenRLHF computes it: observations are time that passes, with reward and value 0", "openrlhf/trainer/ppo_utils/experience_maker.py", Code, "", likeOpenRLHFPPO},
		{"like-verl-reinforce-pp", "REINFORCE++ as verl computes it: observations skipped", "verl trainer/ppo/core_algos.py", Code, "", likeVerlReinforcePP},
		{"like-skyrl-reinforce-pp", "REINFORCE++ as SkyRL computes it: an observation cuts the return off", "skyrl/backends/skyrl_train/utils/ppo_utils.py", Code, "", likeSkyRLReinforcePP},
		{"like-slime-reinforce-pp", "REINFORCE++ as slime computes it: observations are time that passes", "slime/backends/training_utils", Code, "", likeSlimeReinforcePP},
	}
}

// asynchronous is what methods miss whose off-policy parts have nothing to do in a run.
const asynchronous = "asynchronous rollouts: in a synchronous run the policies that sample and train are one"

// drift is what methods need that make up for a sampler which is not the policy in training.
const drift = "drift to make up for: with staleness 0 and a sampler that computes as the trainer does there is none"

// like is GRPO with a trainer's conventions for a group: which deviation, what is added to it, and what a
// lone member gets.
func like(name string, std advantage.Scale, epsilon float64, singleton advantage.Singleton) Method {
	m := outcomeGRPO(name)
	term := &m.Advantage.Terms[0]
	term.Scale, term.Epsilon, term.Singleton = std, epsilon, singleton
	return m
}

func likeVerl() Method {
	m := like("like-verl", advantage.SampleStd, 1e-6, advantage.Raw)
	m.Loss.Objective = kernels.Clip{ClipLow: 0.2, ClipHigh: 0.2, DualClip: 3}
	return m
}

func likeSkyRL() Method {
	m := like("like-skyrl", advantage.SampleStd, 1e-6, advantage.Raw)
	m.Loss.Aggregate = kernels.TokenSum
	return m
}

func likeTRL() Method { return trl(like("like-trl", advantage.SampleStd, 1e-4, advantage.Zero)) }

// trl gives a method of one term what TRL's synchronous trainer adds to the deviation and how it averages losses.
func trl(m Method) Method {
	m.Advantage.Terms[0].Epsilon, m.Loss.Aggregate = 1e-4, kernels.SequenceMeanTokenAvg
	return m
}

func likeTRLAsync() Method {
	return like("like-trl-async", advantage.PopulationStd, 1e-8, advantage.Zero)
}

func likeOpenRLHF() Method { return like("like-openrlhf", advantage.SampleStd, 1e-9, advantage.Zero) }

// likeNeMo has NeMo RL's penalty for divergence, the one whose limits are settings there.
func likeNeMo() Method {
	m := like("like-nemo", advantage.SampleStd, 1e-6, advantage.Zero)
	m.Loss.Regularizers = []kernels.Regularizer{kl(0.01)}
	return m
}

func likeSlime() Method { return like("like-slime", advantage.SampleStd, 1e-6, advantage.Zero) }

func likeROLL() Method { return like("like-roll", advantage.SampleStd, 1e-6, advantage.Zero) }

func likeAReaL() Method {
	m := decoupledPPO()
	m.Name = "like-areal"
	m.Advantage.Terms[0].Center, m.Advantage.Terms[0].Scale = advantage.NoCenter, advantage.NoScale
	m.Advantage.Transforms = []advantage.Transform{advantage.NewNormalize()}
	return m
}

func likePrimeRL() Method {
	m := dppo()
	m.Name = "like-prime-rl"
	return m
}

// likePPO is PPO with a trainer's way of crossing observations.
func likePPO(name string, obs kernels.Between) Method {
	return critic(outcomeGRPO(name), credit.GAE{Of: credit.Outcome, Discount: 1, Lambda: 1, ObsTokens: obs})
}

func likeVerlPPO() Method {
	m := likePPO("like-verl-ppo", kernels.BetweenSkip)
	m.Loss.Objective = kernels.Clip{ClipLow: 0.2, ClipHigh: 0.2, DualClip: 3}
	return m
}

func likeSkyRLPPO() Method {
	m := likePPO("like-skyrl-ppo", kernels.BetweenPlain)
	m.Loss.Aggregate = kernels.TokenSum
	return m
}

func likeOpenRLHFPPO() Method { return likePPO("like-openrlhf-ppo", kernels.BetweenZero) }

// likeReinforcePP is REINFORCE++ with a trainer's way of crossing observations, without a divergence in the reward.
func likeReinforcePP(name string, obs kernels.Between) Method {
	m := reinforcePP()
	m.Name, m.Shape = name, nil
	m.Advantage.Terms[0].Credit = credit.TokenReturn{Of: credit.Outcome, Discount: 1, ObsTokens: obs}
	return m
}

func likeVerlReinforcePP() Method {
	return likeReinforcePP("like-verl-reinforce-pp", kernels.BetweenSkip)
}

func likeSkyRLReinforcePP() Method {
	m := likeReinforcePP("like-skyrl-reinforce-pp", kernels.BetweenReset)
	m.Loss.Aggregate = kernels.TokenSum
	return m
}

func likeSlimeReinforcePP() Method {
	return likeReinforcePP("like-slime-reinforce-pp", kernels.BetweenPlain)
}
