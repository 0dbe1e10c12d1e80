// Package fact reads what was recorded with a trajectory by name: scores of the whole, rewards of a turn.
//
// Parts of a method ask for a fact and return its error as it is: it names the trajectory, the turn, the fact
// and the fix. The package never fills in a value for what is missing, since a fact nobody recorded is not
// a reward of 0.
package fact

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/turnwise-rl/turnwise/rollout"
)

// Score is the trajectory's recorded score of that name. A score that is missing or not finite is an error.
func Score(t *rollout.Trajectory, name string) (float64, error) {
	return value(t.Scores, name, "score", "trajectory "+t.ID, "the trajectory")
}

// Reward is what the environment recorded under that name at turn k. A reward that is missing or not finite is
// an error.
func Reward(t *rollout.Trajectory, k int, name string) (float64, error) {
	return value(t.Turns[k].Rewards, name, "reward", fmt.Sprintf("trajectory %s: turns[%d]", t.ID, k), "the turn")
}

// RewardIfAny is like [Reward], but tells by found whether the turn has it: for what happens at some turns only.
func RewardIfAny(t *rollout.Trajectory, k int, name string) (reward float64, found bool, err error) {
	if _, found = t.Turns[k].Rewards[name]; !found {
		return 0, false, nil
	}
	reward, err = Reward(t, k, name)
	return reward, true, err
}

// Verdict is the verifier's recorded score of the trajectory. One that is missing or not finite is an error.
func Verdict(t *rollout.Trajectory) (float64, error) {
	switch {
	case t.Outcome == nil:
		return 0, fmt.Errorf("trajectory %s: outcome is null: record a verdict, or let the method compute it with outcome.type answer_f1", t.ID)
	case math.IsNaN(*t.Outcome) || math.IsInf(*t.Outcome, 0):
		return 0, fmt.Errorf("trajectory %s: outcome is %v, want a finite number", t.ID, *t.Outcome)
	}
	return *t.Outcome, nil
}

// Answered is true when turn k is the one in which the policy gave its final answer.
func Answered(t *rollout.Trajectory, k int) bool {
	return k == len(t.Turns)-1 && t.Stop == rollout.StopAnswer
}

// Void is true when turn k holds neither a call that parses nor the final answer.
func Void(t *rollout.Trajectory, k int) bool {
	parses := func(c rollout.Call) bool { return c.Status != rollout.CallUnparsable }
	return !Answered(t, k) && !slices.ContainsFunc(t.Turns[k].Calls, parses)
}

func value(recorded map[string]float64, name, kind, place, owner string) (float64, error) {
	x, ok := recorded[name]
	switch {
	case !ok && len(recorded) == 0:
		return 0, fmt.Errorf("%s: no %s named %q: record it with %s, which has none", place, kind, name, owner)
	case !ok:
		return 0, fmt.Errorf("%s: no %s named %q: record it with %s, which has %s", place, kind, name, owner,
			strings.Join(slices.Sorted(maps.Keys(recorded)), ", "))
	case math.IsNaN(x) || math.IsInf(x, 0):
		return 0, fmt.Errorf("%s: %s %q is %v, want a finite number", place, kind, name, x)
	}
	return x, nil
}

// Trainable is true unless the episode failed for reasons the policy did not cause, was withdrawn, or was
// sampled greedily as a baseline.
func Trainable(t *rollout.Trajectory) bool {
	return t.Stop != rollout.StopToolFailure && t.Stop != rollout.StopCancelled && t.Role != "greedy"
}
