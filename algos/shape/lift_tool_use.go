package shape

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// TurnCount says what counts as a turn of a conversation.
type TurnCount string

const (
	CountTurns    TurnCount = "turns"    // the policy's turns
	CountMessages TurnCount = "messages" // the prompt, the policy's turns and the observations between them, as verl counts
)

// LiftToolUse lets a wrong trajectory lose less the more turns it took:
//
//	R = min(Cap, Base + Step·(turns − 2)) where R < Threshold
//
// It wants correct outcomes at or above Threshold and so far below Cap for wrong ones that Cap leaves them
// apart: ±1, as weighted makes them. The released recipe counts messages: prompt and answer are 2, and each
// call adds 2. ReTool recipe, retool/retool.py in verl-recipe.
type LiftToolUse struct {
	// Base is the reward of a wrong trajectory with two turns. Default −1.
	Base float64 `yaml:"base"`
	// Step is added for each further turn. Default 0.05.
	Step float64 `yaml:"step"`
	// Cap is the most that a wrong trajectory gets. Default −0.6.
	Cap float64 `yaml:"cap"`
	// Threshold is the outcome below which a trajectory is wrong. Default 0.
	Threshold float64 `yaml:"threshold"`
	// Count says what counts as a turn. Default turns.
	Count TurnCount `yaml:"count" jsonschema:"enum=turns,enum=messages"`
}

// NewLiftToolUse returns LiftToolUse with its defaults.
func NewLiftToolUse() LiftToolUse {
	return LiftToolUse{Base: -1, Step: 0.05, Cap: -0.6, Threshold: 0, Count: CountTurns}
}

// Validate reports settings that are unknown or out of range.
func (s LiftToolUse) Validate() error {
	return first(fact.Finite("base", s.Base), fact.Finite("step", s.Step), fact.Finite("cap", s.Cap), fact.Finite("threshold", s.Threshold),
		oneOf("count", s.Count, []TurnCount{CountTurns, CountMessages}))
}

// Shape lifts the outcomes.
func (s LiftToolUse) Shape(g *scored.Group) error {
	for _, i := range kept(g) {
		if g.Outcome[i] < s.Threshold {
			g.Outcome[i] = min(s.Cap, s.Base+s.Step*float64(s.turns(&g.Trajectories[i])-2))
		}
	}
	return nil
}

func (s LiftToolUse) turns(t *rollout.Trajectory) int {
	n := len(t.Turns)
	if s.Count == CountMessages && n > 0 {
		return 2 * n // one prompt and n − 1 observations beside the n turns
	}
	return n
}
