package activity

import (
	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// Spec is a config's plan.
func Spec(config configs.Run) runstate.Spec {
	return runstate.Spec{
		WarmSteps: config.WarmStart.Steps, TrainSteps: config.Training.Steps, GroupsPerStep: config.Training.GroupsPerStep,
		Staleness: config.Training.Staleness, EvaluateEvery: config.Evaluation.Every, Pools: config.Sampling.Pools,
	}
}

// Input is what starts the workflow of a run with a resolved config.
func Input(run string, resolved *configs.Resolved) workflows.RunInput {
	limits := resolved.Run.Limits
	return workflows.RunInput{
		Run: run, Method: resolved.Run.Method.Name, Config: string(resolved.YAML()), Spec: Spec(resolved.Run),
		Limits: workflows.Limits{StepTimeout: limits.StepTimeout, HeartbeatTimeout: limits.HeartbeatTimeout, LoopTimeout: limits.LoopTimeout},
	}
}
