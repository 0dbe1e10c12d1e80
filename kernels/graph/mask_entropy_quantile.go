package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// highEntropy is 1 where the entropy is at least its (1 − Keep) quantile over the update. Wang et al., arXiv
// 2506.01939; TRL, get_high_entropy_mask.
func highEntropy(b *builder, m kernels.EntropyQuantile, in inputs) *G.Node {
	entropy := b.stop(in.entropy)
	return b.lessEq(b.quantile(1-m.Keep, entropy), entropy)
}
