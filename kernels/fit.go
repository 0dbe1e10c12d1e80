package kernels

import (
	"fmt"
	"reflect"
)

// fit reports the first two settings that do not fit together, naming both places.
func (p Program) fit() error {
	for _, check := range []func() error{
		p.fitAggregate, p.fitRatio, p.fitObjective, p.fitRatioGradient, p.fitCorrections, p.fitMasks, p.fitOnce,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (p Program) fitAggregate() error {
	switch {
	case p.Aggregate == SequenceSumConst && p.AggregateConst <= 0:
		return fmt.Errorf("aggregate_const: %v must be positive when aggregate is %s", p.AggregateConst, p.Aggregate)
	case p.Rejected != RejectedLeave:
		return nil
	case len(p.OffPolicy) == 0 && len(p.Mask) == 0:
		return fmt.Errorf("rejected: leave has no effect where off_policy and mask are empty and nothing rejects: set it to stay, or add a part")
	case p.Aggregate == TokenSum || p.Aggregate == SequenceSumConst:
		return fmt.Errorf("rejected: leave has no effect with aggregate %s, whose denominator counts no tokens: set it to stay", p.Aggregate)
	}
	return nil
}

// fitRatio reports a ratio that the objective does not use or cannot do without.
func (p Program) fitRatio() error {
	name := NameOf(p.Objective)
	if !p.Objective.UsesRatio() {
		if p.Ratio != RatioOne {
			return fmt.Errorf("ratio: %s has no effect with objective.type %s: set it to one", p.Ratio, name)
		}
		return nil
	}
	switch p.Objective.(type) {
	case GMPO:
		if p.Ratio != RatioSequenceGeometric {
			return fmt.Errorf("ratio: %s does not fit objective.type gmpo, a mean over the sequence: set it to sequence-geometric", p.Ratio)
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
	return nil
}

func (p Program) fitObjective() error {
	if o, ok := p.Objective.(Reinforce); ok && o.Tau != 0 && p.Ratio == RatioOne {
		return fmt.Errorf("objective.tau: %v has no effect with ratio one: set it to 0, or ratio to token", o.Tau)
	}
	return nil
}

// fitRatioGradient reports a gradient through a segment where there is no segment or the ratio is detached.
func (p Program) fitRatioGradient() error {
	if p.RatioGradient != GradientSegment {
		return nil
	}
	if p.Ratio == RatioToken || p.Ratio == RatioOne {
		return fmt.Errorf("ratio_gradient: segment has no segment with ratio %s: set it to own, or ratio to turn or sequence-geometric", p.Ratio)
	}
	switch p.Objective.(type) {
	case Reinforce, CISPO, TOPR:
		return fmt.Errorf("ratio_gradient: segment has no effect with objective.type %s, through whose ratio no gradient flows: set it to own", NameOf(p.Objective))
	case GMPO:
		return fmt.Errorf("ratio_gradient: segment has no effect with objective.type gmpo, whose gradient flows through its mean anyway: set it to own")
	}
	return nil
}

// fitCorrections reports off-policy parts that would count the same drift twice, or that nothing is weighed by.
func (p Program) fitCorrections() error {
	if len(p.OffPolicy) > 0 && !p.Objective.UsesRatio() {
		return fmt.Errorf("off_policy[0]: objective.type %s is not importance-weighted: remove off_policy", NameOf(p.Objective))
	}
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
	return nil
}

// fitMasks reports masks of tokens where the loss is of sequences.
func (p Program) fitMasks() error {
	for i, mask := range p.Mask {
		switch p.Objective.(type) {
		case DPO, IPO, DMPO, Rank:
			return fmt.Errorf("mask[%d].type: %s picks tokens, and objective.type %s compares whole sequences: remove the mask", i, NameOf(mask), NameOf(p.Objective))
		}
		_, byToken := mask.(EntropyQuantile)
		if byToken && (p.Ratio == RatioSequenceGeometric || p.Ratio == RatioSequenceProduct) {
			return fmt.Errorf("mask[%d].type: %s may reject every token of a sequence, while ratio %s is one of all of them: set ratio to token or turn, or remove the mask",
				i, NameOf(mask), p.Ratio)
		}
	}
	return nil
}

// fitOnce reports parts that are listed twice.
func (p Program) fitOnce() error {
	return firstError(twice("off_policy", p.OffPolicy), twice("mask", p.Mask), twice("regularizers", p.Regularizers))
}

func twice[P any](key string, parts []P) error {
	seen := map[any]int{}
	for i, part := range parts {
		var kind any = reflect.TypeOf(part)
		if r, ok := any(part).(Reject); ok {
			kind = Reject{Level: r.Level, Estimator: r.Estimator} // another level or estimator is another rejection
		}
		if first, ok := seen[kind]; ok {
			return fmt.Errorf("%s[%d].type: %s is in the list twice, first as %s[%d]: keep one", key, i, NameOf(part), key, first)
		}
		seen[kind] = i
	}
	return nil
}
