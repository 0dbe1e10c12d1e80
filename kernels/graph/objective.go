package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// objective is what a program minimises, as an expression of the inputs. It writes down the loss; gorgonia
// differentiates it.
type objective func(b *builder, in inputs) terms

// terms are what an objective gives.
type terms struct {
	// loss is the loss of each token, before masks, weights and aggregation; nil when whole is all of it.
	loss *G.Node
	// clipped is 1 at tokens whose loss a bound changes; nil when there are no bounds.
	clipped *G.Node
	// whole is a loss of one value, of pairs or groups of sequences, that is not aggregated; nil for tokens' losses.
	whole *G.Node
	// pairs counts what it compares and ordered what is in the right order, one value each.
	pairs, ordered *G.Node
}

// objectiveOf is the table of objectives. A new one is a row here, and a file with its expression.
func objectiveOf(o kernels.Objective) objective {
	switch o := o.(type) {
	case kernels.Clip:
		return clipped(o)
	case kernels.ClipKeep:
		return clipKeep(o)
	case kernels.Reinforce:
		return reinforce(o)
	case kernels.CISPO:
		return cispo(o)
	case kernels.SAPO:
		return sapo(o)
	case kernels.GMPO:
		return gmpo(o)
	case kernels.DPPO:
		return dppo(o)
	case kernels.DRO:
		return dro(o)
	case kernels.TOPR:
		return topr
	case kernels.Distill:
		return distill(o)
	case kernels.ClipCov:
		return clipCov(o)
	case kernels.KLCov:
		return klCov(o)
	case kernels.CrossEntropy:
		return crossEntropy
	case kernels.DPO:
		return dpo(o)
	case kernels.IPO:
		return ipo(o)
	case kernels.DMPO:
		return dmpo(o)
	case kernels.Rank:
		return rank(o)
	}
	return nil
}
