package activity

import (
	"context"
	"slices"

	"github.com/turnwise-rl/turnwise/algos"
	"github.com/turnwise-rl/turnwise/algos/shape"
	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
)

// methodAt is a config's method with the settings that change from step to step as they stand at this one. They
// depend on the config, the step and the manifest of the step before, so that a step made again has the same.
func (s *session) methodAt(ctx context.Context, step int, config configs.Run) (algos.Method, error) {
	method := config.Method
	method.Shape = slices.Clone(method.Shape)
	number, steps := step-config.WarmStart.Steps, config.Training.Steps
	for i, shaper := range method.Shape {
		switch part := shaper.(type) {
		case shape.SigmoidEfficiency:
			if part.Progress == 0 && steps > 1 {
				part.Progress = float64(number-1) / float64(steps-1)
			}
			method.Shape[i] = part
		case shape.KLInReward:
			if part.Target == 0 || number == 1 {
				continue
			}
			before, err := s.run.folder.Manifest(ctx, step-1)
			if err != nil {
				return method, err
			}
			earlier, err := s.settings(ctx, step-1, before.Config)
			if err != nil {
				return method, err
			}
			// A part that was changed meanwhile begins with its own coefficient.
			if charged := before.Rewards.Divergence; charged != nil && slices.Contains(earlier.Method.Shape, shaper) {
				method.Shape[i] = part.Next(charged.Coef, charged.Mean, charged.Trajectories)
			}
		}
	}
	return method, nil
}

// charged is what the method takes off rewards for leaving the reference policy; nil when it takes nothing.
func charged(method algos.Method, groups []rollout.Group) *runfolder.Divergence {
	for _, shaper := range method.Shape {
		if part, ok := shaper.(shape.KLInReward); ok {
			mean, trajectories := part.Divergence(groups)
			return &runfolder.Divergence{Coef: part.Coef, Mean: mean, Trajectories: trajectories}
		}
	}
	return nil
}
