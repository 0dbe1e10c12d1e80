package graph

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// clipCov is clip with loss 0 at a few tokens: of the unclipped ones with Low < c < High, c the covariance, a share of
// all tokens, drawn by lot.
//
// Clip-Cov, arXiv 2505.22617, eq. 11.
func clipCov(o kernels.ClipCov) objective {
	return func(b *builder, in inputs) terms {
		t := clipped(kernels.Clip{ClipLow: o.ClipLow, ClipHigh: o.ClipHigh})(b, in)
		c := covariance(b, in)
		candidate := b.all(b.not(t.clipped), b.above(c, o.Low), b.below(c, o.High))
		released := b.draw(fmt.Sprintf("draw %v seed %d", o.Share, o.Seed), o.Share, o.Lot, candidate)
		t.loss = b.mul(b.not(released), t.loss)
		return t
	}
}

// covariance is c = (A − mean A)(log π − mean log π) at each token, means over the update, without a gradient.
func covariance(b *builder, in inputs) *G.Node {
	center := func(x *G.Node) *G.Node { return b.sub(x, b.average(x, in)) }
	return b.stop(b.mul(center(in.advantages), center(in.logProbs)))
}
