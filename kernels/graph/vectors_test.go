package graph

import (
	"encoding/json"
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

// evaluators are the implementations that every vector holds for.
var evaluators = map[string]func(kernels.Program, kernels.Batch[float64], kernels.Totals) (kernels.Result[float64], error){
	"graph": New[float64]().Evaluate,
	"ref":   ref.Evaluate,
}

// each evaluates a program with every implementation.
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

// same reports numbers that are not the expected ones.
func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, within); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// series is one sequence of tokens; mask says which the policy sampled, its runs being the turns.
func series(mask []int, b kernels.Batch[float64]) kernels.Batch[float64] {
	b.Offsets = []int32{0, int32(len(mask))}
	b.Sampled, b.Turn = make([]bool, len(mask)), make([]int32, len(mask))
	turn := int32(0)
	for i, m := range mask {
		b.Sampled[i], b.Turn[i] = m == 1, turn
		if m == 0 {
			turn++
			b.Turn[i] = -1
		}
	}
	return b
}

// constant is n times the same value.
func constant(n int, value float64) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = value
	}
	return out
}

func TestTokenLossVectors(t *testing.T) {
	type losses struct {
		Loss     []float64
		Gradient []float64 `json:"dloss_dlogp"`
	}
	var v struct {
		In struct{ Old, New, Adv []float64 }
	}
	vectors(t, "token_losses", &v)
	var all map[string]json.RawMessage
	vectors(t, "token_losses", &all)
	prime := regularized(kernels.SquaredLogRatio{Coef: 0.001})
	for name, p := range map[string]kernels.Program{
		"ppo_0.2":        ppo(),
		"dual_clip_c3":   program(kernels.Clip{ClipLow: 0.2, ClipHigh: 0.2, DualClip: 3}),
		"dapo_0.2_0.28":  program(kernels.Clip{ClipLow: 0.2, ClipHigh: 0.28}),
		"cispo_0.2_0.28": program(kernels.CISPO{ClipLow: 0.2, ClipHigh: 0.28}),
		"sapo_1_1.05":    program(kernels.SAPO{TauPositive: 1, TauNegative: 1.05}),
		"reinforce":      policyGradient(),
		"prime_dppo":     program(kernels.DPPO{Low: 0.2, High: 0.2}, anchor(kernels.AnchorBehavior), prime),
	} {
		var want losses
		if err := json.Unmarshal(all[name], &want); err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			for i := range v.In.New {
				old := v.In.Old[i : i+1]
				b := oneTurn(kernels.Batch[float64]{Offsets: []int32{0, 1}, LogProbs: v.In.New[i : i+1], Proximal: old, Behavior: old, Advantages: v.In.Adv[i : i+1]})
				each(t, p, b, func(t *testing.T, r kernels.Result[float64]) {
					same(t, "loss and gradient", losses{want.Loss[i : i+1], want.Gradient[i : i+1]}, losses{[]float64{r.Loss}, r.DLogProbs})
				})
			}
		})
	}
}

func TestProbabilityDifferenceVectors(t *testing.T) {
	var v struct {
		Drops struct {
			In struct {
				Train []float64 `json:"p_train"`
				Infer []float64 `json:"p_infer"`
				Adv   []float64
			}
			Loss     []float64
			Gradient []float64 `json:"dloss_dlogp"`
			Dropped  []float64
		} `json:"prime_dppo_drops"`
	}
	vectors(t, "token_losses", &v)
	p := program(kernels.DPPO{Low: 0.2, High: 0.2}, anchor(kernels.AnchorBehavior), regularized(kernels.SquaredLogRatio{Coef: 0.001}))
	for i, advantage := range v.Drops.In.Adv {
		b := oneTurn(kernels.Batch[float64]{
			Offsets: []int32{0, 1}, LogProbs: logs(v.Drops.In.Train[i]), Behavior: logs(v.Drops.In.Infer[i]), Advantages: []float64{advantage},
		})
		each(t, p, b, func(t *testing.T, r kernels.Result[float64]) {
			same(t, "loss, gradient, dropped", []float64{v.Drops.Loss[i], v.Drops.Gradient[i], v.Drops.Dropped[i]}, []float64{r.Loss, r.DLogProbs[0], r.Metrics.Clipped})
		})
	}
}

func TestSequenceRatioVectors(t *testing.T) {
	type gmpo struct{ Ratio, Loss float64 }
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
		Better    gmpo      `json:"gmpo_A=+1_lo=hi=0.1"`
		Worse     gmpo      `json:"gmpo_A=-1_lo=hi=0.1"`
	}
	vectors(t, "sequence_ratios", &v)
	with := func(advantage float64) kernels.Batch[float64] {
		return series(v.In.Mask, kernels.Batch[float64]{LogProbs: v.In.LogProbs, Proximal: v.In.Old, Advantages: constant(len(v.In.Mask), advantage)})
	}
	wide := kernels.Clip{ClipLow: 1, ClipHigh: 10}
	t.Run("geometric", func(t *testing.T) {
		each(t, program(wide, ratio(kernels.RatioSequenceGeometric), summed), with(1), func(t *testing.T, r kernels.Result[float64]) {
			same(t, "ratio", v.Geometric, r.Metrics.RatioSum/5)
			same(t, "gradient", v.Gradient, r.DLogProbs)
		})
	})
	t.Run("product", func(t *testing.T) {
		each(t, program(wide, ratio(kernels.RatioSequenceProduct), summed), with(1), func(t *testing.T, r kernels.Result[float64]) {
			same(t, "ratio", v.Product, r.Metrics.RatioSum/5)
		})
	})
	t.Run("turn", func(t *testing.T) {
		each(t, program(wide, ratio(kernels.RatioTurn), summed), with(-1), func(t *testing.T, r kernels.Result[float64]) {
			same(t, "ratios", v.Turns, r.DLogProbs) // with A = −1 and no clipping the gradient is the ratio
		})
	})
	t.Run("clipped", func(t *testing.T) {
		p := program(kernels.Clip{ClipLow: 3e-4, ClipHigh: 4e-4}, ratio(kernels.RatioSequenceGeometric), aggregate(kernels.SequenceMeanTokenAvg))
		each(t, p, with(1), func(t *testing.T, r kernels.Result[float64]) { same(t, "loss", v.Clipped, r.Loss) })
	})
	t.Run("gmpo", func(t *testing.T) {
		p := program(kernels.GMPO{ClipLow: 0.1, ClipHigh: 0.1}, ratio(kernels.RatioSequenceGeometric), aggregate(kernels.SequenceMeanTokenAvg))
		each(t, p, with(1), func(t *testing.T, r kernels.Result[float64]) { same(t, "loss", v.Better.Loss, r.Loss) })
		each(t, p, with(-1), func(t *testing.T, r kernels.Result[float64]) { same(t, "loss", v.Worse.Loss, r.Loss) })
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
	want[string(kernels.TokenSum)], want[string(kernels.WeightedMean)] = 75.0, want[string(kernels.TokenMean)]
	for _, a := range kernels.Aggregations {
		p := policyGradient(aggregate(a))
		p.AggregateConst = v.In.Const
		t.Run(string(a), func(t *testing.T) {
			each(t, p, rowsOfLosses(v.In.Loss, v.In.Mask), func(t *testing.T, r kernels.Result[float64]) {
				same(t, "loss", want[string(a)], r.Loss)
			})
		})
	}
}

// rowsOfLosses is a batch whose token losses are given: with A = −1 the score-function loss of a token is its
// log-probability.
func rowsOfLosses(losses [][]float64, mask [][]int) kernels.Batch[float64] {
	b := kernels.Batch[float64]{Offsets: []int32{0}}
	for i, row := range losses {
		m := make([]int, len(row))
		for j := range m {
			m[j] = 1
		}
		if mask != nil {
			m = mask[i]
		}
		one := series(m, kernels.Batch[float64]{})
		b.LogProbs, b.Advantages = append(b.LogProbs, row...), append(b.Advantages, constant(len(row), -1)...)
		b.Sampled, b.Turn = append(b.Sampled, one.Sampled...), append(b.Turn, one.Turn...)
		b.Offsets = append(b.Offsets, int32(len(b.LogProbs)))
	}
	return b
}

func TestDivergenceVectors(t *testing.T) {
	var v map[string]json.RawMessage
	vectors(t, "kl", &v)
	for _, estimator := range []kernels.Divergence{kernels.KLK1, kernels.KLK2, kernels.KLK3, kernels.KLK3Plus} {
		var want struct {
			Value    float64
			Gradient float64 `json:"dvalue_dlogp"`
		}
		if err := json.Unmarshal(v[string(estimator)], &want); err != nil {
			t.Fatal(err)
		}
		kl := kernels.NewKL()
		kl.Estimator, kl.Coef = estimator, 2
		b := oneTurn(kernels.Batch[float64]{Offsets: []int32{0, 1}, LogProbs: []float64{-1}, Reference: []float64{-1.3}, Advantages: []float64{0}})
		t.Run(string(estimator), func(t *testing.T) {
			each(t, policyGradient(regularized(kl)), b, func(t *testing.T, r kernels.Result[float64]) {
				same(t, "loss, gradient, metric", []float64{2 * want.Value, 2 * want.Gradient, want.Value}, []float64{r.Loss, r.DLogProbs[0], r.Metrics.ReferenceKLSum})
			})
		})
	}
}

func TestValueVectors(t *testing.T) {
	var v struct {
		In struct {
			V   float64
			Old float64 `json:"v_old"`
			Ret float64
			Eps float64
		}
		Loss float64
	}
	vectors(t, "value_clip", &v)
	b := oneTurn(kernels.Batch[float64]{
		Offsets: []int32{0, 1}, LogProbs: []float64{-1}, Advantages: []float64{0}, Values: []float64{v.In.V}, OldValues: []float64{v.In.Old}, Returns: []float64{v.In.Ret},
	})
	critic := kernels.NewValue()
	critic.Coef, critic.Clip = 1, v.In.Eps
	each(t, policyGradient(regularized(critic)), b, func(t *testing.T, r kernels.Result[float64]) {
		// The clipped distance is the larger one, and the value does not move it.
		same(t, "loss, gradient, metric", []float64{v.Loss, 0, 0.36}, []float64{r.Loss, r.DValues[0], r.Metrics.ValueErrorSum})
	})
}
