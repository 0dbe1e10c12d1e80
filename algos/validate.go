package algos

import (
	"fmt"
	"strings"

	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/algos/turnreward"
)

// validator is a part that can tell whether its own settings make sense. Its errors begin with the
// setting's key.
type validator interface{ Validate() error }

// turnUser is a part that reads or edits turn rewards.
type turnUser interface{ NeedsTurns() bool }

// outcomeUser is a part that reads the outcome.
type outcomeUser interface{ NeedsOutcome() bool }

// Validate reports the first setting that is unknown, out of range or at odds with another part. The
// error begins with the setting's path as in a method file and names the other place too.
func (m Method) Validate() error {
	if err := m.validateRewards(); err != nil {
		return err
	}
	if err := m.validateAdvantage(); err != nil {
		return err
	}
	if err := m.validateParts(); err != nil {
		return err
	}
	if err := m.Loss.Validate(); err != nil {
		return fmt.Errorf("loss.%w", err)
	}
	return m.validateFit()
}

// validateRewards reports rules that give rewards and cannot.
func (m Method) validateRewards() error {
	if m.Outcome != nil {
		if err := validatePart("outcome", m.Outcome); err != nil {
			return err
		}
	}
	if m.TurnReward == nil {
		return nil
	}
	if err := validatePart("turn_reward", m.TurnReward); err != nil {
		return err
	}
	if _, ok := m.TurnReward.(turnreward.OutcomeLast); ok && !m.hasOutcome() {
		return fmt.Errorf("turn_reward.type: outcome_last places the outcome, but outcome.type is none: set outcome.type to verifier or answer_f1")
	}
	return nil
}

// validateParts reports parts of lists that are broken or read rewards that nothing gives. Terms are validated by
// themselves.
func (m Method) validateParts() error {
	var first error
	m.eachPart(func(place string, part any) {
		if first == nil && !strings.HasPrefix(place, "advantage.terms") {
			first = m.validateReader(place, part)
		}
	})
	return first
}

func (m Method) validateReader(place string, part any) error {
	if err := validatePart(place, part); err != nil {
		return err
	}
	if user, ok := part.(turnUser); ok && user.NeedsTurns() && !m.hasTurns() {
		if strings.HasPrefix(place, "shape") {
			return fmt.Errorf("%s.type: %s edits turn rewards, but turn_reward.type is none: set turn_reward.type or remove the shaper", place, NameOf(part))
		}
		return fmt.Errorf("%s.type: %s reads turn rewards, but turn_reward.type is none: set turn_reward.type to one of %s",
			place, NameOf(part), alternatives(turnreward.Table))
	}
	if user, ok := part.(outcomeUser); ok && user.NeedsOutcome() && !m.hasOutcome() {
		return fmt.Errorf("%s.type: %s reads the outcome, but outcome.type is none: set outcome.type to one of %s",
			place, NameOf(part), alternatives(outcome.Table))
	}
	return nil
}

func validatePart(path string, part any) error {
	if part == nil {
		return fmt.Errorf("%s: missing", path)
	}
	if v, ok := part.(validator); ok {
		if err := v.Validate(); err != nil {
			return fmt.Errorf("%s.%w", path, err)
		}
	}
	return nil
}

func (m Method) hasTurns() bool {
	_, none := m.TurnReward.(turnreward.None)
	return m.TurnReward != nil && !none
}

func (m Method) hasOutcome() bool {
	_, none := m.Outcome.(outcome.None)
	return m.Outcome != nil && !none
}
