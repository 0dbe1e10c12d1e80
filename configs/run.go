package configs

import (
	"errors"
	"time"

	"github.com/turnwise-rl/turnwise/algos"
	"github.com/turnwise-rl/turnwise/rollout/env"
	"github.com/turnwise-rl/turnwise/rollout/tool"
	"github.com/turnwise-rl/turnwise/trainer/optim"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// Run is a training run, complete and validated.
type Run struct {
	// Name is the run's name for people, which its id begins with: lower-case letters, digits and
	// hyphens.
	Name string `yaml:"name"`
	// Seed decides everything drawn at random: weights, tasks, demonstrations and sampling.
	Seed uint64 `yaml:"seed"`
	// Method is how credit and the loss are computed: a preset's name, a preset and edits to it, or
	// all parts in full.
	Method algos.Method `yaml:"method"`
	// Environments are where tasks come from, each at most once.
	Environments []Environment `yaml:"environments" jsonschema:"minItems=1"`
	// Tokenizer is how text becomes tokens.
	Tokenizer Tokenizer `yaml:"tokenizer"`
	// Policy is the network that is trained.
	Policy Policy `yaml:"policy"`
	// Optimizer is how gradients become updates.
	Optimizer optim.Config `yaml:"optimizer"`
	// WarmStart is supervised imitation of scripted demonstrations, before reinforcement learning.
	WarmStart WarmStart `yaml:"warm_start"`
	// Training is reinforcement learning: how many steps, and what each step trains on.
	Training Training `yaml:"training"`
	// Sampling is how episodes are played.
	Sampling Sampling `yaml:"sampling"`
	// Evaluation is how success on held-out tasks is measured.
	Evaluation Evaluation `yaml:"evaluation"`
	// Checkpoint is how often the learner's whole state is written.
	Checkpoint Checkpoint `yaml:"checkpoint"`
	// Failures are how failed rollouts are made good, and how many the run bears.
	Failures Failures `yaml:"failures"`
	// Limits are how long the run waits before it calls something broken.
	Limits Limits `yaml:"limits"`
	// Device is what the run computes on, and whose share of the devices its roles count against.
	Device Device `yaml:"device"`
}

// Environment is one source of tasks; the type key selects which, and its settings lie beside it.
type Environment struct {
	// Settings are the environment's own settings; their type is a variant of [env.Table].
	Settings env.Config `yaml:",inline"`
	// Weight is the environment's share of the training tasks, relative to the other weights.
	Weight float64 `yaml:"weight" jsonschema:"exclusiveMinimum=0"`
}

// Type is the environment's name in configs, task ids and metrics.
func (e Environment) Type() string { return environments().nameOfValue(e.Settings) }

// Policy is the network that is trained: its shape and what of it is trained.
type Policy struct {
	// From is the folder of a checkpoint in Hugging Face layout that the run starts from. It then decides
	// the shape, the tokenizer and the chat template, so that neither the shape nor tokenizer may be set
	// beside it. A relative path starts at the file that says it, that of an override where the program
	// runs. Empty starts from random weights.
	From string `yaml:"from"`
	// ToolFormat is how the policy writes calls and answers. auto is what the checkpoint's chat template
	// asks for, and plain for a policy that starts from random weights, which writes no other.
	ToolFormat    tool.FormatName `yaml:"tool_format"`
	policy.Config `yaml:",inline"`
	// Recompute keeps less between the forward and the backward pass, which computes it again: less
	// memory for nearly a second forward pass, and the same weights to the last bit.
	Recompute bool `yaml:"recompute"`
	// Stored is the type in which the learner keeps matrices between steps: f32, or bf16 for a policy that computes in
	// bf16 (device.precision). bf16 keeps them once, in a third of the memory, and each step rounds them at random to one of the two
	// nearest numbers, so that small changes count on average. A cpu, which computes in f32, keeps and rounds the same numbers, in as much
	// memory as f32. It excludes lora. Norms, biases, gradients and the
	// optimizer's state are float32 either way, and so are files.
	Stored Precision `yaml:"stored" jsonschema:"enum=f32,enum=bf16"`
	// LoRA trains low-rank adapters and leaves the network as it is. Rank 0 trains every weight.
	LoRA policy.LoRA `yaml:"lora"`
}

// Validate reports every field that is out of range.
func (p Policy) Validate() error {
	return errors.Join(p.Config.Validate(), p.LoRA.Validate())
}

// Tokenizer is how text becomes tokens.
type Tokenizer struct {
	// VocabSize is the most token ids the tokenizer may learn: 256 bytes, the special tokens, and
	// merges learned from the environments' texts.
	VocabSize int `yaml:"vocab_size" jsonschema:"minimum=261,maximum=1000000"`
}

// WarmStart is supervised imitation of scripted demonstrations.
type WarmStart struct {
	// Steps is how many committed steps the warm start takes; 0 skips it.
	Steps int `yaml:"steps" jsonschema:"minimum=0"`
	// UpdatesPerStep is how many optimizer updates one step makes.
	UpdatesPerStep int `yaml:"updates_per_step" jsonschema:"minimum=1"`
	// Demonstrations is how many scripted episodes there are to imitate, over all environments.
	Demonstrations int `yaml:"demonstrations" jsonschema:"minimum=1"`
	// BatchSize is how many demonstrations one update imitates.
	BatchSize int `yaml:"batch_size" jsonschema:"minimum=1"`
	// LearningRate is the optimizer's rate during the warm start.
	LearningRate float64 `yaml:"learning_rate" jsonschema:"exclusiveMinimum=0"`
}

// Training is reinforcement learning.
type Training struct {
	// Steps is how many committed steps reinforcement learning takes; 0 skips it.
	Steps int `yaml:"steps" jsonschema:"minimum=0"`
	// GroupsPerStep is how many groups one step trains on.
	GroupsPerStep int `yaml:"groups_per_step" jsonschema:"minimum=1"`
	// GroupSize is how many trajectories of one task form a group.
	GroupSize int `yaml:"group_size" jsonschema:"minimum=1"`
	// LearningRateEnd is the share of optimizer.learning_rate that is left at the last step; the rate
	// falls linearly. 1 keeps it constant.
	LearningRateEnd float64 `yaml:"learning_rate_end" jsonschema:"minimum=0,maximum=1"`
	// Minibatches is how many optimizer updates one step makes, each on an equal part of its batch.
	Minibatches int `yaml:"minibatches" jsonschema:"minimum=1"`
	// MicroBatchTokens bounds the tokens of one forward and backward pass, which bounds memory. It
	// does not change the loss.
	MicroBatchTokens int `yaml:"micro_batch_tokens" jsonschema:"minimum=1"`
	// Staleness bounds version trained − oldest version that sampled a trained token, the time a group
	// waits for its step included. 0 is synchronous and deterministic, 1 is one step off: rollouts of the
	// next step overlap with training. Above 0, an importance-weighted loss that reads nothing of the
	// policies that sampled gets the decoupled objective's behavior_weight as its method.loss.off_policy.
	Staleness int `yaml:"staleness" jsonschema:"minimum=0"`
}

// Sampling is how episodes are played.
type Sampling struct {
	// Temperature divides the logits of training episodes before a token is drawn: 0.001 to 1000.
	Temperature float64 `yaml:"temperature" jsonschema:"exclusiveMinimum=0"`
	// TopK keeps the so many likeliest tokens, in training episodes; 0 keeps all. Log-probabilities are
	// those before any cut.
	TopK int `yaml:"top_k" jsonschema:"minimum=0"`
	// TopP then keeps the fewest likeliest tokens that have this share of the probability; 1 keeps all.
	TopP float64 `yaml:"top_p" jsonschema:"minimum=0.000001,maximum=1"`
	// MinP then keeps tokens at least this many times as likely as the likeliest; 0 keeps all.
	MinP float64 `yaml:"min_p" jsonschema:"minimum=0,maximum=1"`
	// MaxTurns is the most turns an episode may have.
	MaxTurns int `yaml:"max_turns" jsonschema:"minimum=1"`
	// MaxTurnTokens is the most tokens the policy may sample in one turn.
	MaxTurnTokens int `yaml:"max_turn_tokens" jsonschema:"minimum=1"`
	// MaxTokens is the most tokens an episode may have, prompt and observations included.
	MaxTokens int `yaml:"max_tokens" jsonschema:"minimum=1"`
	// Slots is how many episodes one pool keeps in flight.
	Slots int `yaml:"slots" jsonschema:"minimum=1"`
	// CacheBytes is the memory of one pool's cached keys and values; 0 is enough for slots episodes of
	// max_tokens. With less, episodes wait for each other and sampling is the same.
	CacheBytes int64 `yaml:"cache_bytes" jsonschema:"minimum=0"`
	// Pools is how many rollout loops share the groups. Each is held by one rollout worker at a time.
	Pools int `yaml:"pools" jsonschema:"minimum=1"`
	// Concurrency is the most episodes in flight over all pools; a group starts when all its episodes
	// may. 0 sets no bound beside slots × pools.
	Concurrency int `yaml:"concurrency" jsonschema:"minimum=0"`
	// NewWeights is what a pool does with a new policy version while episodes are in flight: in_flight
	// samples their next tokens with it, and each token carries the version that sampled it; drain lets
	// them end first.
	NewWeights NewWeights `yaml:"new_weights" jsonschema:"enum=in_flight,enum=drain"`
}

// NewWeights is what happens to the episodes in flight when a new policy version comes.
type NewWeights string

const (
	// WeightsInFlight goes on with the new version at once.
	WeightsInFlight NewWeights = "in_flight"
	// WeightsDrain ends the episodes in flight with the version that began them.
	WeightsDrain NewWeights = "drain"
)

// Evaluation is how success on held-out tasks is measured.
type Evaluation struct {
	// Tasks is how many held-out tasks of each environment are played.
	Tasks int `yaml:"tasks" jsonschema:"minimum=1"`
	// Every evaluates after every so many reinforcement steps; 0 only before the first and after the
	// last.
	Every int `yaml:"every" jsonschema:"minimum=0"`
	// Temperature divides the logits of evaluation episodes; 0 takes the likeliest token, others are 0.001
	// to 1000.
	Temperature float64 `yaml:"temperature" jsonschema:"minimum=0"`
}

// Checkpoint is how often the learner's whole state is written. Between checkpoints a restart
// replays the recorded batches, so nothing is lost either way.
type Checkpoint struct {
	// Every writes a checkpoint after every so many steps.
	Every int `yaml:"every" jsonschema:"minimum=1"`
	// Keep is how many of the newest checkpoints stay.
	Keep int `yaml:"keep" jsonschema:"minimum=1"`
	// KeepTurns keeps the records of finished turns for as long as the run's folder. Without it they go
	// once every group they belong to is dropped, or trained by a step that a checkpoint covers.
	KeepTurns bool `yaml:"keep_turns"`
}

// Failures are how failed rollouts are made good, and how many the run bears. A failed rollout is
// never a reward of 0: it is tried again, replaced, or its group is dropped and counted.
type Failures struct {
	// Retries is how often one member of a group is tried again with the same seed.
	Retries int `yaml:"retries" jsonschema:"minimum=0,maximum=100"`
	// Replacements is how many members of a group are made anew, with other seeds, after their retries;
	// the group is dropped when that is not enough.
	Replacements int `yaml:"replacements" jsonschema:"minimum=0,maximum=100"`
	// MaxShare is the share of the last attempts that may fail. Above it the run starts no new groups,
	// says so, and goes on when it is resumed.
	MaxShare float64 `yaml:"max_share" jsonschema:"exclusiveMinimum=0,maximum=1"`
	// Window is how many of the last attempts max_share looks at.
	Window int `yaml:"window" jsonschema:"minimum=8,maximum=4096"`
}

// Limits are how long the run waits before it calls something broken. Nothing waits for ever: each of
// them is finite.
type Limits struct {
	// ToolTimeout bounds one tool call.
	ToolTimeout time.Duration `yaml:"tool_timeout" jsonschema:"typical=10s,longest=720h"`
	// EpisodeTimeout bounds one attempt at an episode, all its turns and tool calls together.
	EpisodeTimeout time.Duration `yaml:"episode_timeout" jsonschema:"typical=30m,longest=720h"`
	// StepTimeout bounds one attempt at preparing, training or evaluating. Once steps were measured, a
	// shorter time that derives from theirs holds.
	StepTimeout time.Duration `yaml:"step_timeout" jsonschema:"typical=1h,longest=720h"`
	// HeartbeatTimeout is how long a worker may be silent about a piece of work before it is given out again:
	// to the same worker, or to another one once its device agent has been silent too.
	HeartbeatTimeout time.Duration `yaml:"heartbeat_timeout" jsonschema:"typical=10s,longest=720h"`
	// LoopTimeout bounds one tenure of a rollout loop, which hands over to the next after half of it.
	LoopTimeout time.Duration `yaml:"loop_timeout" jsonschema:"typical=1h,longest=2h"`
	// StallAfter bounds how long the run may make no progress before it says that it stalls, what it
	// waits for and what would help. Once progress was measured, a shorter time that derives from it
	// holds.
	StallAfter time.Duration `yaml:"stall_after" jsonschema:"typical=10m,longest=720h"`
	// GiveUpAfter is how long one piece of work is tried again before the run fails.
	GiveUpAfter time.Duration `yaml:"give_up_after" jsonschema:"typical=24h,longest=720h"`
}

// Device is what a run computes on, and what its roles ask the device pool for. A role works on a device that it
// has a lease of, and waits for one as long as that takes.
type Device struct {
	// Kind is what the policy is trained and sampled on: cpu is the processors and the memory of a machine, cuda
	// an NVIDIA GPU or an instance of one, under NVIDIA's driver.
	Kind DeviceKind `yaml:"kind" jsonschema:"enum=cpu,enum=cuda"`
	// Exact computes each token alike whatever is computed beside it, so that log-probabilities of the sampler and
	// the learner agree to the last bit. cpu always does. cuda does with kernels of its own, which are slower than
	// those of cuBLASLt; without exact it repeats a run's results, and the gap between sampler and learner is measured.
	Exact bool `yaml:"exact"`
	// Precision is what activations and matrix products are computed in. Weights, gradients, the optimizer's state
	// and log-probabilities are float32 either way. bf16 takes cuda. A run that says nothing gets f32 on cpu and
	// bf16 on cuda.
	Precision Precision `yaml:"precision" jsonschema:"enum=f32,enum=bf16"`
	// Queue is whose share the run's devices count against: lower-case letters, digits and hyphens. Its
	// quota and weight are set with turnwise gpu queue; a queue without either has no bound and weight 1.
	Queue string `yaml:"queue"`
	// Priority orders runs that wait for the same devices: 1 comes first. A run may have the devices of rollout
	// workers, and then of learners, with a larger number, which yield at their next safe point.
	Priority int `yaml:"priority" jsonschema:"minimum=1,maximum=5"`
	// LearnerMemory is how many bytes of its device the learner needs; 0 estimates them from the policy's
	// shape and how it is trained, as turnwise plan shows.
	LearnerMemory int64 `yaml:"learner_memory" jsonschema:"minimum=0"`
	// RolloutMemory is how many bytes of its device one pool needs, and so does an evaluation; 0 estimates
	// them from the policy's shape and the cache, as turnwise plan shows.
	RolloutMemory int64 `yaml:"rollout_memory" jsonschema:"minimum=0"`
}

// Default returns the values of everything a run does not set. They are sized for the small policy
// on two CPU cores. There is no default environment: a run says what it trains on.
func Default() Run {
	run := Run{
		Name:      "run",
		Seed:      1,
		Method:    algos.GRPO(),
		Tokenizer: Tokenizer{VocabSize: 512},
		Policy:    Policy{ToolFormat: tool.Auto, Config: policy.DefaultConfig(), Stored: F32},
		Optimizer: optim.DefaultConfig(),
		WarmStart: WarmStart{Steps: 10, UpdatesPerStep: 20, Demonstrations: 512, BatchSize: 32, LearningRate: 1e-3},
		Training:  Training{Steps: 100, GroupsPerStep: 32, GroupSize: 8, LearningRateEnd: 1, Minibatches: 1, MicroBatchTokens: 4096},
		Sampling:  Sampling{Temperature: 1, TopP: 1, MaxTurns: 8, MaxTurnTokens: 64, MaxTokens: 512, Slots: 64, Pools: 1, NewWeights: WeightsInFlight},
		// 128 tasks put the standard error of a success rate under 4.5 points.
		Evaluation: Evaluation{Tasks: 128, Every: 20},
		Checkpoint: Checkpoint{Every: 10, Keep: 2},
		// Half of 64 attempts tells a broken environment from a hard one: with one failure in four, a window
		// above it comes less than once in 100,000.
		Failures: Failures{Retries: 2, Replacements: 2, MaxShare: 0.5, Window: 64},
		Limits: Limits{
			ToolTimeout: 10 * time.Second, EpisodeTimeout: 30 * time.Minute,
			StepTimeout: time.Hour, HeartbeatTimeout: 10 * time.Second, LoopTimeout: time.Hour,
			StallAfter: 10 * time.Minute, GiveUpAfter: 24 * time.Hour,
		},
		// Between the ends, so that there is room before and after a run that says nothing.
		Device: Device{Kind: CPU, Precision: F32, Queue: "default", Priority: 3},
	}
	run.Policy.VocabSize = run.Tokenizer.VocabSize
	return run
}
