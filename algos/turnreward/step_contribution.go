package turnreward

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// StepContribution rewards every turn before the last by its success and what it contributed, and the last by
// the outcome:
//
//	r_k = Alpha·(SC_k + rewards_k["contribution"] / ContributionScale)    k < K
//	r_K = outcome
//
// SC_k is 1 when turn k has calls and every one of them ran and answered, else 0. The contribution is a
// judge's, 0..ContributionScale, and must be recorded at every turn before the last. An episode that stopped
// early has its outcome at the turn where it stopped. StepTool, arXiv 2410.07745,
// src/reward/annotation_by_rules.ipynb.
type StepContribution struct {
	// Alpha weighs the turns before the last. Default 0.5, which bounds them by the outcome of a solved task.
	Alpha float64 `yaml:"alpha"`
	// ContributionScale is the greatest contribution, 1 for contributions by rule. Default 5.
	ContributionScale float64 `yaml:"contribution_scale"`
	// ReleasedWeights multiplies the reward of turn k by K − k, counting from 1, as the released trainer
	// does, which leaves the outcome a weight of 0. Default false.
	ReleasedWeights bool `yaml:"released_weights"`
}

// NewStepContribution returns StepContribution with its defaults.
func NewStepContribution() StepContribution {
	return StepContribution{Alpha: 0.5, ContributionScale: 5}
}

// Validate reports settings out of range.
func (r StepContribution) Validate() error {
	if err := fact.NotNegative("alpha", r.Alpha); err != nil {
		return err
	}
	return fact.Positive("contribution_scale", r.ContributionScale)
}

// NeedsOutcome is true: the last turn gets it.
func (StepContribution) NeedsOutcome() bool { return true }

// Rewards returns the rewards of every turn.
func (r StepContribution) Rewards(g *scored.Group) ([][]float64, error) {
	out := zeros(g)
	for i := range g.Trajectories {
		if !g.Kept(i) {
			continue
		}
		t := &g.Trajectories[i]
		for k := range t.Turns {
			reward := g.Outcome[i]
			if k < len(t.Turns)-1 {
				var err error
				if reward, err = r.step(t, k); err != nil {
					return nil, err
				}
			}
			if r.ReleasedWeights {
				reward *= float64(len(t.Turns) - 1 - k)
			}
			out[i][k] = reward
		}
	}
	return out, nil
}

// step is the reward of a turn before the last.
func (r StepContribution) step(t *rollout.Trajectory, k int) (float64, error) {
	contribution, err := fact.Reward(t, k, "contribution")
	switch {
	case err != nil:
		return 0, err
	case contribution < 0 || contribution > r.ContributionScale:
		return 0, fmt.Errorf("trajectory %s: turns[%d]: reward \"contribution\" is %v, outside [0, %v]: set turn_reward.contribution_scale to its greatest value",
			t.ID, k, contribution, r.ContributionScale)
	}
	success := 0.0
	if allRan(t.Turns[k].Calls) {
		success = 1
	}
	return r.Alpha * (success + contribution/r.ContributionScale), nil
}

// allRan is true when there are calls and each one ran and answered.
func allRan(calls []rollout.Call) bool {
	for _, call := range calls {
		if call.Status != rollout.CallOK {
			return false
		}
	}
	return len(calls) > 0
}
