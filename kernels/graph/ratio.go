package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// compare adds the anchor, the ratio and the drift to the inputs, as far as p looks at them.
func compare(b *builder, p kernels.Program, in *inputs) {
	if p.UsesAnchor() || len(p.OffPolicy) > 0 {
		in.anchor = anchorOf(b, p.Anchor, *in)
	}
	if p.UsesAnchor() {
		in.logRatio = logRatioOf(b, p, *in)
		in.ratio = b.exp(in.logRatio)
	}
	if len(p.OffPolicy) > 0 {
		in.drift = driftOf(b, p.Anchor, *in)
	}
}

// anchorOf is log π_p. With α from the versions,
//
//	loglinear: log μ + α·(log π − log μ)    linear: log((1 − α)·μ + α·π) = log μ + log(1 − α + α·e^{log π − log μ})
//
// areal/utils/functional/functional.py.
func anchorOf(b *builder, anchor kernels.Anchor, in inputs) *G.Node {
	switch anchor {
	case kernels.AnchorProximal:
		return in.proximal
	case kernels.AnchorBehavior:
		return in.behavior
	}
	x := b.sub(b.stop(in.logProbs), in.behavior)
	if anchor == kernels.AnchorLogLinear {
		return b.add(in.behavior, b.mul(in.age, x))
	}
	// Beyond the bound, which keeps e^x finite in single precision, every log-ratio is limited anyway.
	current := b.mul(in.age, b.exp(b.clip(x, -4*kernels.LogRatioBound, 4*kernels.LogRatioBound)))
	return b.add(in.behavior, b.log(b.add(b.not(in.age), current)))
}

// logRatioOf compares current and anchor log-probabilities at the Program's granularity. With
// d = log π − log anchor, limited to ±LogRatioBound in the end:
//
//	token: d    segment, gradient segment: reduce d    segment, gradient own: sg[reduce d] + log π − sg[log π]
//
// reduce is the mean (turn, sequence-geometric) or the sum (sequence-product) over the segment's
// sampled tokens. With gradient own a segment's ratio has the same value at all its tokens, while the gradient of
// each token flows through its own log π only, as in verl's GSPO (arXiv 2507.18071, eq. 14).
func logRatioOf(b *builder, p kernels.Program, in inputs) *G.Node {
	d := b.sub(in.logProbs, in.anchor)
	switch p.Ratio {
	case kernels.RatioTurn:
		d = b.segmentMean(turns, d)
	case kernels.RatioSequenceGeometric:
		d = b.segmentMean(sequences, d)
	case kernels.RatioSequenceProduct:
		d = b.segmentSum(sequences, d)
	}
	if p.Ratio != kernels.RatioToken && p.RatioGradient == kernels.GradientOwn {
		d = b.add(b.stop(d), b.straight(in.logProbs))
	}
	return b.limit(d)
}

// driftOf is x = log π_p − log μ, or log π − log μ where the anchor is the behavior policy.
func driftOf(b *builder, anchor kernels.Anchor, in inputs) *G.Node {
	current := in.anchor
	if anchor == kernels.AnchorBehavior {
		current = b.stop(in.logProbs)
	}
	return b.limit(b.sub(current, in.behavior))
}

// limit bounds a log-ratio before exponentiation.
func (b *builder) limit(x *G.Node) *G.Node {
	return b.clip(x, -kernels.LogRatioBound, kernels.LogRatioBound)
}

// straight is 0 with the gradient of x.
func (b *builder) straight(x *G.Node) *G.Node { return b.sub(x, b.stop(x)) }
