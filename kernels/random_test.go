package kernels_test

import (
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/internal/randombatch"

	"pgregory.net/rapid"
)

func TestDrawnProgramsAndBatchesAreValid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := randombatch.Draw{OneSequence: rapid.Bool().Draw(t, "one sequence")}
		p, b := draw.Program(t), randombatch.Batch(t)
		if err := p.Validate(); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		if err := b.Check(p, kernels.Count(b)); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		if draw.OneSequence && p.Scope() != kernels.OneSequence {
			t.Fatalf("%s: must be evaluated in one piece", p)
		}
	})
}

// A part that no program draws is a part that no property test looks at.
func TestEveryPartIsDrawn(t *testing.T) {
	drawn := map[string]bool{}
	rapid.Check(t, func(t *rapid.T) {
		for range 50 {
			p := randombatch.Program(t)
			drawn[kernels.NameOf(p.Objective)] = true
			for _, c := range p.OffPolicy {
				drawn["off_policy "+kernels.NameOf(c)] = true
			}
			for _, m := range p.Mask {
				drawn["mask "+kernels.NameOf(m)] = true
			}
			for _, r := range p.Regularizers {
				drawn["regularizer "+kernels.NameOf(r)] = true
			}
		}
	})
	for prefix, table := range map[string][]kernels.Variant{
		"": kernels.ObjectiveTable, "off_policy ": kernels.CorrectionTable, "mask ": kernels.MaskTable, "regularizer ": kernels.RegularizerTable,
	} {
		for _, variant := range table {
			if !drawn[prefix+variant.Name] {
				t.Errorf("%s%s is never drawn", prefix, variant.Name)
			}
		}
	}
}
