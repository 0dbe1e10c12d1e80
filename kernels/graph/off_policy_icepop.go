package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// icePop is w = e^x where Low ≤ e^x ≤ High, and drops the other tokens. IcePop, arXiv 2510.18855.
func icePop(b *builder, c kernels.IcePop, in inputs) (weight, keep *G.Node) {
	weight = b.exp(in.drift)
	return weight, b.inside(weight, c.Low, c.High)
}
