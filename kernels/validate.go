package kernels

import (
	"fmt"
	"math"
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
	if err := firstError(
		oneOf("ratio", p.Ratio, Ratios),
		oneOf("ratio_gradient", p.RatioGradient, RatioGradients),
		oneOf("anchor", p.Anchor, Anchors),
		oneOf("rejected", p.Rejected, Rejecteds),
		oneOf("aggregate", p.Aggregate, Aggregations),
		finite("aggregate_const", p.AggregateConst),
		validatePart("objective", p.Objective),
	); err != nil {
		return err
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
	return p.fit()
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

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
