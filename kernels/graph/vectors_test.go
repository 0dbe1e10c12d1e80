package graph

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/ref"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// within is the tolerance of the reference vectors.
var within = cmpopts.EquateApprox(0, 1e-6)

// vectors reads one family of kernels/testdata/vectors.json, numbers that an independent
// implementation computed in float64 and checked against finite differences.
func vectors(t *testing.T, family string, into any) {
	t.Helper()
	raw, err := os.ReadFile("../testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var families map[string]json.RawMessage
	if err := json.Unmarshal(raw, &families); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(families[family], into); err != nil {
		t.Fatalf("family %s: %v", family, err)
	}
}

// sum is the program whose loss is the plain sum of the token losses.
func sum(p kernels.Program) kernels.Program {
	p.Aggregate, p.AggregateConst = kernels.SequenceSumConst, 1
	return p
}

var clip = kernels.Program{
	Ratio: kernels.RatioToken, Anchor: kernels.AnchorProximal, Objective: kernels.ObjectiveClip,
	ClipLow: 0.2, ClipHigh: 0.2, Aggregate: kernels.TokenMean,
}

var reinforce = kernels.Program{Ratio: kernels.RatioOne, Objective: kernels.ObjectiveReinforce, Aggregate: kernels.TokenMean}

// oneTurn marks every token of every sequence as sampled in turn 0.
func oneTurn(b kernels.Batch[float64]) kernels.Batch[float64] {
	b.Sampled, b.Turn = make([]bool, b.Tokens()), make([]int32, b.Tokens())
	for i := range b.Sampled {
		b.Sampled[i] = true
	}
	return b
}

// evaluators are the implementations that every vector holds for.
var evaluators = map[string]func(kernels.Program, kernels.Batch[float64], kernels.Totals) (kernels.Result[float64], error){
	"graph": New[float64]().Evaluate,
	"ref":   ref.Evaluate,
}

func each(t *testing.T, p kernels.Program, b kernels.Batch[float64], check func(t *testing.T, r kernels.Result[float64])) {
	t.Helper()
	for name, evaluate := range evaluators {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			r, err := evaluate(p, b, kernels.Count(b))
			if err != nil {
				t.Fatal(err)
			}
			check(t, r)
		})
	}
}

func TestTokenLossVectors(t *testing.T) {
	type losses struct {
		Loss, Gradient []float64
	}
	var v struct {
		In struct{ Old, New, Adv []float64 }
	}
	vectors(t, "token_losses", &v)
	var all map[string]json.RawMessage
	vectors(t, "token_losses", &all)
	dual, dapo := clip, clip
	dual.DualClip, dapo.ClipHigh = 3, 0.28
	for name, p := range map[string]kernels.Program{"ppo_0.2": clip, "dual_clip_c3": dual, "dapo_0.2_0.28": dapo, "reinforce": reinforce} {
		var want struct {
			Loss     []float64
			Gradient []float64 `json:"dloss_dlogp"`
		}
		if err := json.Unmarshal(all[name], &want); err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			for i := range v.In.New {
				b := oneTurn(kernels.Batch[float64]{
					Offsets: []int32{0, 1}, LogProbs: v.In.New[i : i+1], Proximal: v.In.Old[i : i+1], Advantages: v.In.Adv[i : i+1],
				})
				each(t, p, b, func(t *testing.T, r kernels.Result[float64]) {
					if diff := cmp.Diff(losses{want.Loss[i : i+1], want.Gradient[i : i+1]}, losses{[]float64{r.Loss}, r.DLogProbs}, within); diff != "" {
						t.Errorf("token %d (-want +got):\n%s", i, diff)
					}
				})
			}
		})
	}
}

func TestSequenceRatioVectors(t *testing.T) {
	var v struct {
		In struct {
			LogProbs []float64 `json:"logp"`
			Old      []float64
			Mask     []int
		}
		Geometric float64   `json:"gspo_ratio"`
		Product   float64   `json:"full_product_ratio"`
		Gradient  []float64 `json:"gspo_token_grad_coef_A=1_noclip"`
		Clipped   float64   `json:"gspo_clipped_3e-4_4e-4_A=+1_loss"`
		Turns     []float64 `json:"at2po_turn_ratios"`
	}
	vectors(t, "sequence_ratios", &v)
	b := kernels.Batch[float64]{Offsets: []int32{0, 6}, LogProbs: v.In.LogProbs, Proximal: v.In.Old, Advantages: []float64{1, 1, 1, 1, 1, 1}}
	turn := int32(0)
	for _, m := range v.In.Mask {
		b.Sampled = append(b.Sampled, m == 1)
		if m == 0 {
			turn++
			b.Turn = append(b.Turn, -1)
		} else {
			b.Turn = append(b.Turn, turn)
		}
	}
	wide := sum(clip)
	wide.ClipLow, wide.ClipHigh = 1, 10
	with := func(p kernels.Program, ratio kernels.Ratio) kernels.Program { p.Ratio = ratio; return p }
	t.Run("geometric", func(t *testing.T) {
		each(t, with(wide, kernels.RatioSequenceGeometric), b, func(t *testing.T, r kernels.Result[float64]) {
			if diff := cmp.Diff(v.Geometric, r.Metrics.RatioSum/5, within); diff != "" {
				t.Errorf("ratio: %s", diff)
			}
			if diff := cmp.Diff(v.Gradient, r.DLogProbs, within); diff != "" {
				t.Errorf("gradient: %s", diff)
			}
		})
	})
	t.Run("product", func(t *testing.T) {
		each(t, with(wide, kernels.RatioSequenceProduct), b, func(t *testing.T, r kernels.Result[float64]) {
			if diff := cmp.Diff(v.Product, r.Metrics.RatioSum/5, within); diff != "" {
				t.Errorf("ratio: %s", diff)
			}
		})
	})
	t.Run("turn", func(t *testing.T) {
		each(t, with(wide, kernels.RatioTurn), b, func(t *testing.T, r kernels.Result[float64]) {
			want := make([]float64, len(v.Turns)) // with A = 1 and no clipping the gradient is −ratio
			for i, ratio := range v.Turns {
				want[i] = -ratio
			}
			if diff := cmp.Diff(want, r.DLogProbs, within); diff != "" {
				t.Errorf("ratios: %s", diff)
			}
		})
	})
	t.Run("clipped", func(t *testing.T) {
		p := with(clip, kernels.RatioSequenceGeometric)
		p.ClipLow, p.ClipHigh, p.Aggregate = 3e-4, 4e-4, kernels.SequenceMeanTokenAvg
		each(t, p, b, func(t *testing.T, r kernels.Result[float64]) {
			if diff := cmp.Diff(v.Clipped, r.Loss, within); diff != "" {
				t.Errorf("loss: %s", diff)
			}
		})
	})
}

func TestAggregationVectors(t *testing.T) {
	var v struct {
		In struct {
			Loss  [][]float64
			Mask  [][]int
			Const float64
		}
	}
	vectors(t, "aggregation", &v)
	var want map[string]any
	vectors(t, "aggregation", &want)
	// With A = −1 the score-function loss of a token is its log-probability.
	b := kernels.Batch[float64]{Offsets: []int32{0}}
	for i, row := range v.In.Loss {
		turn := int32(0)
		for j, loss := range row {
			sampled := v.In.Mask[i][j] == 1
			b.LogProbs, b.Advantages, b.Sampled = append(b.LogProbs, loss), append(b.Advantages, -1), append(b.Sampled, sampled)
			if !sampled {
				turn++
				b.Turn = append(b.Turn, -1)
				continue
			}
			b.Turn = append(b.Turn, turn)
		}
		b.Offsets = append(b.Offsets, int32(len(b.LogProbs)))
	}
	for _, aggregate := range kernels.Aggregations {
		p := reinforce
		p.Aggregate, p.AggregateConst = aggregate, v.In.Const
		t.Run(string(aggregate), func(t *testing.T) {
			each(t, p, b, func(t *testing.T, r kernels.Result[float64]) {
				if diff := cmp.Diff(want[string(aggregate)], r.Loss, within); diff != "" {
					t.Errorf("loss: %s", diff)
				}
			})
		})
	}
}

func TestDivergenceVectors(t *testing.T) {
	var v map[string]json.RawMessage
	vectors(t, "kl", &v)
	for _, estimator := range []kernels.Divergence{kernels.KLK1, kernels.KLK2, kernels.KLK3} {
		var want struct {
			Value    float64
			Gradient float64 `json:"dvalue_dlogp"`
		}
		if err := json.Unmarshal(v[string(estimator)], &want); err != nil {
			t.Fatal(err)
		}
		p := reinforce
		p.KL, p.KLCoef = estimator, 2
		b := oneTurn(kernels.Batch[float64]{Offsets: []int32{0, 1}, LogProbs: []float64{-1}, Reference: []float64{-1.3}, Advantages: []float64{0}})
		t.Run(string(estimator), func(t *testing.T) {
			each(t, p, b, func(t *testing.T, r kernels.Result[float64]) {
				if diff := cmp.Diff([]float64{2 * want.Value, 2 * want.Gradient, want.Value}, []float64{r.Loss, r.DLogProbs[0], r.Metrics.ReferenceKLSum}, within); diff != "" {
					t.Errorf("loss, gradient, metric (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// Numbers that the tests of SkyRL, OpenRLHF and verl expect, and the example of the loss command's
// contract.
func TestPeerVectors(t *testing.T) {
	dual := sum(clip)
	dual.DualClip = 3
	gspo := sum(clip)
	gspo.Ratio = kernels.RatioSequenceGeometric
	ragged := kernels.Batch[float64]{
		Offsets:  []int32{0, 5, 7, 11},
		LogProbs: []float64{.2, -2.5, -.3, .1, -1.8, .8, -.2, -.5, .3, -1.7, .4},
		Proximal: []float64{-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, Advantages: []float64{1.5, 2, 1, .8, .5, 3, 1.5, .5, .8, 1.2, 2.5},
	}
	lossRows := func(offsets []int32, losses ...float64) kernels.Batch[float64] {
		b := kernels.Batch[float64]{Offsets: offsets, LogProbs: losses, Advantages: make([]float64, len(losses))}
		for i := range b.Advantages {
			b.Advantages[i] = -1
		}
		return b
	}
	sequenceMean := reinforce
	sequenceMean.Aggregate = kernels.SequenceMeanTokenAvg
	for _, test := range []struct {
		name string
		p    kernels.Program
		b    kernels.Batch[float64]
		loss float64
	}{
		{"SkyRL dual clip", dual, kernels.Batch[float64]{
			Offsets: []int32{0, 3}, Advantages: []float64{1, -1, -4}, Proximal: []float64{-1, -1, -3},
			LogProbs: []float64{-1 + math.Log(0.5), -1, -3 + 2.30259},
		}, 12.5},
		{"SkyRL ragged PPO", sum(clip), ragged, -15.186827},
		{"SkyRL ragged GSPO", gspo, ragged, -18.071588},
		{"SkyRL reduce_loss", sum(reinforce), lossRows([]int32{0, 3, 4}, 1, 2, 3, 4), 10},
		{"OpenRLHF token mean", reinforce, lossRows([]int32{0, 2, 5, 6}, 1, 2, 3, 4, 5, 7), 22.0 / 6},
		{"OpenRLHF sequence mean", sequenceMean, lossRows([]int32{0, 2, 4, 5}, 1, 3, 2, 4, 8), 4.333333},
		{"contract", clip, kernels.Batch[float64]{
			Offsets: []int32{0, 2}, LogProbs: []float64{-1, -1.1}, Proximal: []float64{-1.1, -1}, Advantages: []float64{.5, .5},
		}, -0.502502},
	} {
		t.Run(test.name, func(t *testing.T) {
			each(t, test.p, oneTurn(test.b), func(t *testing.T, r kernels.Result[float64]) {
				if math.Abs(r.Loss-test.loss) > 1e-6 {
					t.Errorf("loss %v, want %v", r.Loss, test.loss)
				}
			})
		})
	}
}
