package graph

import (
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
)

// paired is a chosen sequence before a rejected one, with a turn of one token for each [log π, log π_ref].
func paired(chosen, rejected [][2]float64) kernels.Batch[float64] {
	b := kernels.Batch[float64]{Offsets: []int32{0}, Pair: []int32{3, 3}, Chosen: []bool{true, false}}
	for _, turns := range [][][2]float64{chosen, rejected} {
		for k, turn := range turns {
			b.LogProbs, b.Reference = append(b.LogProbs, turn[0]), append(b.Reference, turn[1])
			b.Sampled, b.Turn = append(b.Sampled, true), append(b.Turn, int32(k))
		}
		b.Offsets = append(b.Offsets, int32(len(b.LogProbs)))
	}
	return b
}

func TestPreferenceVectors(t *testing.T) {
	var v struct {
		DPO struct {
			In struct {
				W    float64
				WRef float64 `json:"w_ref"`
				L    float64
				LRef float64 `json:"l_ref"`
				Beta float64
			}
			Loss float64
		}
		DMPO struct {
			In struct {
				W, L             [][2]float64
				Beta, Gamma, Rho float64
			}
			Loss float64
		} `json:"dmpo_turn_weighted"`
		RRHF struct {
			In   struct{ P, Score []float64 }
			Rank float64 `json:"rank_loss"`
		}
	}
	vectors(t, "preference", &v)
	t.Run("dpo", func(t *testing.T) {
		in := v.DPO.In
		each(t, program(kernels.DPO{Beta: in.Beta}), paired([][2]float64{{in.W, in.WRef}}, [][2]float64{{in.L, in.LRef}}), func(t *testing.T, r kernels.Result[float64]) {
			same(t, "loss, pairs, ordered", []float64{v.DPO.Loss, 1, 1}, []float64{r.Loss, r.Metrics.Pairs, r.Metrics.Ordered})
			// −β·σ(−0.15) on the chosen sequence, its opposite on the rejected one.
			same(t, "gradient", []float64{-0.0462570, 0.0462570}, r.DLogProbs)
		})
	})
	t.Run("dmpo", func(t *testing.T) {
		in := v.DMPO.In
		p := program(kernels.DMPO{Beta: in.Beta, Discount: in.Gamma, Margin: in.Rho})
		each(t, p, paired(in.W, in.L), func(t *testing.T, r kernels.Result[float64]) { same(t, "loss", v.DMPO.Loss, r.Loss) })
	})
	t.Run("rrhf", func(t *testing.T) {
		b := oneTurn(kernels.Batch[float64]{Offsets: []int32{0, 1, 2, 3}, LogProbs: v.RRHF.In.P, RankScores: v.RRHF.In.Score})
		each(t, program(kernels.Rank{Coef: 1, LengthPower: 1}), b, func(t *testing.T, r kernels.Result[float64]) {
			same(t, "loss, pairs, ordered", []float64{v.RRHF.Rank, 3, 2}, []float64{r.Loss, r.Metrics.Pairs, r.Metrics.Ordered})
			same(t, "gradient", []float64{-1, 1, 0}, r.DLogProbs)
		})
	})
}
