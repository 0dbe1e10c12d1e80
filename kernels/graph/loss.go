package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// outputs are what an evaluation reads.
type outputs struct {
	loss *G.Node
	// Sums over tokens, one value each; nil when not computed.
	ratio, clipped, behaviorK3, referenceKL, entropy *G.Node
}

// objective is a per-token loss: an expression of the ratio and the streams. surrogate is −A·ratio,
// what the loss is where nothing is clipped.
type objective func(b *builder, p kernels.Program, in inputs, ratio *G.Node) (loss, surrogate *G.Node)

// objectiveOf is the table of losses. A new one is a case here and needs no derivative.
func objectiveOf(o kernels.Objective) objective {
	switch o := o.(type) {
	case kernels.Clip:
		return clipObjective(o)
	case kernels.Reinforce:
		return reinforceObjective(o)
	}
	return nil
}

// clipObjective is PPO's clipped surrogate, with dual clip when c = DualClip > 0.
//
//	L = max(−Aρ, −A·clip(ρ, 1−lo, 1+hi));  A < 0 and c > 0: L = min(L, −A·c)
//
// Schulman et al., arXiv 1707.06347, eq. 7; dual clip: Ye et al., arXiv 1912.09729, eq. 5.
func clipObjective(o kernels.Clip) objective {
	return func(b *builder, _ kernels.Program, in inputs, ratio *G.Node) (loss, surrogate *G.Node) {
		minusA := b.neg(in.advantages)
		surrogate = b.mul(minusA, ratio)
		loss = b.max(surrogate, b.mul(minusA, b.clip(ratio, 1-o.ClipLow, 1+o.ClipHigh)))
		if o.DualClip > 0 {
			// Where A ≥ 0 the bound is lifted out of reach: −A·ρ ≤ 0 there and |A|·c is not.
			loss = b.min(loss, b.scale(o.DualClip, b.apply(opAbs, [2]float64{}, in.advantages)))
		}
		return loss, surrogate
	}
}

// reinforceObjective is the score-function loss −sg[ρ]·A·log π; with ratio one, −A·log π. Its gradient
// with respect to log π is −ρA.
//
// Williams 1992; with a ratio: the off-policy policy gradient.
func reinforceObjective(kernels.Reinforce) objective {
	return func(b *builder, p kernels.Program, in inputs, ratio *G.Node) (loss, surrogate *G.Node) {
		weight := b.neg(in.advantages)
		if p.UsesAnchor() {
			weight = b.mul(weight, b.stop(ratio))
		}
		loss = b.mul(weight, in.logProbs)
		return loss, loss
	}
}

// build is the whole loss:
//
//	Σ_t share_t·( w_t·L_t + kl_coef·KL_t − entropy_coef·H_t )
func build(b *builder, p kernels.Program, of objective, in inputs) outputs {
	var out outputs
	ratio := ratioOf(b, p, in)
	token, surrogate := of(b, p, in, ratio)
	if surrogate != token {
		out.clipped = b.total(b.add(b.less(token, surrogate), b.less(surrogate, token)))
	}
	if in.lossWeights != nil {
		token = b.mul(in.lossWeights, token)
	}
	for _, term := range p.Regularizers {
		switch r := term.(type) {
		case kernels.KL:
			kl := divergence(b, r.Estimator, in.logProbs, in.reference)
			out.referenceKL = b.total(kl)
			token = b.add(token, b.scale(r.Coef, kl))
		case kernels.Entropy:
			token = b.sub(token, b.scale(r.Coef, in.entropy))
		}
	}
	out.loss = b.total(b.mul(in.share, token))
	out.ratio = b.total(ratio)
	if in.behavior != nil {
		// KL(behavior‖current) from samples of behavior: the roles of k3's arguments swap.
		out.behaviorK3 = b.total(divergence(b, kernels.KLK3, b.stop(in.behavior), b.stop(in.logProbs)))
	}
	if in.entropy != nil {
		out.entropy = b.total(in.entropy)
	}
	return out
}

// ratioOf compares current and anchor log-probabilities at the Program's granularity. With
// d = log π − log anchor, limited to ±LogRatioBound:
//
//	token: exp(d)    segment: exp(sg[reduce d] + log π − sg[log π])    one: exp(log π − sg[log π])
//
// reduce is the mean (turn, sequence-geometric) or the sum (sequence-product) over the segment's
// sampled tokens. A segment's ratio has the same value at all its tokens, while the gradient of each
// token flows through its own log π only, as in verl's GSPO (arXiv 2507.18071, eq. 14).
func ratioOf(b *builder, p kernels.Program, in inputs) *G.Node {
	through := b.sub(in.logProbs, b.stop(in.logProbs))
	if p.Ratio == kernels.RatioOne {
		return b.exp(through)
	}
	anchor := in.proximal
	if p.Anchor == kernels.AnchorBehavior {
		anchor = in.behavior
	}
	d := b.sub(in.logProbs, anchor)
	switch p.Ratio {
	case kernels.RatioTurn:
		d = b.add(b.stop(b.segmentMean(turns, d)), through)
	case kernels.RatioSequenceGeometric:
		d = b.add(b.stop(b.segmentMean(sequences, d)), through)
	case kernels.RatioSequenceProduct:
		d = b.add(b.stop(b.segmentSum(sequences, d)), through)
	}
	return b.exp(b.clip(d, -kernels.LogRatioBound, kernels.LogRatioBound))
}

// divergence estimates KL(π‖r) at each token from samples of π, with d = log π − log r limited to
// ±LogRatioBound:
//
//	k1 = d    k2 = d²/2    k3 = e^−d + d − 1, limited to ±10
//
// Schulman, "Approximating KL divergence"; limits as in verl's core_algos.py.
func divergence(b *builder, estimator kernels.Divergence, logProbs, reference *G.Node) *G.Node {
	d := b.sub(logProbs, reference)
	switch estimator {
	case kernels.KLK1:
		return d
	case kernels.KLK2:
		return b.scale(0.5, b.square(d))
	}
	d = b.clip(d, -kernels.LogRatioBound, kernels.LogRatioBound)
	k3 := b.shift(b.add(b.exp(b.neg(d)), d), -1)
	return b.clip(k3, -k3Bound, k3Bound)
}

// k3Bound limits the k3 estimate, as verl does.
const k3Bound = 10
