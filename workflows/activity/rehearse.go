package activity

import (
	"context"
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/env"
)

// rehearse gives credit to a scripted episode of each environment before anything is trained, so that a method
// which reads what no episode of the run carries is refused in the first second. Environments without
// demonstrations, or whose demonstrations do not fit the limits, are left out.
func (r *run) rehearse(ctx context.Context, arithmetic kernels.Arithmetic) error {
	if r.config.Training.Steps == 0 {
		return nil
	}
	player, seed := r.player(), rollout.Seed(r.config.Seed, demonstrationStream)
	for _, environment := range r.environments {
		if _, ok := environment.(env.Demonstrator); !ok {
			continue
		}
		task := environment.Task(rollout.Train, seed, 0)
		turns, err := demonstrate(environment, task, seed)
		if err != nil {
			continue
		}
		trajectory, err := player.PlayScript(ctx, task, "rehearsal/0", turns)
		if err != nil {
			continue
		}
		group := rollout.Group{ID: "rehearsal", Task: task}
		for i := range r.config.Training.GroupSize {
			group.Trajectories = append(group.Trajectories, asSampled(trajectory, fmt.Sprintf("rehearsal/%d", i)))
		}
		if _, err := r.config.Method.Streams([]rollout.Group{group}, arithmetic); err != nil {
			return lasting(fmt.Errorf("method %s cannot give credit to episodes of %s, tried on a scripted one: %w", r.config.Method.Name, environment.Name(), err))
		}
	}
	return nil
}

// asSampled is a scripted episode with everything that sampling and the learner write on one; the numbers are 0.
func asSampled(t rollout.Trajectory, id string) rollout.Trajectory {
	n := len(t.Tokens)
	t.ID, t.BehaviorLogProbs, t.Versions, t.Entropies = id, make([]float32, n), make([]rollout.Version, n), make([]float32, n)
	t.Values, t.ReferenceLogProbs = make([]float32, n), make([]float32, n)
	return t
}
