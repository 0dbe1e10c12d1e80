package graph

import (
	"math"

	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// vetoed is 0 in a sequence where min_t e^x < Min. prime-rl, October 2025; INTELLECT-3.
func vetoed(b *builder, c kernels.Veto, in inputs) *G.Node {
	return b.inside(b.segmentMin(sequences, b.exp(in.drift)), c.Min, math.Inf(1))
}
