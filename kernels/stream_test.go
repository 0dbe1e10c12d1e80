package kernels_test

import (
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
)

func TestStreamSets(t *testing.T) {
	set := kernels.ReadsBehavior | kernels.ReadsOutcomes
	if !set.Has(kernels.ReadsBehavior) || set.Has(kernels.ReadsBehavior|kernels.ReadsTurns) || !set.Has(0) {
		t.Errorf("%s: wrong members", set)
	}
	var each []string
	(set | kernels.ReadsAdvantages).Each(func(s kernels.Stream) { each = append(each, s.String()) })
	if len(each) != 3 || each[0] != "advantages" || each[1] != "behavior" || each[2] != "outcome" {
		t.Errorf("streams one by one: %v", each)
	}
	kernels.Stream(0).Each(func(s kernels.Stream) { t.Errorf("the empty set has %s", s) })
	all := "advantages, proximal, behavior, reference, entropy, values, old_values, returns, ce_weights, reference_kl_weights, turn, versions, pair, rank_score, outcome"
	if got := (kernels.ReadsOutcomes<<1 - 1).String(); got != all {
		t.Errorf("all streams: %s", got)
	}
}

func TestProgramReads(t *testing.T) {
	for _, c := range []struct {
		want  string
		scope kernels.Scope
		edits []edit
	}{
		{"advantages, proximal", kernels.OneSequence, nil},
		{"", kernels.OneSequence, []edit{objective(nil), func(p *kernels.Program) { p.Ratio = kernels.RatioOne }}},
		{"", kernels.OneSequence, []edit{unrated(kernels.CrossEntropy{})}},
		{"advantages", kernels.OneSequence, []edit{unrated(kernels.Reinforce{})}},
		{"advantages, behavior", kernels.OneSequence, []edit{func(p *kernels.Program) { p.Anchor = kernels.AnchorBehavior }}},
		{"advantages, behavior, versions", kernels.OneSequence, []edit{func(p *kernels.Program) { p.Anchor = kernels.AnchorLogLinear }}},
		{"advantages, behavior, versions", kernels.OneSequence, []edit{func(p *kernels.Program) { p.Anchor = kernels.AnchorLinear }}},
		{"advantages, proximal, behavior", kernels.OneSequence, []edit{unrated(kernels.Reinforce{}), offPolicy(kernels.Veto{})}},
		{"advantages, proximal, turn", kernels.OneSequence, []edit{func(p *kernels.Program) { p.Ratio = kernels.RatioTurn }}},
		{"advantages, proximal, turn", kernels.OneSequence, []edit{func(p *kernels.Program) { p.Aggregate = kernels.StepMean }}},
		{"advantages, proximal, outcome", kernels.OneSequence, []edit{objective(kernels.TOPR{})}},
		{"proximal, reference", kernels.OneSequence, []edit{objective(kernels.Distill{})}},
		{"reference, pair", kernels.WholeUpdate, []edit{unrated(kernels.DPO{})}},
		{"reference, pair", kernels.WholeUpdate, []edit{unrated(kernels.IPO{})}},
		{"reference, turn, pair", kernels.WholeUpdate, []edit{unrated(kernels.DMPO{})}},
		{"rank_score", kernels.WholeUpdate, []edit{unrated(kernels.Rank{})}},
		{"advantages, proximal", kernels.WholeUpdate, []edit{objective(kernels.KLCov{})}},
		{"advantages, proximal", kernels.WholeUpdate, []edit{objective(kernels.ClipCov{})}},
		{"advantages, proximal, entropy", kernels.WholeUpdate, []edit{masks(kernels.EntropyQuantile{})}},
		{"advantages, proximal, behavior", kernels.OneSequence, []edit{masks(kernels.NegativeDrift{})}},
		{"advantages, proximal, behavior", kernels.WholeUpdate, []edit{offPolicy(kernels.Veto{}), func(p *kernels.Program) { p.Rejected = kernels.RejectedLeave }}},
		{"advantages, proximal, behavior", kernels.WholeUpdate, []edit{offPolicy(kernels.M2PO{})}},
		{"advantages, proximal, behavior", kernels.WholeUpdate, []edit{offPolicy(kernels.TIS{Normalize: kernels.NormalizeSequences})}},
		{"advantages, proximal, behavior", kernels.OneSequence, []edit{offPolicy(kernels.TIS{Normalize: kernels.NormalizeNone}, kernels.Reject{}, kernels.IcePop{}, kernels.BehaviorWeight{})}},
		{"advantages, proximal, reference, entropy, values, returns, ce_weights, reference_kl_weights", kernels.OneSequence,
			[]edit{regularizers(kernels.KL{}, kernels.Entropy{}, kernels.AuxiliaryCE{}, kernels.ReferenceKL{}, kernels.Value{})}},
		{"advantages, proximal, behavior, values, old_values, returns", kernels.OneSequence, []edit{regularizers(kernels.SquaredLogRatio{}, kernels.Value{Clip: 1})}},
	} {
		p := clip
		for _, edit := range c.edits {
			edit(&p)
		}
		if got := p.Reads().String(); got != c.want || p.Scope() != c.scope {
			t.Errorf("%s: reads %s, scope %d; want %s, scope %d", p, got, p.Scope(), c.want, c.scope)
		}
	}
}
