package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	"pgregory.net/rapid"
)

// edit changes a setting of a program.
type edit func(*kernels.Program)

// program is the plain loss of an objective at token level, edited.
func program(o kernels.Objective, edits ...edit) kernels.Program {
	p := kernels.Program{
		Ratio: kernels.RatioToken, RatioGradient: kernels.GradientOwn, Anchor: kernels.AnchorProximal, Objective: o,
		Rejected: kernels.RejectedStay, Aggregate: kernels.TokenMean,
	}
	if !o.UsesRatio() {
		p.Ratio = kernels.RatioOne
	}
	for _, edit := range edits {
		edit(&p)
	}
	return p
}

// ppo is the loss with its default bounds, policyGradient the score-function loss without a ratio.
func ppo(edits ...edit) kernels.Program {
	return program(kernels.Clip{ClipLow: 0.2, ClipHigh: 0.2}, edits...)
}

func policyGradient(edits ...edit) kernels.Program {
	return program(kernels.Reinforce{}, append([]edit{ratio(kernels.RatioOne)}, edits...)...)
}

func ratio(r kernels.Ratio) edit { return func(p *kernels.Program) { p.Ratio = r } }

func anchor(a kernels.Anchor) edit { return func(p *kernels.Program) { p.Anchor = a } }

func aggregate(a kernels.Aggregation) edit { return func(p *kernels.Program) { p.Aggregate = a } }

// summed makes the loss the plain sum of the token losses.
func summed(p *kernels.Program) { p.Aggregate = kernels.TokenSum }

func throughSegment(p *kernels.Program) { p.RatioGradient = kernels.GradientSegment }

func offPolicy(parts ...kernels.Correction) edit {
	return func(p *kernels.Program) { p.OffPolicy = parts }
}

func masked(parts ...kernels.Mask) edit { return func(p *kernels.Program) { p.Mask = parts } }

func regularized(parts ...kernels.Regularizer) edit {
	return func(p *kernels.Program) { p.Regularizers = parts }
}

// oneTurn marks every token of every sequence as sampled in turn 0.
func oneTurn(b kernels.Batch[float64]) kernels.Batch[float64] {
	b.Sampled, b.Turn = make([]bool, b.Tokens()), make([]int32, b.Tokens())
	for i := range b.Sampled {
		b.Sampled[i] = true
	}
	return b
}

// arranged is a batch with its sequences in another order and tokens that are not sampled around them. from is the
// position in b of each token, −1 for the added ones.
func arranged(t *rapid.T, b kernels.Batch[float64], order []int) (out kernels.Batch[float64], from []int) {
	var offsets []int32
	offsets = append(offsets, 0)
	pad := func() {
		for range rapid.IntRange(0, 3).Draw(t, "padding") {
			from = append(from, -1)
		}
	}
	for _, i := range order {
		pad()
		for at := b.Offsets[i]; at < b.Offsets[i+1]; at++ {
			from = append(from, int(at))
		}
		pad()
		offsets = append(offsets, int32(len(from)))
	}
	out = b
	out.Offsets = offsets
	for _, stream := range []*[]float64{
		&out.LogProbs, &out.Proximal, &out.Behavior, &out.Reference, &out.Entropy, &out.Values, &out.OldValues, &out.Returns,
		&out.Advantages, &out.LossWeights, &out.CEWeights, &out.ReferenceKLWeights,
	} {
		*stream = picked(*stream, from, 99)
	}
	out.Sampled, out.Turn, out.Versions = picked(b.Sampled, from, false), picked(b.Turn, from, -1), picked(b.Versions, from, 0)
	out.Pair, out.Chosen, out.Group = picked(b.Pair, order, 0), picked(b.Chosen, order, false), picked(b.Group, order, 0)
	out.RankScores, out.Outcomes, out.ClipHigh = picked(b.RankScores, order, 0), picked(b.Outcomes, order, 0), picked(b.ClipHigh, order, 0)
	return out, from
}

// picked are the values at some places; padding where a place is negative.
func picked[V any](values []V, places []int, padding V) []V {
	if values == nil {
		return nil
	}
	out := make([]V, len(places))
	for i, at := range places {
		out[i] = padding
		if at >= 0 {
			out[i] = values[at]
		}
	}
	return out
}
