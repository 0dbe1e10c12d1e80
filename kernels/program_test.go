package kernels_test

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/internal/randombatch"

	"pgregory.net/rapid"
)

var clip = kernels.Program{
	Ratio: kernels.RatioToken, Anchor: kernels.AnchorProximal, Objective: kernels.ObjectiveClip,
	ClipLow: 0.2, ClipHigh: 0.28, Aggregate: kernels.TokenMean, KL: kernels.KLNone,
}

func TestProgramErrorsBeginWithTheKey(t *testing.T) {
	for _, test := range []struct {
		edit func(*kernels.Program)
		want string
	}{
		{func(p *kernels.Program) {}, ""},
		{func(p *kernels.Program) { p.KL = "" }, ""},
		{func(p *kernels.Program) { p.Ratio, p.Anchor = kernels.RatioOne, "" }, ""},
		{func(p *kernels.Program) { p.Ratio = "" }, `ratio: unknown value "": use one of token, turn, sequence-geometric, sequence-product, one`},
		{func(p *kernels.Program) { p.Anchor = "old" }, `anchor: unknown value "old": use one of proximal, behavior`},
		{func(p *kernels.Program) { p.Objective = "ppo" }, `objective: unknown value "ppo": use one of clip, reinforce`},
		{func(p *kernels.Program) { p.KL = "k4" }, `kl: unknown value "k4": use one of none, k1, k2, k3`},
		{func(p *kernels.Program) { p.ClipLow = 1.5 }, "clip_low: 1.5 is outside [0, 1]: the ratio is bounded below by 1 − clip_low"},
		{func(p *kernels.Program) { p.ClipHigh = math.NaN() }, "clip_high: NaN is not a finite number"},
		{func(p *kernels.Program) { p.DualClip = 1 }, "dual_clip: 1 must be greater than 1, or 0 to turn it off"},
		{func(p *kernels.Program) { p.Objective, p.DualClip = kernels.ObjectiveReinforce, 3 },
			"dual_clip: 3 has no effect with objective reinforce: set it to 0 or objective to clip"},
		{func(p *kernels.Program) { p.Aggregate = kernels.SequenceSumConst }, "aggregate_const: 0 must be positive when aggregate is seq-sum-const"},
		{func(p *kernels.Program) { p.KLCoef = 0.1 }, "kl_coef: 0.1 has no effect with kl none: set kl to k1, k2 or k3, or kl_coef to 0"},
	} {
		p := clip
		test.edit(&p)
		got := ""
		if err := p.Validate(); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s\nerror %q\nwant  %q", p, got, test.want)
		}
	}
}

func TestProgramPrintsWhatHasAnEffect(t *testing.T) {
	if got, want := clip.String(), "ratio=token anchor=proximal objective=clip clip_low=0.2 clip_high=0.28 aggregate=token-mean"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	p := kernels.Program{
		Ratio: kernels.RatioOne, Objective: kernels.ObjectiveReinforce, Aggregate: kernels.SequenceSumConst, AggregateConst: 1024,
		KL: kernels.KLK3, KLCoef: 0.001, EntropyCoef: 0.01,
	}
	if got, want := p.String(), "ratio=one objective=reinforce aggregate=seq-sum-const aggregate_const=1024 kl=k3 kl_coef=0.001 entropy_coef=0.01"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestBatchShapeErrors(t *testing.T) {
	good := kernels.Batch[float32]{
		Offsets: []int32{0, 2}, LogProbs: []float32{-1, -1}, Proximal: []float32{-1, -1}, Advantages: []float32{1, 1}, Sampled: []bool{true, true},
	}
	turns := clip
	turns.Ratio = kernels.RatioTurn
	for name, test := range map[string]struct {
		p    kernels.Program
		edit func(*kernels.Batch[float32])
		want string
	}{
		"offset":  {clip, func(b *kernels.Batch[float32]) { b.Offsets = []int32{1, 2} }, "batch: Offsets begin with 1: they must begin with 0"},
		"order":   {clip, func(b *kernels.Batch[float32]) { b.Offsets = []int32{0, 3, 2} }, "batch: sequence 1 ends at 2 before it begins at 3"},
		"sampled": {clip, func(b *kernels.Batch[float32]) { b.Sampled = b.Sampled[:1] }, "batch: Sampled has 1 values for 2 tokens"},
		"turns":   {turns, func(b *kernels.Batch[float32]) {}, "batch: turn indices (Turn) are nil, and the program needs them (ratio turn, aggregate token-mean)"},
	} {
		b := good
		test.edit(&b)
		if err := b.Check(test.p, kernels.Totals{Tokens: 9, Sequences: 9}); err == nil || err.Error() != test.want {
			t.Errorf("%s: error %v\nwant %s", name, err, test.want)
		}
	}
}

func TestDrawnProgramsAndBatchesAreValid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, b := randombatch.Program(t), randombatch.Batch(t)
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		if err := b.Check(p, kernels.Count(b)); err != nil {
			t.Fatal(err)
		}
	})
}
