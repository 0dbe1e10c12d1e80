package graph

import (
	"math"

	"github.com/turnwise-rl/turnwise/kernels"
)

// dmpo is dpo with weights that fall from turn to turn. With l = log π − log π_ref and φ of the token's turn,
//
//	L = −log σ(Beta·(Σ_chosen φ·l − Σ_rejected φ·l) − Margin)
//
// DMPO, arXiv 2406.14868, eq. 12; Margin as in DiaTool-DPO, arXiv 2504.02882.
func dmpo(o kernels.DMPO) objective {
	return func(b *builder, in inputs) terms {
		difference := b.contrast(b.mul(in.pairs.weight, b.sub(in.logProbs, in.reference)))
		return overPairs(b, in, b.softplus(b.shift(b.scale(-o.Beta, difference), o.Margin)), difference)
	}
}

// fillTurnWeights writes φ = (1 − γ^{T−t})/(1 − γ^T) at the tokens of turn t of T, over T where LengthNormalize says
// so.
func fillTurnWeights[T element](l *layout, o kernels.DMPO, values []T) {
	turn := 0
	for i := 0; i+1 < len(l.sequences); i++ {
		first := turn
		for l.turns[turn] < l.sequences[i+1] {
			turn++
		}
		all := float64(turn - first)
		for k := first; k < turn; k++ {
			weight := (1 - math.Pow(o.Discount, float64(turn-k))) / (1 - math.Pow(o.Discount, all))
			if o.LengthNormalize {
				weight /= all
			}
			fill(values[l.turns[k]:l.turns[k+1]], T(weight))
		}
	}
}
