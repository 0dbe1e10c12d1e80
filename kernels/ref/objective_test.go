package ref

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
)

func TestRatiosByHand(t *testing.T) {
	// −Aρ, bounded by nothing in reach.
	free := kernels.Clip{ClipLow: 1, ClipHigh: 100}
	b := row([]float64{1, 3}, ln4, 0)
	aged := row([]float64{1}, 0.5)
	aged.LogProbs[0], aged.Behavior = -1, []float64{-1.5}
	aged.Version, aged.Versions = 7, []int32{3}
	old := aged
	old.Versions = []int32{9}
	loglinear, linear := math.Exp(-1+1.125), math.Exp(-1+1.1035480869570493)
	turns := row([]float64{1, 1, 1}, ln4, 0, ln2)
	turns.Turn = []int32{0, 0, 2}
	far := row([]float64{-1}, 25)
	check(t, []worked{
		{"token", of(free), b, -4 - 3, []float64{-4, -3}, func(m kernels.Metrics) bool {
			return about(m.RatioSum, 5) && m.Clipped == 0 && about(m.BehaviorK3Sum, 4-1-ln4)
		}},
		{"geometric, own", of(free, ratioOf(kernels.RatioSequenceGeometric, kernels.GradientOwn)), b, -8, []float64{-2, -6}, nil},
		{"geometric, segment", of(free, ratioOf(kernels.RatioSequenceGeometric, kernels.GradientSegment)), b, -8, []float64{-4, -4}, nil},
		{"product, own", of(free, ratioOf(kernels.RatioSequenceProduct, kernels.GradientOwn)), b, -16, []float64{-4, -12}, nil},
		{"product, segment", of(free, ratioOf(kernels.RatioSequenceProduct, kernels.GradientSegment)), b, -16, []float64{-16, -16}, nil},
		{"turn, own", of(free, ratioOf(kernels.RatioTurn, kernels.GradientOwn)), turns, -6, []float64{-2, -2, -2}, nil},
		{"turn, segment", of(free, ratioOf(kernels.RatioTurn, kernels.GradientSegment)), turns, -6, []float64{-2, -2, -2}, nil},
		{"beyond the clamp", of(free), far, math.Exp(20), []float64{0}, nil},
		// AReaL's approximate proximal policies, numbers of vectors.json.
		{"loglinear", of(free, anchored(kernels.AnchorLogLinear)), aged, -loglinear, []float64{-loglinear}, nil},
		{"linear", of(free, anchored(kernels.AnchorLinear)), aged, -linear, []float64{-linear}, nil},
		{"sampled by a later version", of(free, anchored(kernels.AnchorLogLinear)), old, -math.Exp(0.5), []float64{-math.Exp(0.5)}, nil},
	})
}

func TestObjectivesByHand(t *testing.T) {
	perSequence := rows([]int32{0, 1, 2}, row([]float64{1, 1}, ln2, ln2))
	perSequence.ClipHigh = []float64{3, 0.5}
	moved := row([]float64{1, -1, -1}, ln2, ln2, -ln2) // π ½, anchor ¼; the same; π ¼, anchor ½
	moved.LogProbs, moved.Proximal = []float64{-ln2, -ln2, -ln4}, []float64{-ln4, -ln4, -ln2}
	taught := moved
	taught.Reference = []float64{0, -ln2, 0}
	outcomes := rows([]int32{0, 1, 2, 3}, row([]float64{1, -1, -1}, ln2, ln2, -ln2))
	outcomes.Outcomes = []float64{0, -1, -1}
	verl := row([]float64{2, -1.5}, 0, 0)
	verl.LogProbs, verl.Proximal = []float64{-0.8, -0.9}, []float64{-1, -0.7}
	sapo := 4 / (1 + math.Exp(-1)) // at ratio 2 and τ 1
	gate := 4 / (1 + math.Exp(1))
	check(t, []worked{
		{"clip", of(kernels.Clip{ClipLow: 0.25, ClipHigh: 0.5}), row([]float64{1, -1, -1, 0}, ln2, -ln2, ln2, ln2), -1.5 + 0.75 + 2, []float64{0, 0, 2, 0},
			func(m kernels.Metrics) bool { return m.Clipped == 2 }},
		{"dual clip", of(kernels.Clip{ClipLow: 0.25, ClipHigh: 0.5, DualClip: 1.75}), row([]float64{-1, 1}, ln2, 0), 1.75 - 1, []float64{0, -1},
			func(m kernels.Metrics) bool { return m.Clipped == 1 }},
		{"bounds of sequences", of(kernels.Clip{ClipLow: 0.2, ClipHigh: 0.2}), perSequence, -2 - 1.5, []float64{-2, 0}, nil},
		{"clip keep", of(kernels.ClipKeep{ClipLow: 0.25, ClipHigh: 0.5}), row([]float64{2, -1}, ln2, -ln2), -3 + 0.75, []float64{-3, 0},
			func(m kernels.Metrics) bool { return m.Clipped == 2 }},
		{"tau", of(kernels.Reinforce{Tau: 0.5}), row([]float64{1}, ln2), 2 * (1 - ln2/2), []float64{-2 * (1 - ln2/2)}, nil},
		{"cispo", of(kernels.CISPO{ClipLow: 0.25, ClipHigh: 0.5}), row([]float64{1, 2, 2}, ln2, -ln2, 0), 1.5 + 1.5 + 2, []float64{-1.5, -1.5, -2},
			func(m kernels.Metrics) bool { return m.Clipped == 2 }},
		{"sapo", of(kernels.SAPO{TauPositive: 1, TauNegative: 2}), row([]float64{1, -1}, ln2, 0), -sapo + 1, []float64{-2 * sapo * gate / 4, 1}, nil},
		{"gmpo", of(kernels.GMPO{ClipLow: 0.1, ClipHigh: ln2}, ratioOf(kernels.RatioSequenceGeometric, kernels.GradientOwn)), row([]float64{1, 1}, ln4, 0),
			-2 * math.Sqrt2, []float64{0, -math.Sqrt2}, func(m kernels.Metrics) bool { return m.Clipped == 1 && about(m.RatioSum, 4) }},
		{"gmpo, negative", of(kernels.GMPO{ClipLow: ln2, ClipHigh: 0.1}, ratioOf(kernels.RatioSequenceGeometric, kernels.GradientOwn)), row([]float64{-1, -1}, -ln4, ln4),
			2 * math.Sqrt2, []float64{0, math.Sqrt2}, nil},
		{"gmpo, nothing to gain", of(kernels.GMPO{ClipLow: 5, ClipHigh: 5}, ratioOf(kernels.RatioSequenceGeometric, kernels.GradientOwn)), row([]float64{0, 1}, ln4, 0),
			-1, []float64{0, -0.5}, func(m kernels.Metrics) bool { return m.Clipped == 0 }},
		{"dppo", of(kernels.DPPO{Low: 0.2, High: 0.2}), moved, 2, []float64{0, 2, 0}, func(m kernels.Metrics) bool { return m.Clipped == 2 && m.Kept == 3 }},
		{"dppo, symmetric", of(kernels.DPPO{Low: 0.2, High: 0.2, Symmetric: true}), moved, 0, []float64{0, 0, 0}, nil},
		{"distill", of(kernels.Distill{DropBelow: 0.2}), taught, -2 * ln2, []float64{-2 * ln2, 0, 0}, nil},
		{"dro of verl's tests", of(kernels.DRO{Beta: 0.05}, aggregated(kernels.TokenMean)), verl, 0.126, []float64{-0.995, 0.745}, nil},
		{"topr", of(kernels.TOPR{}), outcomes, 1 - 1 - 0.5, []float64{-1, 1, 0.5}, func(m kernels.Metrics) bool { return m.Clipped == 1 }},
	})
}

func TestCovarianceObjectivesByHand(t *testing.T) {
	// Means 0 and −1: covariances 2·1, −2·1, 1·(−1), −1·(−1) = 2, −2, −1, 1.
	b := row([]float64{2, -2, 1, -1}, 0, 0, 0, 0)
	b.LogProbs = []float64{0, 0, -2, -2}
	b.Proximal = []float64{-ln2, 0, -2, -2 - ln2}
	all := kernels.ClipCov{ClipLow: 0.2, ClipHigh: 5, Share: 0.6, Low: 0, High: 5}
	check(t, []worked{
		{"kl_cov", of(kernels.KLCov{Share: 0.25, Coef: 3}), b, -4 + 2 - 1 + 2 + 3*ln2, []float64{-4 + 3, 2, -1, 2}, nil},
		{"kl_cov of two", of(kernels.KLCov{Share: 0.7, Coef: 1}), b, -4 + 2 - 1 + 2 + 2*ln2, []float64{-4 + 1, 2, -1, 2 + 1}, nil},
		{"clip_cov lets two go", of(all), b, 2 - 1, []float64{0, 2, -1, 0}, func(m kernels.Metrics) bool { return m.Clipped == 0 && m.Kept == 4 }},
		{"clip_cov below its bounds", of(kernels.ClipCov{ClipLow: 0.2, ClipHigh: 5, Share: 1, Low: 1.5, High: 5}), b, 2 - 1 + 2, []float64{0, 2, -1, 2}, nil},
		{"clip_cov lets the smallest lot go", of(kernels.ClipCov{ClipLow: 0.2, ClipHigh: 5, Share: 0.25, Low: -5, High: 5}), b, -4 + 2 + 2, []float64{-4, 2, 0, 2}, nil},
		{"clip_cov of less than a token", of(kernels.ClipCov{ClipLow: 0.2, ClipHigh: 5, Share: 0.2, Low: 0, High: 5}), b, -4 + 2 - 1 + 2, []float64{-4, 2, -1, 2}, nil},
		{"clip_cov leaves the clipped", of(kernels.ClipCov{ClipLow: 0.2, ClipHigh: 0.5, Share: 1, Low: 0, High: 5}), b, -3 + 2 - 1, []float64{0, 2, -1, 0}, nil},
	})
}

// Tables of SplitMix64 begin like this for seed 0.
func TestLots(t *testing.T) {
	for place, want := range []uint64{0xe220a8397b1dcdaf, 0x6e789e6aa1b965f4, 0x06c45d188009454f} {
		if got := (kernels.ClipCov{}).Lot(place); got != want {
			t.Errorf("place %d: %#x, want %#x", place, got, want)
		}
	}
}
