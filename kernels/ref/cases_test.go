package ref

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Cases small enough to check by hand: ratios and probabilities are powers of two or simple roots.
type worked struct {
	name    string
	p       kernels.Program
	b       kernels.Batch[float64]
	loss    float64
	slopes  []float64
	metrics func(kernels.Metrics) bool
}

func check(t *testing.T, cases []worked) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := Evaluate(c.p, c.b, kernels.Count(c.b))
			if err != nil {
				t.Fatal(err)
			}
			type result struct {
				Loss   float64
				Slopes []float64
			}
			if diff := cmp.Diff(result{c.loss, c.slopes}, result{got.Loss, got.DLogProbs}, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.p, diff)
			}
			if c.metrics != nil && !c.metrics(got.Metrics) {
				t.Errorf("%s: metrics %+v", c.p, got.Metrics)
			}
		})
	}
}

func about(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

var ln2, ln4 = math.Log(2), math.Log(4)

// of is the sum of the objective's token losses, with ratios of tokens.
func of(o kernels.Objective, edits ...func(*kernels.Program)) kernels.Program {
	p := kernels.Program{
		Ratio: kernels.RatioToken, RatioGradient: kernels.GradientOwn, Anchor: kernels.AnchorProximal, Objective: o,
		Rejected: kernels.RejectedStay, Aggregate: kernels.TokenSum,
	}
	if !o.UsesRatio() {
		p.Ratio = kernels.RatioOne
	}
	for _, edit := range edits {
		edit(&p)
	}
	return p
}

func ratioOf(r kernels.Ratio, gradient kernels.RatioGradient) func(*kernels.Program) {
	return func(p *kernels.Program) { p.Ratio, p.RatioGradient = r, gradient }
}

func anchored(a kernels.Anchor) func(*kernels.Program) {
	return func(p *kernels.Program) { p.Anchor = a }
}

func aggregated(a kernels.Aggregation) func(*kernels.Program) {
	return func(p *kernels.Program) { p.Aggregate, p.AggregateConst = a, 10 }
}

func leave(p *kernels.Program) { p.Rejected = kernels.RejectedLeave }

func corrected(parts ...kernels.Correction) func(*kernels.Program) {
	return func(p *kernels.Program) { p.OffPolicy = parts }
}

func masked(parts ...kernels.Mask) func(*kernels.Program) {
	return func(p *kernels.Program) { p.Mask = parts }
}

func with(parts ...kernels.Regularizer) func(*kernels.Program) {
	return func(p *kernels.Program) { p.Regularizers = parts }
}

// row is one sequence of sampled tokens in one turn, log-probability −1 each, with log-ratios d to every other policy.
func row(advantages []float64, d ...float64) kernels.Batch[float64] {
	b := kernels.Batch[float64]{Offsets: []int32{0, int32(len(d))}, Advantages: advantages}
	for _, d := range d {
		b.LogProbs, b.Proximal = append(b.LogProbs, -1), append(b.Proximal, -1-d)
		b.Sampled, b.Turn = append(b.Sampled, true), append(b.Turn, 0)
	}
	b.Behavior, b.Reference = b.Proximal, b.Proximal
	return b
}

// rows are a row cut into sequences.
func rows(offsets []int32, b kernels.Batch[float64]) kernels.Batch[float64] {
	b.Offsets = offsets
	return b
}
