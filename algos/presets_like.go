package algos

import (
	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/kernels"
)

// likePresets are GRPO with the conventions of other trainers, so that a number of theirs can be had here.
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
		{"like-areal", "decoupled PPO as AReaL computes it: advantages normalised over the batch", "areal/trainer/ppo/actor.py", Code, "", likeAReaL},
		{"like-prime-rl", "prime-rl's default: centered rewards, probability mask, squared log-ratio", "src/prime_rl/trainer/rl/loss.py", Code, "", likePrimeRL},
	}
}

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

func likeTRL() Method {
	m := like("like-trl", advantage.SampleStd, 1e-4, advantage.Zero)
	m.Loss.Aggregate = kernels.SequenceMeanTokenAvg
	return m
}

func likeTRLAsync() Method {
	return like("like-trl-async", advantage.PopulationStd, 1e-8, advantage.Zero)
}

func likeOpenRLHF() Method { return like("like-openrlhf", advantage.SampleStd, 1e-9, advantage.Zero) }

func likeNeMo() Method { return like("like-nemo", advantage.SampleStd, 1e-6, advantage.Zero) }

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
