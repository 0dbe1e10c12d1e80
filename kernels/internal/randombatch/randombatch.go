// Package randombatch draws loss programs and batches for property tests.
package randombatch

import (
	"slices"

	"github.com/turnwise-rl/turnwise/kernels"

	"pgregory.net/rapid"
)

// Program draws a valid program: any combination of ratio, anchor, objective, corrections, masks,
// aggregation and regularizers.
func Program(t *rapid.T) kernels.Program { return Draw{}.Program(t) }

// Draw says which programs to draw.
type Draw struct {
	// Objectives names those to draw from; nil means all of the table.
	Objectives []string
	// OneSequence leaves out programs that must be evaluated in one piece.
	OneSequence bool
}

// Program draws a valid program.
func (d Draw) Program(t *rapid.T) kernels.Program {
	names := d.Objectives
	if names == nil {
		names = namesOf(kernels.ObjectiveTable)
	}
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return d.OneSequence && wholeUpdate[name] })
	name := pick(t, "objective", names)
	p := kernels.Program{
		Objective:     objective(t, name),
		RatioGradient: kernels.GradientOwn,
		Anchor:        pick(t, "anchor", kernels.Anchors),
		Rejected:      kernels.RejectedStay,
		Aggregate:     pick(t, "aggregate", kernels.Aggregations),
		Regularizers:  regularizers(t),
	}
	p.Ratio = ratio(t, p.Objective)
	if hasSegment(p.Ratio) && differentiatesRatio(p.Objective) {
		p.RatioGradient = pick(t, "ratio_gradient", kernels.RatioGradients)
	}
	if p.Aggregate == kernels.SequenceSumConst {
		p.AggregateConst = pick(t, "aggregate_const", []float64{1, 37.5})
	}
	if comparesSequences(p.Objective) {
		return p
	}
	if p.Objective.UsesRatio() {
		p.OffPolicy = d.corrections(t, p)
	}
	p.Mask = d.masks(t, p)
	if len(p.OffPolicy)+len(p.Mask) > 0 && hasDenominator(p.Aggregate) && !d.OneSequence {
		p.Rejected = pick(t, "rejected", kernels.Rejecteds)
	}
	return p
}

// wholeUpdate are the objectives that join the sequences of an update.
var wholeUpdate = map[string]bool{"clip_cov": true, "kl_cov": true, "dpo": true, "ipo": true, "dmpo": true, "rank": true}

// ratio draws a granularity that fits the objective.
func ratio(t *rapid.T, objective kernels.Objective) kernels.Ratio {
	switch o := objective.(type) {
	case kernels.DPPO, kernels.Distill, kernels.DRO, kernels.ClipCov, kernels.KLCov:
		return kernels.RatioToken
	case kernels.GMPO:
		return kernels.RatioSequenceGeometric
	case kernels.Reinforce:
		if o.Tau == 0 {
			return pick(t, "ratio", kernels.Ratios)
		}
	}
	if !objective.UsesRatio() {
		return kernels.RatioOne
	}
	return pick(t, "ratio", kernels.Ratios[:4])
}

func hasSegment(r kernels.Ratio) bool {
	return r == kernels.RatioTurn || r == kernels.RatioSequenceGeometric || r == kernels.RatioSequenceProduct
}

// differentiatesRatio is true when a gradient flows through the Program's ratio.
func differentiatesRatio(o kernels.Objective) bool {
	switch o.(type) {
	case kernels.Clip, kernels.ClipKeep, kernels.SAPO:
		return true
	}
	return false
}

func comparesSequences(o kernels.Objective) bool {
	switch o.(type) {
	case kernels.DPO, kernels.IPO, kernels.DMPO, kernels.Rank:
		return true
	}
	return false
}

func hasDenominator(a kernels.Aggregation) bool {
	return a != kernels.TokenSum && a != kernels.SequenceSumConst
}

func namesOf(table []kernels.Variant) []string {
	names := make([]string, len(table))
	for i, variant := range table {
		names[i] = variant.Name
	}
	return names
}

func pick[V any](t *rapid.T, label string, values []V) V {
	return rapid.SampledFrom(values).Draw(t, label)
}

func oneIn(t *rapid.T, n int, label string) bool { return rapid.IntRange(1, n).Draw(t, label) == n }
