package trainer

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
)

// Sequences without advantage do not go through the network, and the update is the one that takes them all: they
// count in its denominators.
func TestSilentSequencesCountInEveryDenominator(t *testing.T) {
	norm := func(program kernels.Program) Report {
		l := newLearner(t, oracle{})
		batch := played(t, l, 6, 1)
		for i := range batch[:4] {
			clear(batch[i].Advantage)
		}
		update := usual
		update.Program = program
		report, err := l.Step(t.Context(), batch, update)
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	all := clip
	all.Regularizers = []kernels.Regularizer{kernels.SquaredLogRatio{}} // weighs nothing, and silences nothing
	skipped, whole := norm(clip), norm(all)
	if skipped.Tokens >= whole.Tokens {
		t.Errorf("%d tokens went through the network of %d: nothing was skipped", skipped.Tokens, whole.Tokens)
	}
	if skipped.GradNorm == 0 || math.Abs(skipped.GradNorm-whole.GradNorm) > 1e-6*whole.GradNorm {
		t.Errorf("gradient norm %v, with all sequences gone through %v", skipped.GradNorm, whole.GradNorm)
	}
	if math.Abs(skipped.Loss-whole.Loss) > 1e-6 {
		t.Errorf("loss %v, with all sequences gone through %v", skipped.Loss, whole.Loss)
	}
}

func TestWhatActsWithoutAdvantagesIsNeverSkipped(t *testing.T) {
	for _, edit := range []func(*kernels.Program){
		func(p *kernels.Program) { p.Regularizers = []kernels.Regularizer{kernels.Entropy{Coef: 0.1}} },
		func(p *kernels.Program) { p.Regularizers = []kernels.Regularizer{kernels.NewKL()} },
		func(p *kernels.Program) { p.Objective = kernels.DRO{Beta: 1} },
		func(p *kernels.Program) { p.Objective = kernels.Reinforce{Tau: 1} },
		func(p *kernels.Program) { p.Objective = kernels.CrossEntropy{} },
		func(p *kernels.Program) { p.OffPolicy = []kernels.Correction{kernels.M2PO{Tau: 0.04}} },
	} {
		p := clip
		edit(&p)
		if silencing(p) {
			t.Errorf("%s: tokens without advantage act, and would be skipped", p)
		}
	}
}

func TestABatchOfSilenceMovesNothing(t *testing.T) {
	l := newLearner(t, oracle{})
	batch, before := played(t, l, 3, 1), digest(t, l.Model)
	for i := range batch {
		clear(batch[i].Advantage)
	}
	report, err := l.Step(t.Context(), batch, usual)
	if err != nil {
		t.Fatal(err)
	}
	if report.Updates != 0 || digest(t, l.Model) != before {
		t.Errorf("%d updates from sequences that teach nothing", report.Updates)
	}
}
