package graph

import (
	"math"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestEmptyBatches(t *testing.T) {
	p := ppo(regularized(kernels.Entropy{Coef: 1}, kernels.Value{Coef: 1, Loss: kernels.ValueSquared, Delta: 1}))
	zeros := make([]float64, 2)
	for name, b := range map[string]kernels.Batch[float64]{
		"no sequences": {},
		"nothing sampled": {
			Offsets: []int32{0, 2}, Sampled: make([]bool, 2), LogProbs: zeros, Proximal: zeros, Advantages: zeros, Entropy: zeros, Values: zeros, Returns: zeros,
		},
	} {
		each(t, p, b, func(t *testing.T, got kernels.Result[float64]) {
			n := b.Tokens()
			want := kernels.Result[float64]{DLogProbs: make([]float64, n), DEntropy: make([]float64, n), DValues: make([]float64, n)}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		})
	}
}

func TestInputErrorsNameThePlace(t *testing.T) {
	good := func() kernels.Batch[float64] {
		return kernels.Batch[float64]{
			Offsets: []int32{0, 1, 3}, LogProbs: []float64{-1, -1, -1}, Proximal: []float64{-1, -1, -1}, Advantages: []float64{1, 1, 1},
			Sampled: []bool{true, false, true}, Turn: []int32{0, -1, 0},
		}
	}
	for name, test := range map[string]struct {
		edit func(*kernels.Program, *kernels.Batch[float64])
		want string
	}{
		"missing stream": {func(p *kernels.Program, b *kernels.Batch[float64]) { regularized(kernels.NewKL())(p) },
			"batch: reference is null, and the program needs it (regularizer kl)"},
		"missing anchor": {func(p *kernels.Program, b *kernels.Batch[float64]) { p.Anchor = kernels.AnchorBehavior },
			"batch: behavior is null, and the program needs it (anchor behavior)"},
		"missing pairs": {func(p *kernels.Program, b *kernels.Batch[float64]) {
			*p = program(kernels.DPO{Beta: 1})
			b.Reference = b.LogProbs
		}, "batch: pair is null, and the program needs it (objective dpo)"},
		"NaN": {func(p *kernels.Program, b *kernels.Batch[float64]) { b.Advantages[2] = math.NaN() },
			"batch: sequence 1, token 1: advantages is NaN where the policy sampled"},
		"infinite": {func(p *kernels.Program, b *kernels.Batch[float64]) { b.LogProbs[0] = math.Inf(-1) },
			"batch: sequence 0, token 0: logprobs is -Inf where the policy sampled"},
		"length": {func(p *kernels.Program, b *kernels.Batch[float64]) { b.Proximal = b.Proximal[:2] },
			"batch: proximal has 2 values for 3 tokens"},
		"turn": {func(p *kernels.Program, b *kernels.Batch[float64]) { b.Turn[2] = -1 },
			"batch: sequence 1, token 1: turn -1 after turn -1"},
		"program": {func(p *kernels.Program, b *kernels.Batch[float64]) { p.Objective = kernels.Clip{DualClip: 0.5} },
			"loss program: objective.dual_clip: 0.5 must be greater than 1"},
		"a part of the update": {func(p *kernels.Program, b *kernels.Batch[float64]) { *p = program(kernels.KLCov{Coef: 1}) },
			"batch: 2 of 3 tokens: the program compares sequences of the whole update, so that it must be evaluated in one piece"},
	} {
		t.Run(name, func(t *testing.T) {
			p, b := ppo(), good()
			test.edit(&p, &b)
			_, err := New[float64]().Evaluate(p, b, kernels.Totals{Tokens: 3, Sequences: 2})
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("error %v\nwant  %s…", err, test.want)
			}
		})
	}
	b := good()
	_, err := New[float64]().Evaluate(ppo(), b, kernels.Totals{Tokens: 1, Sequences: 2})
	if err == nil || !strings.Contains(err.Error(), "totals count 1 tokens in 2 sequences, the batch alone has 2 in 2") {
		t.Errorf("totals smaller than the batch: %v", err)
	}
}
