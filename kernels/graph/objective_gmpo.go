package graph

import "github.com/turnwise-rl/turnwise/kernels"

// gmpo is the geometric mean over the sequence of ratios clipped one by one, s the sign of A:
//
//	d̂_t = s·min(s·d_t, s·clip(d_t, −lo, hi)),  L = −A·exp(mean_t d̂_t)
//
// GMPO, arXiv 2507.20673, eq. 4; verl core_algos.py.
func gmpo(o kernels.GMPO) objective {
	return func(b *builder, in inputs) terms {
		s := b.sign(in.advantages)
		d := b.limit(b.sub(in.logProbs, in.anchor))
		lower := b.min(b.mul(s, d), b.mul(s, b.clip(d, -o.ClipLow, o.ClipHigh)))
		mean := b.segmentMean(sequences, b.mul(s, lower))
		return terms{
			loss:    b.neg(b.mul(in.advantages, b.exp(mean))),
			clipped: b.differs(lower, b.mul(s, d)),
		}
	}
}
