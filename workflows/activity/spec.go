package activity

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/footprint"
	"github.com/turnwise-rl/turnwise/trainer/policy"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// Spec is a config's plan. Bounds that the config gives in episodes are in groups there.
func Spec(config configs.Run) runstate.Spec {
	training, sampling, failures := config.Training, config.Sampling, config.Failures
	return runstate.Spec{
		WarmSteps: config.WarmStart.Steps, TrainSteps: training.Steps,
		GroupsPerStep: training.GroupsPerStep, GroupSize: training.GroupSize, Staleness: training.Staleness,
		Concurrency: sampling.Concurrency / training.GroupSize,
		// Groups that are down to their last long episodes leave slots free, so a pool has twice as many.
		Pools: sampling.Pools, Slots: max(1, 2*sampling.Slots/training.GroupSize),
		EvaluateEvery: config.Evaluation.Every, CheckpointEvery: config.Checkpoint.Every,
		Failures: runstate.Failures{Retries: failures.Retries, Replacements: failures.Replacements,
			MaxShare: failures.MaxShare, Window: failures.Window},
		StepTimeout: config.Limits.StepTimeout, StallAfter: config.Limits.StallAfter,
	}
}

// Shape is that of the network that a run trains. Where a tokenizer is still to be learnt, its vocabulary is the most
// that it may have. Of a run that starts from a checkpoint it reads config.json.
func Shape(config configs.Run) (policy.Config, error) {
	if config.Policy.From != "" {
		shape, err := policy.ReadConfig(config.Policy.From)
		if err != nil {
			return policy.Config{}, &configs.PathError{Path: "policy.from", Err: err}
		}
		return shape, nil
	}
	shape := config.Policy.Config
	shape.VocabSize = config.Tokenizer.VocabSize
	return shape.Complete(), nil
}

// Needs is what the roles of a run ask the device pool for, given its network's shape: one device each, with
// the memory that the config says, or that is estimated.
func Needs(config configs.Run, shape policy.Config) workflows.Needs {
	asked, estimates := config.Device, footprint.Of(config, shape)
	need := func(said int64, e footprint.Estimate) workflows.Need {
		if said == 0 {
			said = e.Bytes(asked.Leased())
		}
		return workflows.Need{Kind: asked.Leased(), Count: 1, Fast: asked.Kind == configs.CUDA && !asked.Exact, MemoryBytes: said}
	}
	return workflows.Needs{
		Learner: need(asked.LearnerMemory, estimates.Learner), Rollout: need(asked.RolloutMemory, estimates.Rollout),
		Evaluate: need(asked.RolloutMemory, estimates.Evaluate), Queue: asked.Queue, Priority: asked.Priority,
	}
}

// Input is what starts the workflow of a run with a resolved config. The error is that of [Shape].
func Input(run string, resolved *configs.Resolved) (workflows.RunInput, error) {
	shape, err := Shape(resolved.Run)
	if err != nil {
		return workflows.RunInput{}, fmt.Errorf("run %s: %w", run, err)
	}
	return InputOf(run, resolved, shape), nil
}

// InputOf is Input for a network whose shape is known.
func InputOf(run string, resolved *configs.Resolved, shape policy.Config) workflows.RunInput {
	limits := resolved.Run.Limits
	return workflows.RunInput{
		Run: run, Method: resolved.Run.Method.Name, Config: string(resolved.YAML()), Spec: Spec(resolved.Run),
		Limits: workflows.Limits{StepTimeout: limits.StepTimeout, HeartbeatTimeout: limits.HeartbeatTimeout,
			LoopTimeout: limits.LoopTimeout, GiveUpAfter: limits.GiveUpAfter},
		Devices: Needs(resolved.Run, shape),
	}
}
