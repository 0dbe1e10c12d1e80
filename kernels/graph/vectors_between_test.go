package graph

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
)

// The ratios of the token losses, and both sides of the turn-weighted margin: with a rejected side that is as the
// reference policy has it, the loss is −log σ(β·Φ) of the chosen one.
func TestRatiosAndSidesOfTheVectors(t *testing.T) {
	var tokens struct {
		In    struct{ Old, New, Adv []float64 }
		Ratio []float64
	}
	vectors(t, "token_losses", &tokens)
	for i, want := range tokens.Ratio {
		b := oneTurn(kernels.Batch[float64]{Offsets: []int32{0, 1}, LogProbs: tokens.In.New[i : i+1], Proximal: tokens.In.Old[i : i+1], Advantages: tokens.In.Adv[i : i+1]})
		each(t, ppo(), b, func(t *testing.T, r kernels.Result[float64]) { same(t, "ratio", want, r.Metrics.RatioSum) })
	}

	var preference struct {
		DMPO struct {
			In struct {
				W, L        [][2]float64
				Beta, Gamma float64
			}
			Chosen   float64 `json:"w_side"`
			Rejected float64 `json:"l_side"`
		} `json:"dmpo_turn_weighted"`
	}
	vectors(t, "preference", &preference)
	v, even := preference.DMPO, [][2]float64{{-1, -1}}
	p := program(kernels.DMPO{Beta: v.In.Beta, Discount: v.In.Gamma}, ratio(kernels.RatioOne))
	for _, side := range []struct {
		turns [][2]float64
		want  float64
	}{{v.In.W, v.Chosen}, {v.In.L, v.Rejected}} {
		each(t, p, paired(side.turns, even), func(t *testing.T, r kernels.Result[float64]) {
			same(t, "side", side.want, -math.Log(math.Exp(r.Loss)-1)/v.In.Beta)
		})
	}
}
