package graph

// topr is the score-function loss with weight 1 on what succeeded. With R the sequence's outcome,
//
//	L = −sg[w]·A·log π,  w = 1 where R ≥ 0, clip(ρ, 0, 1) where R < 0
//
// TOPR, arXiv 2503.14286, eq. 8.
func topr(b *builder, in inputs) terms {
	failed := b.below(in.outcomes, 0)
	limited := b.clip(in.ratio, 0, 1)
	weight := b.add(b.mul(failed, limited), b.not(failed))
	return terms{
		loss:    score(b, b.mul(weight, in.advantages), in),
		clipped: b.all(failed, b.differs(limited, in.ratio), b.nonzero(in.advantages)),
	}
}
