package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"
)

// clipKeep is the clipped surrogate whose upper branch keeps its gradient:
//
//	L = −A·(1+hi)·ρ/sg[ρ] where A > 0 and ρ > 1+hi; as clip elsewhere
//
// AEPO, in the release of AT²PO, arXiv 2601.04767.
func clipKeep(o kernels.ClipKeep) objective {
	return func(b *builder, in inputs) terms {
		t := clipped(kernels.Clip{ClipLow: o.ClipLow, ClipHigh: o.ClipHigh})(b, in)
		bound := bounded(b, o.ClipLow, o.ClipHigh, in)
		over := b.mul(b.above(in.advantages, 0), b.less(bound, in.ratio))
		// There clip's loss is −A·(1+hi) without a gradient; ρ/sg[ρ] − 1 is 0 with one.
		kept := b.mul(b.mul(in.advantages, bound), b.mul(b.invert(in.ratio), over))
		t.loss = b.sub(t.loss, b.mul(b.stop(kept), b.straight(in.ratio)))
		return t
	}
}
