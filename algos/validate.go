package algos

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/algos/turnreward"
)

// validator is a part that can tell whether its own settings make sense. Its errors begin with the
// setting's key.
type validator interface{ Validate() error }

// turnUser is a shaper that edits turn rewards.
type turnUser interface{ NeedsTurns() bool }

// Validate reports the first setting that is unknown, out of range or at odds with another part. The
// error begins with the setting's path as in a method file and names the other place too.
func (m Method) Validate() error {
	if err := m.validateRewards(); err != nil {
		return err
	}
	if len(m.Advantage.Terms) == 0 {
		return fmt.Errorf("advantage.terms: empty: add at least one term")
	}
	for j, term := range m.Advantage.Terms {
		if err := m.validateTerm(fmt.Sprintf("advantage.terms[%d]", j), term); err != nil {
			return err
		}
	}
	for j, transform := range m.Advantage.Transforms {
		if err := validatePart(fmt.Sprintf("advantage.transforms[%d]", j), transform); err != nil {
			return err
		}
	}
	if err := m.Loss.Validate(); err != nil {
		return fmt.Errorf("loss.%w", err)
	}
	return nil
}

func (m Method) validateRewards() error {
	if m.Outcome != nil {
		if err := validatePart("outcome", m.Outcome); err != nil {
			return err
		}
	}
	if m.TurnReward != nil {
		if err := validatePart("turn_reward", m.TurnReward); err != nil {
			return err
		}
	}
	if _, ok := m.TurnReward.(turnreward.OutcomeLast); ok && !m.hasOutcome() {
		return fmt.Errorf("turn_reward.type: outcome_last places the outcome, but outcome.type is none: set outcome.type to verifier or answer_f1")
	}
	for j, shaper := range m.Shape {
		path := fmt.Sprintf("shape[%d]", j)
		if err := validatePart(path, shaper); err != nil {
			return err
		}
		if user, ok := shaper.(turnUser); ok && user.NeedsTurns() && !m.hasTurns() {
			return fmt.Errorf("%s.type: %s edits turn rewards, but turn_reward.type is none: set turn_reward.type or remove the shaper", path, NameOf(shaper))
		}
	}
	for j, rule := range m.Filter {
		if err := validatePart(fmt.Sprintf("filter[%d]", j), rule); err != nil {
			return err
		}
	}
	return nil
}

func (m Method) validateTerm(path string, t advantage.Term) error {
	if t.Credit == nil {
		return fmt.Errorf("%s.credit: missing: set its type to one of %s", path, alternatives(credit.Table))
	}
	if err := validatePart(path+".credit", t.Credit); err != nil {
		return err
	}
	if t.Credit.NeedsTurns() && !m.hasTurns() {
		return fmt.Errorf("%s.credit: %s needs turn rewards, but turn_reward.type is none: set turn_reward.type to one of %s",
			path, NameOf(t.Credit), alternatives(turnreward.Table))
	}
	if t.Credit.NeedsOutcome() && !m.hasOutcome() {
		return fmt.Errorf("%s.credit: %s needs the outcome, but outcome.type is none: set outcome.type to one of %s",
			path, NameOf(t.Credit), alternatives(outcome.Table))
	}
	return validateComparison(path, t)
}

func validateComparison(path string, t advantage.Term) error {
	var known []string
	level, found := credit.Level(""), false
	for _, c := range advantage.Compares {
		known = append(known, string(c.Name))
		if c.Name == t.Compare {
			level, found = c.Level, true
		}
	}
	switch {
	case !found:
		return fmt.Errorf("%s.compare: unknown value %q: use one of %s", path, t.Compare, strings.Join(known, ", "))
	case level != "" && level != t.Credit.Level():
		return fmt.Errorf("%s.compare: %s compares %s scores, but %s.credit.type %s gives one score per %s",
			path, t.Compare, level, path, NameOf(t.Credit), t.Credit.Level())
	case !slices.Contains(advantage.Centers, t.Center):
		return fmt.Errorf("%s.center: unknown value %q: use one of %v", path, t.Center, advantage.Centers)
	case !slices.Contains(advantage.Scales, t.Scale):
		return fmt.Errorf("%s.scale: unknown value %q: use one of %v", path, t.Scale, advantage.Scales)
	case !slices.Contains(advantage.Singletons, t.Singleton):
		return fmt.Errorf("%s.singleton: unknown value %q: use one of %v", path, t.Singleton, advantage.Singletons)
	case t.Singleton == advantage.Drop && t.Credit.Level() != credit.Trajectory:
		return fmt.Errorf("%s.singleton: drop removes a whole trajectory, but %s.credit.type %s gives one score per %s: use zero or raw",
			path, path, NameOf(t.Credit), t.Credit.Level())
	case !(t.Epsilon >= 0) || math.IsInf(t.Epsilon, 0):
		return fmt.Errorf("%s.epsilon: %v must be a finite number, at least 0", path, t.Epsilon)
	case math.IsNaN(t.Weight) || math.IsInf(t.Weight, 0):
		return fmt.Errorf("%s.weight: %v is not a finite number", path, t.Weight)
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
