package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// secondMoment is 0 at the fewest tokens with the largest x² such that the mean of x² over the rest is less than Tau.
// M2PO, arXiv 2510.01161.
func secondMoment(b *builder, c kernels.M2PO, in inputs) *G.Node {
	return b.withinMean(c.Tau, b.square(in.drift))
}
