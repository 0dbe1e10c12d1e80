package kernels

import "fmt"

// BehaviorWeight is decoupled PPO's weight π_p/μ: e^x per token, or e^{mean x} for all tokens of a sequence.
// Outside [Low, High] it is clamped, or the token is dropped. AReaL, arXiv 2505.24298, eq. 5;
// areal/utils/functional/functional.py.
type BehaviorWeight struct {
	// Level is what one weight belongs to: token or sequence-geometric. Default token.
	Level CorrectionLevel `yaml:"level" json:"level" jsonschema:"enum=token,enum=sequence-geometric"`
	// Action is what happens outside the bounds. Default clamp.
	Action BoundAction `yaml:"action" json:"action"`
	// Low and High bound the weight. Default 0 and 5.
	Low  float64 `yaml:"low" json:"low"`
	High float64 `yaml:"high" json:"high"`
}

// BoundAction is what happens to a weight outside its bounds.
type BoundAction string

const (
	ActionClamp BoundAction = "clamp" // it becomes the nearer bound
	ActionMask  BoundAction = "mask"  // it becomes 0
)

// BoundActions lists every action.
var BoundActions = []BoundAction{ActionClamp, ActionMask}

// Scope is one sequence.
func (BehaviorWeight) Scope() Scope { return OneSequence }

// Weighs is true.
func (BehaviorWeight) Weighs() bool { return true }

// Validate reports settings that are unknown or do not fit together.
func (c BehaviorWeight) Validate() error {
	if c.Level != LevelToken && c.Level != LevelSequenceGeometric {
		return fmt.Errorf("level: unknown value %q: use token or sequence-geometric", c.Level)
	}
	if err := oneOf("action", c.Action, BoundActions); err != nil {
		return err
	}
	return validateRatioBounds(c.Low, c.High)
}
