package trainer

import "github.com/turnwise-rl/turnwise/kernels"

// speaking returns the sequences that move the policy. The others count in every denominator but need not go
// through the network: their advantages and weights are all 0, and nothing of the loss comes of such tokens.
func speaking(batch []Sequence, p kernels.Program) []Sequence {
	if !silencing(p) {
		return batch
	}
	out := make([]Sequence, 0, len(batch))
	for _, s := range batch {
		if s.speaks() {
			out = append(out, s)
		}
	}
	return out
}

// speaks is true when some token has an advantage or a weight.
func (s Sequence) speaks() bool {
	return nonZero(s.Advantage) || nonZero(s.CEWeight) || nonZero(s.ReferenceKLWeight)
}

// silencing is true when nothing comes of tokens without advantage and weights: no part of the loss acts on them by
// itself, and none looks at them for what it does to others.
func silencing(p kernels.Program) bool {
	if !p.Objective.Reads().Has(kernels.ReadsAdvantages) || p.Scope() != kernels.OneSequence {
		return false
	}
	switch objective := p.Objective.(type) {
	case kernels.DRO:
		return false
	case kernels.Reinforce:
		if objective.Tau > 0 {
			return false
		}
	}
	for _, term := range p.Regularizers {
		switch term.(type) {
		case kernels.AuxiliaryCE, kernels.ReferenceKL: // which have weights of their own
		default:
			return false
		}
	}
	return true
}

func nonZero(values []float32) bool {
	for _, v := range values {
		if v != 0 {
			return true
		}
	}
	return false
}
