package activity

import (
	"github.com/turnwise-rl/turnwise/configs"
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

// Input is what starts the workflow of a run with a resolved config.
func Input(run string, resolved *configs.Resolved) workflows.RunInput {
	limits := resolved.Run.Limits
	return workflows.RunInput{
		Run: run, Method: resolved.Run.Method.Name, Config: string(resolved.YAML()), Spec: Spec(resolved.Run),
		Limits: workflows.Limits{StepTimeout: limits.StepTimeout, HeartbeatTimeout: limits.HeartbeatTimeout,
			LoopTimeout: limits.LoopTimeout, GiveUpAfter: limits.GiveUpAfter},
	}
}
