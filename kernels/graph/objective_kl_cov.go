package graph

import "github.com/turnwise-rl/turnwise/kernels"

// klCov is the surrogate with a penalty on the share of the tokens with the highest covariance:
//
//	L = −Aρ + Coef·|log π − log π_anchor|·[among the highest c]
//
// KL-Cov, arXiv 2505.22617, eq. 12.
func klCov(o kernels.KLCov) objective {
	return func(b *builder, in inputs) terms {
		penalty := b.scale(o.Coef, b.abs(b.sub(in.logProbs, in.anchor)))
		surrogate := b.neg(b.mul(in.advantages, in.ratio))
		return terms{loss: b.add(surrogate, b.mul(b.highest(o.Share, covariance(b, in)), penalty))}
	}
}
