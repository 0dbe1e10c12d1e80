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
	"github.com/turnwise-rl/turnwise/kernels"
)

// validateAdvantage reports terms that are broken or do not fit together.
func (m Method) validateAdvantage() error {
	if len(m.Advantage.Terms) == 0 && (m.Loss.Objective == nil || m.Loss.Reads().Has(kernels.ReadsAdvantages)) {
		return fmt.Errorf("advantage.terms: empty: add at least one term")
	}
	critic := -1
	for j, term := range m.Advantage.Terms {
		path := fmt.Sprintf("advantage.terms[%d]", j)
		if err := m.validateTerm(path, term); err != nil {
			return err
		}
		if !term.ReadsValues() {
			continue
		}
		if critic >= 0 {
			return fmt.Errorf("%s: reads the critic, as advantage.terms[%d] does already, and a critic has one target: keep one of them", path, critic)
		}
		critic = j
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
	for _, check := range []func(string, advantage.Term) error{validateValues, validateComparison, validateCenter, validateNumbers} {
		if err := check(path, t); err != nil {
			return err
		}
	}
	return nil
}

// validateValues reports settings that are unknown.
func validateValues(path string, t advantage.Term) error {
	switch {
	case !slices.Contains(advantage.Centers, t.Center):
		return fmt.Errorf("%s.center: unknown value %q: use one of %v", path, t.Center, advantage.Centers)
	case !slices.Contains(advantage.Scales, t.Scale):
		return fmt.Errorf("%s.scale: unknown value %q: use one of %v", path, t.Scale, advantage.Scales)
	case !slices.Contains(advantage.Singletons, t.Singleton):
		return fmt.Errorf("%s.singleton: unknown value %q: use one of %v", path, t.Singleton, advantage.Singletons)
	case !slices.Contains(advantage.Supports, t.Support):
		return fmt.Errorf("%s.support: unknown value %q: use one of %v", path, t.Support, advantage.Supports)
	}
	return nil
}

// validateComparison reports a comparison set that the scores do not fit into. A term that compares with no set
// may name any.
func validateComparison(path string, t advantage.Term) error {
	var known []string
	var levels []credit.Level
	for _, c := range advantage.Compares {
		known = append(known, string(c.Name))
		if c.Name == t.Compare {
			levels = c.Levels
		}
	}
	level := t.Credit.Level()
	switch {
	case levels == nil:
		return fmt.Errorf("%s.compare: unknown value %q: use one of %s", path, t.Compare, strings.Join(known, ", "))
	case t.Compares() && !slices.Contains(levels, level):
		return fmt.Errorf("%s.compare: %s compares %s scores, but %s.credit.type %s gives one score per %s",
			path, t.Compare, either(levels), path, NameOf(t.Credit), level)
	case t.Singleton == advantage.Drop && level != credit.Trajectory:
		return fmt.Errorf("%s.singleton: drop removes a whole trajectory, but %s.credit.type %s gives one score per %s: use zero or raw",
			path, path, NameOf(t.Credit), level)
	}
	return nil
}

func either(levels []credit.Level) string {
	names := make([]string, len(levels))
	for i, level := range levels {
		names[i] = string(level)
	}
	return strings.Join(names, " or ")
}

// validateCenter reports a centre that does not fit the scores or the scale.
func validateCenter(path string, t advantage.Term) error {
	name := NameOf(t.Credit)
	reader, ok := t.Credit.(credit.ValueReader)
	already := ok && reader.ReadsValues()
	switch {
	case already && t.Center != advantage.NoCenter:
		return fmt.Errorf("%s.center: %s of what %s.credit.type %s has compared with a critic already: set it to none", path, t.Center, path, name)
	case already && t.Scale != advantage.NoScale:
		return fmt.Errorf("%s.scale: %s of what %s.credit.type %s has compared with a critic already: set it to none, or add the transform whiten", path, t.Scale, path, name)
	case !t.Center.Statistical() && t.Center != advantage.NoCenter && t.Scale != advantage.NoScale:
		return fmt.Errorf("%s.scale: %s is of the comparison set, but %s.center %s is not: set it to none, or add the transform whiten", path, t.Scale, path, t.Center)
	case t.Center == advantage.EMA && t.Credit.Level() != credit.Trajectory:
		return fmt.Errorf("%s.center: ema averages trajectories, but %s.credit.type %s gives one score per %s: set credit.type to broadcast",
			path, path, name, t.Credit.Level())
	case t.ReadsValues() && t.Support != advantage.AllTurns:
		return fmt.Errorf("%s.support: %s leaves out tokens that the critic has values of: set it to all", path, t.Support)
	}
	return nil
}

// validateNumbers reports numbers out of range.
func validateNumbers(path string, t advantage.Term) error {
	switch {
	case !(t.Epsilon >= 0) || math.IsInf(t.Epsilon, 0):
		return fmt.Errorf("%s.epsilon: %v must be a finite number, at least 0", path, t.Epsilon)
	case t.Center == advantage.EMA && !(t.Decay >= 0 && t.Decay <= 1):
		return fmt.Errorf("%s.decay: %v is outside [0, 1]", path, t.Decay)
	case math.IsNaN(t.Weight) || math.IsInf(t.Weight, 0):
		return fmt.Errorf("%s.weight: %v is not a finite number", path, t.Weight)
	}
	return nil
}
