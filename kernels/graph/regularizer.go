package graph

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// term is what a regularizer adds, one value per token.
type term struct {
	// aggregated is aggregated like the objective; averaged is added up as it is, its denominator included. One of
	// them is nil.
	aggregated, averaged *G.Node
	// referenceKL and valueError are the metrics it sums, one value each; nil when it has none.
	referenceKL, valueError *G.Node
}

// termOf is the table of regularizers.
func termOf(b *builder, regularizer kernels.Regularizer, in inputs) term {
	switch r := regularizer.(type) {
	case kernels.KL:
		return klTerm(b, r, in)
	case kernels.Entropy:
		return entropyTerm(b, r, in)
	case kernels.SquaredLogRatio:
		return squaredLogRatioTerm(b, r, in)
	case kernels.AuxiliaryCE:
		return auxiliaryCETerm(b, r, in)
	case kernels.ReferenceKL:
		return referenceKLTerm(b, r, in)
	case kernels.Value:
		return valueTerm(b, r, in)
	}
	b.fail(fmt.Errorf("regularizers: no expression for %T", regularizer))
	return term{}
}

// entropyTerm is −Coef·H. Williams and Peng 1991.
func entropyTerm(b *builder, r kernels.Entropy, in inputs) term {
	return term{aggregated: b.scale(-r.Coef, in.entropy)}
}

// squaredLogRatioTerm is Coef·(log π − log μ)². prime-rl trainer/rl/loss.py, kl_tau.
func squaredLogRatioTerm(b *builder, r kernels.SquaredLogRatio, in inputs) term {
	return term{aggregated: b.scale(r.Coef, b.square(b.sub(in.logProbs, in.behavior)))}
}

// auxiliaryCETerm is Coef·w·(−log π)/Σ w, w the imitation weights. prime-rl trainer/rl/loss.py.
func auxiliaryCETerm(b *builder, r kernels.AuxiliaryCE, in inputs) term {
	weight := b.scale(-r.Coef, b.mul(in.ceWeights, in.perCEWeight))
	return term{averaged: b.mul(weight, in.logProbs)}
}
