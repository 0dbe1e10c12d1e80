package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// inputs are what expressions are made of, one value per packed token unless they say otherwise. A stream is nil when
// the batch has none.
type inputs struct {
	logProbs, proximal, behavior, reference, entropy, advantages, lossWeights *G.Node
	values, oldValues, returns, ceWeights, referenceKLWeights                 *G.Node
	// outcomes and clipHigh are those of the token's sequence.
	outcomes, clipHigh *G.Node
	// age is α of the approximated anchors: how far from the behavior to the current policy the proximal one is.
	age *G.Node

	// anchor is the log-probability that the ratio divides by, and drift the x of the off-policy parts; no gradient flows
	// through them. nil when the program does not look at them.
	anchor, drift *G.Node
	// ratio is ρ and logRatio its logarithm, limited to ±LogRatioBound; nil with ratio one.
	ratio, logRatio *G.Node

	// share is each token's factor in the aggregated loss: its aggregation weight over the
	// denominator of the whole update.
	share *G.Node
	// firstInSequence and firstInTurn are 1 at the first token of each; nil when nothing counts sequences.
	firstInSequence, firstInTurn *G.Node
	// count is the number of packed tokens; perToken, perCEWeight and perReferenceKLWeight are one over the totals
	// of the update. One value each.
	count, perToken, perCEWeight, perReferenceKLWeight *G.Node
	// pairs and rank are what comparisons of sequences need.
	pairs pairInputs
	rank  rankInputs
}

// present says which streams a batch has that programs can do without.
type present struct {
	behavior, entropy, lossWeights, clipHigh bool
}

func presentIn[T element](b kernels.Batch[T]) present {
	return present{behavior: b.Behavior != nil, entropy: b.Entropy != nil, lossWeights: b.LossWeights != nil, clipHigh: b.ClipHigh != nil}
}

// declare makes the nodes of what p reads.
func (c *compiled[T]) declare(b *builder, p kernels.Program, k key) inputs {
	reads := p.Reads()
	stream := func(name string, declared bool, of func(kernels.Batch[T]) []T) *G.Node {
		if !declared {
			return nil
		}
		return c.stream(b, name, k.capacity, of)
	}
	in := inputs{
		logProbs:           stream("log-probabilities", true, func(b kernels.Batch[T]) []T { return b.LogProbs }),
		proximal:           stream("proximal", reads.Has(kernels.ReadsProximal), func(b kernels.Batch[T]) []T { return b.Proximal }),
		behavior:           stream("behavior", k.has.behavior, func(b kernels.Batch[T]) []T { return b.Behavior }),
		reference:          stream("reference", reads.Has(kernels.ReadsReference), func(b kernels.Batch[T]) []T { return b.Reference }),
		entropy:            stream("entropy", k.has.entropy, func(b kernels.Batch[T]) []T { return b.Entropy }),
		advantages:         stream("advantages", reads.Has(kernels.ReadsAdvantages), func(b kernels.Batch[T]) []T { return b.Advantages }),
		lossWeights:        stream("loss weights", k.has.lossWeights, func(b kernels.Batch[T]) []T { return b.LossWeights }),
		values:             stream("values", reads.Has(kernels.ReadsValues), func(b kernels.Batch[T]) []T { return b.Values }),
		oldValues:          stream("old values", reads.Has(kernels.ReadsOldValues), func(b kernels.Batch[T]) []T { return b.OldValues }),
		returns:            stream("returns", reads.Has(kernels.ReadsReturns), func(b kernels.Batch[T]) []T { return b.Returns }),
		ceWeights:          stream("imitation weights", reads.Has(kernels.ReadsCEWeights), func(b kernels.Batch[T]) []T { return b.CEWeights }),
		referenceKLWeights: stream("divergence weights", reads.Has(kernels.ReadsReferenceKLWeights), func(b kernels.Batch[T]) []T { return b.ReferenceKLWeights }),
	}
	for _, variable := range []*G.Node{in.logProbs, in.entropy, in.values} {
		b.varies[variable] = variable != nil
	}
	c.declareSequences(b, p, k, &in)
	c.declareTotals(b, p, k, &in)
	return in
}

// declareSequences makes the nodes of what belongs to sequences.
func (c *compiled[T]) declareSequences(b *builder, p kernels.Program, k key, in *inputs) {
	reads, l := p.Reads(), c.layout
	if reads.Has(kernels.ReadsVersions) {
		in.age = c.filled(b, "age", k.capacity, func(b kernels.Batch[T], _ kernels.Totals, values []T) { fillAge(l, b, values) })
	}
	if reads.Has(kernels.ReadsOutcomes) {
		in.outcomes = c.filled(b, "outcomes", k.capacity, func(b kernels.Batch[T], _ kernels.Totals, values []T) {
			fillSequences(l, b.Offsets, b.Outcomes, values)
		})
	}
	if k.has.clipHigh {
		in.clipHigh = c.filled(b, "clip high", k.capacity, func(b kernels.Batch[T], _ kernels.Totals, values []T) {
			fillSequences(l, b.Offsets, b.ClipHigh, values)
		})
	}
	if reads.Has(kernels.ReadsPairs) {
		in.pairs = c.declarePairs(b, p, k)
	}
	if reads.Has(kernels.ReadsRankScores) {
		in.rank = c.declareRank(b, p, k)
	}
	if p.Scope() == kernels.WholeUpdate {
		in.firstInSequence = c.filled(b, "first in sequence", k.capacity, func(_ kernels.Batch[T], _ kernels.Totals, values []T) {
			markFirst(l.sequences, values)
		})
		in.firstInTurn = c.filled(b, "first in turn", k.capacity, func(_ kernels.Batch[T], _ kernels.Totals, values []T) {
			markFirst(l.turns, values)
		})
	}
}

// declareTotals makes the nodes of the denominators.
func (c *compiled[T]) declareTotals(b *builder, p kernels.Program, k key, in *inputs) {
	in.share = c.share(b, k.capacity)
	in.count = c.single(b, "count", func(kernels.Batch[T], kernels.Totals) T { return T(c.layout.tokens) })
	over := func(name string, total func(kernels.Totals) float64) *G.Node {
		return c.single(b, name, func(_ kernels.Batch[T], totals kernels.Totals) T { return inverse[T](total(totals)) })
	}
	in.perToken = over("per token", func(t kernels.Totals) float64 { return float64(t.Tokens) })
	in.perCEWeight = over("per imitation weight", func(t kernels.Totals) float64 { return t.CEWeight })
	in.perReferenceKLWeight = over("per divergence weight", func(t kernels.Totals) float64 { return t.ReferenceKLWeight })
}

// variables are the streams that the loss of p is differentiated by.
func (c *compiled[T]) variables(p kernels.Program, in inputs) []gradient[T] {
	variables := []gradient[T]{{variable: in.logProbs, into: func(r *kernels.Result[T]) []T { return r.DLogProbs }}}
	for _, term := range p.Regularizers {
		if term.Reads().Has(kernels.ReadsEntropy) {
			variables = append(variables, gradient[T]{variable: in.entropy, into: func(r *kernels.Result[T]) []T { return r.DEntropy }})
		}
		if term.Reads().Has(kernels.ReadsValues) {
			variables = append(variables, gradient[T]{variable: in.values, into: func(r *kernels.Result[T]) []T { return r.DValues }})
		}
	}
	return variables
}

// inverse is 1/x, 0 when x is 0.
func inverse[T element](x float64) T {
	if x == 0 {
		return 0
	}
	return T(1 / x)
}

// fillAge writes α = clip((v_θ − 1 − v_b)/(v_θ − v_b), 0, 1), 0 where v_b ≥ v_θ.
func fillAge[T element](l *layout, b kernels.Batch[T], values []T) {
	for t := range values {
		values[t] = 0
		if age := float64(b.Version) - float64(b.Versions[l.position(int32(t))]); age > 0 {
			values[t] = T(min(max((age-1)/age, 0), 1))
		}
	}
}

// fillSequences writes a sequence stream at every token of its sequence.
func fillSequences[T element](l *layout, offsets []int32, stream, values []T) {
	for i, v := range stream {
		fill(values[l.packed(offsets[i]):l.packed(offsets[i+1])], v)
	}
}

// markFirst writes 1 at the first token of each segment and 0 at the others.
func markFirst[T element](bounds []int32, values []T) {
	clear(values)
	for _, from := range bounds[:len(bounds)-1] {
		values[from] = 1
	}
}
