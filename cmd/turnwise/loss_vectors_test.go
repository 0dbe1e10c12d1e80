//go:build slim

package main

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// streams are fields of a sequence of a batch.
type streams map[string]any

// lossOf evaluates the loss of GRPO with overrides on sequences.
func lossOf(t *testing.T, sequences []streams, overrides ...string) lossResult {
	t.Helper()
	batch, err := json.Marshal(map[string]any{"schema": "turnwise.batch/v1", "sequences": sequences})
	if err != nil {
		t.Fatal(err)
	}
	results := pipe[lossResult](t, string(batch), append([]string{"loss", "--method", "grpo"}, overrides...)...)
	if len(results) != 1 {
		t.Fatalf("%d results for one batch", len(results))
	}
	return results[0]
}

// ones is a stream of n ones.
func ones(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = 1
	}
	return out
}

func sum(values []float64) float64 {
	total := 0.0
	for _, v := range values {
		total += v
	}
	return total
}

func TestTokenLossesAgreeWithTheVectors(t *testing.T) {
	type want struct {
		Loss []float64
		D    []float64 `json:"dloss_dlogp"`
	}
	var v struct {
		In        struct{ Old, New, Adv []float64 }
		PPO       want `json:"ppo_0.2"`
		DualClip  want `json:"dual_clip_c3"`
		DAPO      want `json:"dapo_0.2_0.28"`
		CISPO     want `json:"cispo_0.2_0.28"`
		SAPO      want `json:"sapo_1_1.05"`
		Reinforce want
		Prime     want `json:"prime_dppo"`
	}
	vectors(t, "token_losses", &v)
	for _, test := range []struct {
		name      string
		overrides []string
		want      want
	}{
		{"ppo", nil, v.PPO},
		{"dual clip", []string{"loss.objective.dual_clip=3"}, v.DualClip},
		{"dapo", []string{"loss.objective.clip_high=0.28"}, v.DAPO},
		{"cispo", []string{"loss.objective={type: cispo, clip_low: 0.2, clip_high: 0.28}"}, v.CISPO},
		{"sapo", []string{"loss.objective={type: sapo, tau_positive: 1, tau_negative: 1.05}"}, v.SAPO},
		{"reinforce", []string{"loss.objective={type: reinforce}", "loss.ratio=one"}, v.Reinforce},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := len(v.In.New)
			got := lossOf(t, []streams{{"logprobs": v.In.New, "proximal": v.In.Old, "advantages": v.In.Adv, "sampled": ones(n)}},
				append(test.overrides, "loss.aggregate=token-sum")...)
			if diff := cmp.Diff(sum(test.want.Loss), got.Loss, within); diff != "" {
				t.Errorf("loss (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([][]float64{test.want.D}, got.DLogProbs, within); diff != "" {
				t.Errorf("gradient (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDivergencesAgreeWithTheVectors(t *testing.T) {
	var v struct {
		In struct{ LogP, Ref float64 }
		K1 divergence `json:"k1"`
		K2 divergence `json:"k2"`
		K3 divergence `json:"k3"`
		KP divergence `json:"k3+"`
	}
	vectors(t, "kl", &v)
	for estimator, want := range map[string]divergence{"k1": v.K1, "k2": v.K2, "k3": v.K3, "k3+": v.KP} {
		// A token that was not sampled stands in front, with values that are no numbers.
		got := lossOf(t, []streams{{"logprobs": []any{nil, v.In.LogP}, "proximal": []any{nil, v.In.LogP}, "reference": []any{nil, v.In.Ref},
			"advantages": []any{nil, 0}, "sampled": []int{0, 1}}}, "loss.regularizers=[{type: kl, coef: 1, estimator: "+estimator+"}]")
		if diff := cmp.Diff([]any{want.Value, [][]float64{{0, want.D}}, want.Value}, []any{got.Loss, got.DLogProbs, *got.Metrics.ReferenceKL}, within); diff != "" {
			t.Errorf("%s (-want +got):\n%s", estimator, diff)
		}
	}
}

type divergence struct {
	Value float64
	D     float64 `json:"dvalue_dlogp"`
}

func TestAggregationAgreesWithTheVectors(t *testing.T) {
	var v struct {
		In struct {
			Loss [][]float64
			Mask [][]int
		}
		TokenMean  float64 `json:"token-mean"`
		SeqSum     float64 `json:"seq-mean-token-sum"`
		SeqMean    float64 `json:"seq-mean-token-mean"`
		StepMean   float64 `json:"step-mean"`
		SeqByConst float64 `json:"seq-sum-const"`
	}
	vectors(t, "aggregation", &v)
	var sequences []streams
	for i, losses := range v.In.Loss {
		advantages, turns, turn := make([]float64, len(losses)), make([]int, len(losses)), -1
		for p, loss := range losses {
			advantages[p] = -loss // at ratio 1 the surrogate is −advantage
			turns[p] = -1
			if v.In.Mask[i][p] == 1 {
				if p == 0 || v.In.Mask[i][p-1] == 0 {
					turn++
				}
				turns[p] = turn
			}
		}
		same := make([]float64, len(losses))
		sequences = append(sequences, streams{"logprobs": same, "proximal": same, "advantages": advantages, "sampled": v.In.Mask[i], "turn": turns})
	}
	for aggregate, want := range map[string]float64{
		"token-mean": v.TokenMean, "seq-mean-token-sum": v.SeqSum, "seq-mean-token-mean": v.SeqMean, "step-mean": v.StepMean, "seq-sum-const": v.SeqByConst,
	} {
		overrides := []string{"loss.aggregate=" + aggregate}
		if aggregate == "seq-sum-const" {
			overrides = append(overrides, "loss.aggregate_const=100")
		}
		if diff := cmp.Diff(want, lossOf(t, sequences, overrides...).Loss, within); diff != "" {
			t.Errorf("%s (-want +got):\n%s", aggregate, diff)
		}
	}
}

func TestSequenceRatiosAgreeWithTheVectors(t *testing.T) {
	var v struct {
		In struct {
			LogP, Old []float64
			Mask      []int
		}
		Coefficients []float64 `json:"gspo_token_grad_coef_A=1_noclip"`
		Clipped      float64   `json:"gspo_clipped_3e-4_4e-4_A=+1_loss"`
		Turns        []float64 `json:"at2po_turn_ratios"`
	}
	vectors(t, "sequence_ratios", &v)
	sequence := streams{"logprobs": v.In.LogP, "proximal": v.In.Old, "sampled": v.In.Mask, "advantages": ones(6), "turn": []int{0, 0, -1, 1, 1, 1}}
	got := lossOf(t, []streams{sequence}, "loss.ratio=sequence-geometric", "loss.aggregate=token-sum", "loss.objective={type: clip, clip_low: 0.5, clip_high: 0.5}")
	if diff := cmp.Diff([][]float64{v.Coefficients}, got.DLogProbs, within); diff != "" {
		t.Errorf("gspo (-want +got):\n%s", diff)
	}
	got = lossOf(t, []streams{sequence}, "loss.ratio=sequence-geometric", "loss.objective={type: clip, clip_low: 3e-4, clip_high: 4e-4}")
	if diff := cmp.Diff(v.Clipped, got.Loss, within); diff != "" {
		t.Errorf("gspo clipped (-want +got):\n%s", diff)
	}
	got = lossOf(t, []streams{sequence}, "loss.ratio=turn", "loss.aggregate=token-sum", "loss.objective={type: clip, clip_low: 0.5, clip_high: 0.5}")
	for p := range v.Turns {
		v.Turns[p] = 0 - v.Turns[p]
	}
	if diff := cmp.Diff([][]float64{v.Turns}, got.DLogProbs, within); diff != "" {
		t.Errorf("turn ratios (-want +got):\n%s", diff)
	}
}

func TestPreferencesAgreeWithTheVectors(t *testing.T) {
	var v struct {
		DPO struct {
			In   map[string]float64
			Loss float64
		}
		RRHF struct {
			In struct {
				P, Score []float64
			}
			Loss float64 `json:"rank_loss"`
		}
	}
	vectors(t, "preference", &v)
	dpo := v.DPO.In
	side := func(role, name string) streams {
		return streams{"logprobs": []float64{dpo[name]}, "reference": []float64{dpo[name+"_ref"]}, "sampled": []int{1}, "pair": streams{"id": "p", "role": role}}
	}
	got := lossOf(t, []streams{side("chosen", "w"), side("rejected", "l")}, "pair.type=recorded", "loss.objective={type: dpo, beta: 0.1}", "loss.ratio=one")
	if diff := cmp.Diff([]float64{v.DPO.Loss, 1}, []float64{got.Loss, *got.Metrics.PairAccuracy}, within); diff != "" {
		t.Errorf("dpo (-want +got):\n%s", diff)
	}
	if g := got.DLogProbs; g[0][0] >= 0 || g[1][0] != -g[0][0] {
		t.Errorf("dpo: gradients %v: the chosen sequence must rise as the rejected one falls", g)
	}
	// Two groups with the same numbers have the mean of one, and nothing is ranked across them.
	var ranked []streams
	for _, group := range []string{"g", "h"} {
		for i, p := range v.RRHF.In.P {
			ranked = append(ranked, streams{"logprobs": []float64{p}, "sampled": []int{1}, "rank_score": v.RRHF.In.Score[i], "group": group})
		}
		got = lossOf(t, ranked, "pair={type: rank}", "loss.objective={type: rank, best_coef: 0}", "loss.ratio=one")
		if diff := cmp.Diff(v.RRHF.Loss, got.Loss, within); diff != "" {
			t.Errorf("rank, with group %s (-want +got):\n%s", group, diff)
		}
	}
}

func TestValueLossAgreesWithTheVectors(t *testing.T) {
	var v struct {
		In   map[string]float64
		Loss float64
	}
	vectors(t, "value_clip", &v)
	got := lossOf(t, []streams{{"logprobs": []float64{-1}, "proximal": []float64{-1}, "advantages": []float64{0}, "sampled": []int{1},
		"values": []float64{v.In["v"]}, "old_values": []float64{v.In["v_old"]}, "returns": []float64{v.In["ret"]}}},
		"loss.regularizers=[{type: value, coef: 1, clip: 0.2}]", "advantage.terms[0].center=critic", "advantage.terms[0].scale=none")
	if diff := cmp.Diff(v.Loss, got.Loss, within); diff != "" {
		t.Errorf("loss (-want +got):\n%s", diff)
	}
	if got.DValues == nil {
		t.Error("no derivative by the values")
	}
}
