package kernels

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Ratios, Anchors, Objectives, Aggregations and Divergences list every legal value, in the order
// they are documented.
var (
	Ratios       = []Ratio{RatioToken, RatioTurn, RatioSequenceGeometric, RatioSequenceProduct, RatioOne}
	Anchors      = []Anchor{AnchorProximal, AnchorBehavior}
	Objectives   = []Objective{ObjectiveClip, ObjectiveReinforce}
	Aggregations = []Aggregation{TokenMean, SequenceMeanTokenSum, SequenceMeanTokenAvg, SequenceSumConst, StepMean}
	Divergences  = []Divergence{KLNone, KLK1, KLK2, KLK3}
)

// Validate reports the first setting that is unknown, out of range or at odds with another one; the
// error begins with the setting's key. KL may be "", which means none; Anchor may be "" when the
// ratio is one.
func (p Program) Validate() error {
	for _, err := range []error{
		oneOf("ratio", p.Ratio, Ratios),
		oneOf("objective", p.Objective, Objectives),
		oneOf("aggregate", p.Aggregate, Aggregations),
	} {
		if err != nil {
			return err
		}
	}
	if p.Anchor != "" || p.Ratio != RatioOne {
		if err := oneOf("anchor", p.Anchor, Anchors); err != nil {
			return err
		}
	}
	if p.KL != "" {
		if err := oneOf("kl", p.KL, Divergences); err != nil {
			return err
		}
	}
	return p.validateNumbers()
}

func (p Program) validateNumbers() error {
	for _, setting := range []struct {
		key   string
		value float64
	}{
		{"clip_low", p.ClipLow}, {"clip_high", p.ClipHigh}, {"dual_clip", p.DualClip},
		{"aggregate_const", p.AggregateConst}, {"kl_coef", p.KLCoef}, {"entropy_coef", p.EntropyCoef},
	} {
		if math.IsNaN(setting.value) || math.IsInf(setting.value, 0) {
			return fmt.Errorf("%s: %v is not a finite number", setting.key, setting.value)
		}
	}
	switch {
	case p.Objective == ObjectiveClip && (p.ClipLow < 0 || p.ClipLow > 1):
		return fmt.Errorf("clip_low: %v is outside [0, 1]: the ratio is bounded below by 1 − clip_low", p.ClipLow)
	case p.Objective == ObjectiveClip && p.ClipHigh < 0:
		return fmt.Errorf("clip_high: %v is negative: the ratio is bounded above by 1 + clip_high", p.ClipHigh)
	case p.DualClip != 0 && p.DualClip <= 1:
		return fmt.Errorf("dual_clip: %v must be greater than 1, or 0 to turn it off", p.DualClip)
	case p.DualClip != 0 && p.Objective != ObjectiveClip:
		return fmt.Errorf("dual_clip: %v has no effect with objective %s: set it to 0 or objective to clip", p.DualClip, p.Objective)
	case p.Aggregate == SequenceSumConst && p.AggregateConst <= 0:
		return fmt.Errorf("aggregate_const: %v must be positive when aggregate is %s", p.AggregateConst, p.Aggregate)
	case p.KLCoef < 0:
		return fmt.Errorf("kl_coef: %v is negative", p.KLCoef)
	case p.KLCoef != 0 && !p.UsesReference():
		return fmt.Errorf("kl_coef: %v has no effect with kl none: set kl to k1, k2 or k3, or kl_coef to 0", p.KLCoef)
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

// UsesReference is true when the Program reads the reference policy's log-probabilities.
func (p Program) UsesReference() bool { return p.KL != "" && p.KL != KLNone }

// UsesAnchor is true when the Program reads the log-probabilities of its Anchor.
func (p Program) UsesAnchor() bool { return p.Ratio != RatioOne }

// UsesEntropy is true when the loss depends on the policy's entropy.
func (p Program) UsesEntropy() bool { return p.EntropyCoef != 0 }

// String prints the settings that have an effect, in the order of the fields.
func (p Program) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ratio=%s", p.Ratio)
	if p.UsesAnchor() {
		fmt.Fprintf(&b, " anchor=%s", p.Anchor)
	}
	fmt.Fprintf(&b, " objective=%s", p.Objective)
	if p.Objective == ObjectiveClip {
		fmt.Fprintf(&b, " clip_low=%v clip_high=%v", p.ClipLow, p.ClipHigh)
		if p.DualClip != 0 {
			fmt.Fprintf(&b, " dual_clip=%v", p.DualClip)
		}
	}
	fmt.Fprintf(&b, " aggregate=%s", p.Aggregate)
	if p.Aggregate == SequenceSumConst {
		fmt.Fprintf(&b, " aggregate_const=%v", p.AggregateConst)
	}
	if p.UsesReference() {
		fmt.Fprintf(&b, " kl=%s kl_coef=%v", p.KL, p.KLCoef)
	}
	if p.UsesEntropy() {
		fmt.Fprintf(&b, " entropy_coef=%v", p.EntropyCoef)
	}
	return b.String()
}
