package graph

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
)

// Logistic is a surrogate whose pull on a token fades as the token goes where its advantage points:
//
//	L = 2·|A|·log(1 + e^−x),  x = sign(A)·log ρ
type Logistic struct{}

func (Logistic) Reads() kernels.Stream { return kernels.ReadsAdvantages }
func (Logistic) UsesRatio() bool       { return true }
func (Logistic) Scope() kernels.Scope  { return kernels.OneSequence }

func logistic(b *builder, in inputs) terms {
	x := b.mul(b.sign(in.advantages), in.logRatio)
	return terms{loss: b.scale(2, b.mul(b.abs(in.advantages), b.softplus(b.neg(x))))}
}

func TestLogisticNeedsNoDerivative(t *testing.T) {
	batch := kernels.Batch[float64]{
		Offsets: []int32{0, 4, 6}, Sampled: []bool{true, true, false, true, true, true}, Turn: []int32{0, 0, -1, 1, 0, 0},
		LogProbs: []float64{-1.2, -0.4, 0, -2.1, -0.7, -1.6}, Proximal: []float64{-1, -0.9, 0, -2, -0.8, -1.1},
		Advantages: []float64{1, 1, 0, -0.5, -2, -2},
	}
	for _, level := range kernels.Ratios[:4] {
		evaluate := evaluationOf(t, program(Logistic{}, ratio(level), throughSegment), logistic, batch)
		for i, gradient := range evaluate().DLogProbs {
			want := difference(batch.LogProbs, i, func() float64 { return evaluate().Loss })
			if math.Abs(gradient-want) > 1e-7 {
				t.Errorf("%s ratio, token %d: gradient %v, finite difference %v", level, i, gradient, want)
			}
		}
	}
}
