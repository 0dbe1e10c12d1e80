package kernels

import "strings"

// Stream names an optional part of a [Batch]; a set of them is their union.
type Stream uint32

// The streams that a program may need, each named after its field of [Batch]; ReadsTurns and ReadsPairs stand for Turn,
// and for Pair with Chosen.
const (
	ReadsAdvantages Stream = 1 << iota
	ReadsProximal
	ReadsBehavior
	ReadsReference
	ReadsEntropy
	ReadsValues
	ReadsOldValues
	ReadsReturns
	ReadsCEWeights
	ReadsReferenceKLWeights
	ReadsTurns
	ReadsVersions
	ReadsPairs
	ReadsRankScores
	ReadsOutcomes
)

// streamNames are the names of the streams in the batch format, in the order of the constants.
var streamNames = []string{
	"advantages", "proximal", "behavior", "reference", "entropy", "values", "old_values", "returns",
	"ce_weights", "reference_kl_weights", "turn", "versions", "pair", "rank_score", "outcome",
}

// Has is true when every stream of other is in s.
func (s Stream) Has(other Stream) bool { return s&other == other }

// Each calls visit for every stream of the set, in a fixed order.
func (s Stream) Each(visit func(Stream)) {
	for bit := Stream(1); bit != 0 && bit <= s; bit <<= 1 {
		if s&bit != 0 {
			visit(bit)
		}
	}
}

// String lists the streams by their names in the batch format.
func (s Stream) String() string {
	var names []string
	for i, name := range streamNames {
		if s&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// Reads are the streams the Program needs beside the log-probabilities.
func (p Program) Reads() Stream {
	var reads Stream
	if p.Objective != nil {
		reads |= p.Objective.Reads()
	}
	reads |= p.anchorReads()
	if p.Ratio == RatioTurn || p.Aggregate == StepMean {
		reads |= ReadsTurns
	}
	if len(p.OffPolicy) > 0 {
		reads |= ReadsBehavior | p.Anchor.reads()
	}
	for _, mask := range p.Mask {
		reads |= mask.Reads()
	}
	for _, term := range p.Regularizers {
		reads |= term.Reads()
	}
	return reads
}

// anchorReads are the streams the ratio's denominator is made of; none when there is no ratio.
func (p Program) anchorReads() Stream {
	if !p.UsesAnchor() {
		return 0
	}
	return p.Anchor.reads()
}

// reads are the streams an anchor is made of.
func (a Anchor) reads() Stream {
	switch a {
	case AnchorBehavior:
		return ReadsBehavior
	case AnchorLogLinear, AnchorLinear:
		return ReadsBehavior | ReadsVersions
	}
	return ReadsProximal
}

// UsesAnchor is true when the Program compares the current policy with its Anchor.
func (p Program) UsesAnchor() bool { return p.Ratio != RatioOne }

// Scope is which tokens have to be evaluated together.
func (p Program) Scope() Scope {
	scope := OneSequence
	if p.Objective != nil {
		scope = p.Objective.Scope()
	}
	for _, correction := range p.OffPolicy {
		scope = max(scope, correction.Scope())
	}
	for _, mask := range p.Mask {
		scope = max(scope, mask.Scope())
	}
	if p.Rejected == RejectedLeave && (len(p.OffPolicy) > 0 || len(p.Mask) > 0) {
		scope = WholeUpdate
	}
	return scope
}
