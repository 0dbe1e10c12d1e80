package graph

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// kept is a mask: 1 at the tokens it keeps and 0 at those it rejects, an expression without a gradient.
func kept(b *builder, mask kernels.Mask, in inputs) *G.Node {
	switch m := mask.(type) {
	case kernels.EntropyQuantile:
		return highEntropy(b, m, in)
	case kernels.NegativeDrift:
		return notMovedAway(b, m, in)
	}
	b.fail(fmt.Errorf("mask: no expression for %T", mask))
	return nil
}
