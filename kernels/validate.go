package kernels

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
)

// The legal values of a Program's plain settings, in the order they are documented.
var (
	Ratios         = []Ratio{RatioToken, RatioTurn, RatioSequenceGeometric, RatioSequenceProduct, RatioOne}
	RatioGradients = []RatioGradient{GradientOwn, GradientSegment}
	Anchors        = []Anchor{AnchorProximal, AnchorBehavior, AnchorLogLinear, AnchorLinear}
	Rejecteds      = []Rejected{RejectedStay, RejectedLeave}
	Aggregations   = []Aggregation{TokenMean, TokenSum, WeightedMean, SequenceMeanTokenSum, SequenceMeanTokenAvg, SequenceSumConst, StepMean}
)

// validator is a part that can tell whether its own settings make sense. Its errors begin with the
// setting's key.
type validator interface{ Validate() error }

// Validate reports the first setting that is unknown, out of range or at odds with another one; the
// error begins with the setting's path.
func (p Program) Validate() error {
	for _, err := range []error{
		oneOf("ratio", p.Ratio, Ratios),
		oneOf("ratio_gradient", p.RatioGradient, RatioGradients),
		oneOf("anchor", p.Anchor, Anchors),
		oneOf("rejected", p.Rejected, Rejecteds),
		oneOf("aggregate", p.Aggregate, Aggregations),
		finite("aggregate_const", p.AggregateConst),
		validatePart("objective", p.Objective),
	} {
		if err != nil {
			return err
		}
	}
	for i, correction := range p.OffPolicy {
		if err := validatePart(fmt.Sprintf("off_policy[%d]", i), correction); err != nil {
			return err
		}
	}
	for i, mask := range p.Mask {
		if err := validatePart(fmt.Sprintf("mask[%d]", i), mask); err != nil {
			return err
		}
	}
	for i, term := range p.Regularizers {
		if err := validatePart(fmt.Sprintf("regularizers[%d]", i), term); err != nil {
			return err
		}
	}
	return p.validateFit()
}

// validateFit reports parts that do not fit together, naming both places.
func (p Program) validateFit() error {
	name := NameOf(p.Objective)
	switch {
	case p.Aggregate == SequenceSumConst && p.AggregateConst <= 0:
		return fmt.Errorf("aggregate_const: %v must be positive when aggregate is %s", p.AggregateConst, p.Aggregate)
	case !p.Objective.UsesRatio() && p.Ratio != RatioOne:
		return fmt.Errorf("ratio: %s has no effect with objective.type %s: set it to one", p.Ratio, name)
	case !p.Objective.UsesRatio() && len(p.OffPolicy) > 0:
		return fmt.Errorf("off_policy[0]: objective.type %s is not importance-weighted: remove off_policy", name)
	case p.RatioGradient == GradientSegment && (p.Ratio == RatioToken || p.Ratio == RatioOne):
		return fmt.Errorf("ratio_gradient: segment has no segment with ratio %s: set it to own, or ratio to turn or sequence-geometric", p.Ratio)
	}
	switch o := p.Objective.(type) {
	case GMPO:
		if p.Ratio != RatioSequenceGeometric {
			return fmt.Errorf("ratio: %s does not fit objective.type gmpo, a mean over the sequence: set it to sequence-geometric", p.Ratio)
		}
	case Reinforce:
		if o.Tau != 0 && p.Ratio == RatioOne {
			return fmt.Errorf("objective.tau: %v has no effect with ratio one: set it to 0, or ratio to token", o.Tau)
		}
	case DPPO, Distill, DRO:
		if p.Ratio != RatioToken {
			return fmt.Errorf("ratio: %s does not fit objective.type %s, which compares tokens: set it to token", p.Ratio, name)
		}
	case ClipCov, KLCov:
		if p.Ratio != RatioToken {
			return fmt.Errorf("ratio: %s does not fit objective.type %s, which ranks tokens: set it to token", p.Ratio, name)
		}
	case Clip, ClipKeep, CISPO, SAPO, TOPR:
		if p.Ratio == RatioOne {
			return fmt.Errorf("ratio: one leaves objective.type %s nothing to bound: set it to token, or objective.type to reinforce", name)
		}
	}
	return p.validateCorrections()
}

// validateCorrections reports off-policy parts that would count the same drift twice.
func (p Program) validateCorrections() error {
	weighs := -1
	for i, correction := range p.OffPolicy {
		if !correction.Weighs() {
			continue
		}
		path := fmt.Sprintf("off_policy[%d].type", i)
		switch {
		case p.UsesAnchor() && p.Anchor == AnchorBehavior:
			return fmt.Errorf("%s: %s weighs by the drift that anchor %s has in the ratio already: it would count double; set anchor to proximal or remove the part",
				path, NameOf(correction), p.Anchor)
		case weighs >= 0:
			return fmt.Errorf("%s: %s weighs by the drift that off_policy[%d] %s weighs by already: keep one of them",
				path, NameOf(correction), weighs, NameOf(p.OffPolicy[weighs]))
		}
		weighs = i
	}
	for i, term := range p.Regularizers {
		for j := range i {
			if reflect.TypeOf(term) == reflect.TypeOf(p.Regularizers[j]) {
				return fmt.Errorf("regularizers[%d].type: %s is in the list twice, first as regularizers[%d]: keep one", i, NameOf(term), j)
			}
		}
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

func finite(key string, value float64) error {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return fmt.Errorf("%s: %v is not a finite number", key, value)
	}
	return nil
}

func oneOf[S ~string](key string, value S, legal []S) error {
	if slices.Contains(legal, value) {
		return nil
	}
	names := make([]string, len(legal))
	for i, name := range legal {
		names[i] = string(name)
	}
	return fmt.Errorf("%s: unknown value %q: use one of %s", key, value, strings.Join(names, ", "))
}
