package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// notMovedAway is 0 where A < 0 in a sequence with mean_t (log μ − log π) > Threshold. DeepSeek-V3.2, arXiv
// 2512.02556, eq. 9; TRL, get_off_policy_mask.
func notMovedAway(b *builder, m kernels.NegativeDrift, in inputs) *G.Node {
	moved := b.segmentMean(sequences, b.sub(in.behavior, b.stop(in.logProbs)))
	return b.not(b.mul(b.below(in.advantages, 0), b.above(moved, m.Threshold)))
}
