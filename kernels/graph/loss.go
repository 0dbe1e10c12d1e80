package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// outputs are what an evaluation reads, one value each; nil when not computed.
type outputs struct {
	loss *G.Node
	// The others are the metrics.
	kept, clipped, ratio, weight, behaviorK3, referenceKL, entropy, valueError, pairs, ordered *G.Node
}

// build is the whole loss:
//
//	Σ_t share_t·( keep_t·weight_t·w_t·L_t ) + Σ_j regularizer_j
func build(b *builder, p kernels.Program, of objective, in inputs) outputs {
	compare(b, p, &in)
	var out outputs
	r := rejected(b, p, in)
	t := of(b, in)
	sum := objectiveSum(b, p, t, r, in)
	for _, regularizer := range p.Regularizers {
		term := termOf(b, regularizer, in)
		sum.aggregated = b.sum(sum.aggregated, term.aggregated)
		sum.token = b.sum(sum.token, term.averaged)
		out.referenceKL = b.sum(out.referenceKL, term.referenceKL)
		out.valueError = b.sum(out.valueError, term.valueError)
	}
	if sum.aggregated != nil {
		sum.token = b.sum(b.mul(in.share, sum.aggregated), sum.token)
	}
	out.loss = t.whole
	if sum.token != nil {
		out.loss = b.sum(b.total(sum.token), t.whole)
	}
	measure(b, in, r, t, &out)
	return out
}

// summands are the parts of a loss: what is aggregated as the Program says, and what is added up as it is.
type summands struct{ aggregated, token *G.Node }

// objectiveSum is the objective's part. Where rejected tokens leave the denominators, it has a share of its own.
func objectiveSum(b *builder, p kernels.Program, t terms, r rejection, in inputs) summands {
	token := t.loss
	if token == nil {
		return summands{}
	}
	for _, factor := range []*G.Node{r.weight, in.lossWeights} {
		if factor != nil {
			token = b.mul(factor, token)
		}
	}
	if r.keep == nil || p.Rejected != kernels.RejectedLeave {
		return summands{aggregated: token}
	}
	return summands{token: b.mul(shareOfKept(b, p, r.keep, in), token)}
}

// sum is x + y, where nil is nothing.
func (b *builder) sum(x, y *G.Node) *G.Node {
	switch {
	case x == nil:
		return y
	case y == nil:
		return x
	}
	return b.add(x, y)
}

// measure adds the metrics that do not depend on the kind of program.
func measure(b *builder, in inputs, r rejection, t terms, out *outputs) {
	out.kept, out.ratio, out.pairs, out.ordered = in.count, in.count, t.pairs, t.ordered
	if r.keep != nil {
		out.kept = b.total(r.keep)
	}
	out.weight = out.kept
	if r.weighs {
		out.weight = b.total(r.weight)
	}
	if in.ratio != nil {
		out.ratio = b.total(in.ratio)
	}
	if t.clipped != nil {
		out.clipped = b.total(t.clipped)
	}
	if in.behavior != nil {
		// KL(behavior‖current) from samples of behavior: the roles of k3's arguments swap.
		out.behaviorK3 = b.total(divergence(b, kernels.NewKL(), in.behavior, b.stop(in.logProbs)))
	}
	if in.entropy != nil {
		out.entropy = b.total(in.entropy)
	}
}

// sums are the loss and every metric that is computed.
func (o outputs) sums() []sum {
	sums := []sum{{o.loss, nil}}
	for _, s := range []sum{
		{o.kept, func(m *kernels.Metrics) *float64 { return &m.Kept }},
		{o.clipped, func(m *kernels.Metrics) *float64 { return &m.Clipped }},
		{o.ratio, func(m *kernels.Metrics) *float64 { return &m.RatioSum }},
		{o.weight, func(m *kernels.Metrics) *float64 { return &m.WeightSum }},
		{o.behaviorK3, func(m *kernels.Metrics) *float64 { return &m.BehaviorK3Sum }},
		{o.referenceKL, func(m *kernels.Metrics) *float64 { return &m.ReferenceKLSum }},
		{o.entropy, func(m *kernels.Metrics) *float64 { return &m.EntropySum }},
		{o.valueError, func(m *kernels.Metrics) *float64 { return &m.ValueErrorSum }},
		{o.pairs, func(m *kernels.Metrics) *float64 { return &m.Pairs }},
		{o.ordered, func(m *kernels.Metrics) *float64 { return &m.Ordered }},
	} {
		if s.node != nil {
			sums = append(sums, s)
		}
	}
	return sums
}
