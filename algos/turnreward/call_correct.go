package turnreward

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// Judge says when a call is correct.
type Judge string

const (
	JudgeStatus Judge = "status" // the tool ran and answered
	JudgeGold   Judge = "gold"   // the call equals a gold call by name and arguments
)

// CallCorrect counts the correct calls of a turn and adds the preference for its memory fold:
//
//	r_k = Weight·#{correct calls of turn k} + FoldWeight·rewards_k["fold"]
//
// A turn that folded no memory has no such reward and adds nothing. With judge gold each gold call counts
// once, for the first call that equals it, so that repeating a right call earns nothing; a trajectory with
// calls whose task has no gold calls is an error. A turn without calls gets 0. ToolPO (DeepAgent),
// arXiv 2510.21618: R_act = λ₁ Σ_c 1[call c correct] + λ₂ S_pref; λ₁, λ₂ are unpublished.
type CallCorrect struct {
	// Weight multiplies the number of correct calls: λ₁. Default 1.
	Weight float64 `yaml:"weight"`
	// FoldWeight multiplies the preference for the fold: λ₂. Default 1.
	FoldWeight float64 `yaml:"fold_weight"`
	// Judge says when a call is correct. Default status.
	Judge Judge `yaml:"judge" jsonschema:"enum=status,enum=gold"`
}

// NewCallCorrect returns CallCorrect with its defaults.
func NewCallCorrect() CallCorrect { return CallCorrect{Weight: 1, FoldWeight: 1, Judge: JudgeStatus} }

// Validate reports settings that are unknown or not finite.
func (r CallCorrect) Validate() error {
	if err := fact.Finite("weight", r.Weight); err != nil {
		return err
	}
	if err := fact.Finite("fold_weight", r.FoldWeight); err != nil {
		return err
	}
	if r.Judge != JudgeStatus && r.Judge != JudgeGold {
		return fmt.Errorf("judge: unknown value %q: use status or gold", r.Judge)
	}
	return nil
}

// Rewards returns the rewards of every turn.
func (r CallCorrect) Rewards(g *scored.Group) ([][]float64, error) {
	return eachTurn(g, func(t *rollout.Trajectory) (func(k int) (float64, error), error) {
		correct, err := r.correct(t, g.Task)
		return func(k int) (float64, error) {
			fold, _, err := fact.RewardIfAny(t, k, "fold")
			return r.Weight*float64(correct[k]) + r.FoldWeight*fold, err
		}, err
	})
}

// correct counts the correct calls of each turn.
func (r CallCorrect) correct(t *rollout.Trajectory, task rollout.Task) ([]int, error) {
	if r.Judge == JudgeGold {
		if err := needGoldCalls(t, task); err != nil {
			return nil, err
		}
	}
	out, used := make([]int, len(t.Turns)), make([]bool, len(task.Gold.Calls))
	for k, turn := range t.Turns {
		for _, call := range turn.Calls {
			if r.Judge == JudgeStatus && call.Status == rollout.CallOK || r.Judge == JudgeGold && useUp(call, task.Gold.Calls, used) {
				out[k]++
			}
		}
	}
	return out, nil
}

// useUp marks the first gold call that the call equals and nothing has used, and reports whether there is one.
func useUp(call rollout.Call, gold []rollout.GoldCall, used []bool) bool {
	for j, want := range gold {
		if !used[j] && Similarity(call, want) == 1 {
			used[j] = true
			return true
		}
	}
	return false
}

// needGoldCalls reports a trajectory with calls that there is nothing to compare with.
func needGoldCalls(t *rollout.Trajectory, task rollout.Task) error {
	for k, turn := range t.Turns {
		if len(turn.Calls) > 0 && len(task.Gold.Calls) == 0 {
			return fmt.Errorf("trajectory %s: turns[%d]: has calls, but task %s has no gold calls to compare them with: record gold.calls with the task",
				t.ID, k, task.ID)
		}
	}
	return nil
}
