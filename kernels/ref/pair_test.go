package ref

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
)

func sigmoid(z float64) float64 { return 1 / (1 + math.Exp(-z)) }

func TestPairsByHand(t *testing.T) {
	// Sequences of 2, 1, 1 and 1 tokens; the first wins against the third by 3 − 1, the last loses to the second.
	b := rows([]int32{0, 2, 3, 4, 5}, row(nil, 1, 2, -1, 1, 1))
	b.Pair, b.Chosen = []int32{4, 9, 4, 9}, []bool{true, true, false, false}
	right, wrong := sigmoid(-0.5*2), sigmoid(0.5*2)
	ordered := func(m kernels.Metrics) bool { return m.Pairs == 2 && m.Ordered == 1 && m.RatioSum == 5 && m.Kept == 5 }
	dpo := -(math.Log(sigmoid(1)) + math.Log(sigmoid(-1))) / 2
	turns := b
	turns.Turn = []int32{0, 3, 0, 0, 0}
	// Of two turns the second has (1 − ½)/(1 − ¼) = ⅔ of the first's weight: Φ = 1 + ⅔·2 against 1, and −1 against 1.
	z := 7./3 - 1
	half := (7./3)/2 - 1
	check(t, []worked{
		{"dpo", of(kernels.DPO{Beta: 0.5}), b, dpo, []float64{-right / 4, -right / 4, -wrong / 4, right / 4, wrong / 4}, ordered},
		{"dpo that imitates", of(kernels.DPO{Beta: 0.5, ImitateCoef: 2}), b, dpo + 2,
			[]float64{-right/4 - 0.5, -right/4 - 0.5, -wrong/4 - 1, right / 4, wrong / 4}, nil},
		{"ipo", of(kernels.IPO{Beta: 0.5}), b, (0.25 + 9) / 2, []float64{-0.25, -0.25, -3, 0.5, 3}, ordered},
		{"dmpo", of(kernels.DMPO{Beta: 1, Discount: 0.5}), turns, -(math.Log(sigmoid(z)) + math.Log(sigmoid(-2))) / 2,
			[]float64{-sigmoid(-z) / 2, -sigmoid(-z) / 3, -sigmoid(2) / 2, sigmoid(-z) / 2, sigmoid(2) / 2}, ordered},
		{"dmpo, by turns and with a margin", of(kernels.DMPO{Beta: 2, Discount: 0.5, Margin: 0.25, LengthNormalize: true}), turns,
			-(math.Log(sigmoid(2*half-0.25)) + math.Log(sigmoid(-4.25))) / 2,
			[]float64{-sigmoid(0.25-2*half) / 2, -sigmoid(0.25-2*half) / 3, -sigmoid(4.25), sigmoid(0.25 - 2*half), sigmoid(4.25)}, nil},
	})
	far := b
	far.LogProbs = []float64{-1, -1, -2000, -1, -1}
	got, err := Evaluate(of(kernels.DPO{Beta: 1}), far, kernels.Count(far))
	if err != nil || !about(got.Loss, (2001+math.Log1p(math.Exp(-2)))/2) || got.DLogProbs[2] != -0.5 {
		t.Errorf("a margin of −2001: loss %v, gradient %v, error %v", got.Loss, got.DLogProbs, err)
	}
}

func TestRanksByHand(t *testing.T) {
	ranked := func(groups []int32, scores []float64, logProbs ...float64) kernels.Batch[float64] {
		b := row(nil, make([]float64, len(logProbs))...)
		b.LogProbs, b.RankScores, b.Group = logProbs, scores, groups
		for i := range logProbs {
			b.Offsets = append(b.Offsets[:i+1], int32(i+1))
		}
		return b
	}
	three := ranked(nil, []float64{20, 10, 0}, -1, -0.8, -1.5)
	two := ranked([]int32{5, 2, 5, 2}, []float64{1, 7, 2, 7}, -1, -2, -3, -4)
	long := rows([]int32{0, 4, 5, 5}, row(nil, 0, 0, 0, 0, 0))
	long.LogProbs, long.RankScores = []float64{-1, -1, -1, -1, -1.5}, []float64{1, 0, 9}
	check(t, []worked{
		{"rrhf, vectors.json", of(kernels.Rank{Coef: 1, LengthPower: 1}), three, 0.2, []float64{-1, 1, 0}, func(m kernels.Metrics) bool { return m.Pairs == 3 && m.Ordered == 2 }},
		{"imitating the best", of(kernels.Rank{Coef: 100, LengthPower: 1, BestCoef: 2}), three, 20 + 2, []float64{-100 - 2, 100, 0}, nil},
		{"groups, of equals the first", of(kernels.Rank{Coef: 1, LengthPower: 1, BestCoef: 1}), two, (2 + 3 + 2) / 2., []float64{0.5, -0.5, -0.5 - 0.5, 0},
			func(m kernels.Metrics) bool { return m.Pairs == 1 && m.Ordered == 0 }},
		{"by the root of the length, without the empty one", of(kernels.Rank{Coef: 1, LengthPower: 0.5, BestCoef: 1}), long, -1.5 + 2 + 1,
			[]float64{-0.5 - 0.25, -0.5 - 0.25, -0.5 - 0.25, -0.5 - 0.25, 1}, nil},
		{"by the sum", of(kernels.Rank{Coef: 1}), long, 2.5, []float64{-1, -1, -1, -1, 1}, nil},
	})
}
