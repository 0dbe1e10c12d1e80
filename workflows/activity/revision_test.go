package activity

import (
	"context"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/workflows"
)

// change asks for a revision of the config.
func (p *apprentice) change(base, revision int, overrides ...string) (workflows.ChangeResult, error) {
	result, err := p.a.changeConfig(p.t.Context(), workflows.ChangeInput{Run: p.run, Base: base, Revision: revision, Overrides: overrides})
	return result, classify(err)
}

// TestStepsUseTheirRevision changes the learning rate for some steps. A learner that makes them again uses the
// revision that each manifest records.
func TestStepsUseTheirRevision(t *testing.T) {
	learnerAlone(t)
	run := func(lost bool) *apprentice {
		p := newApprentice(t, "checkpoint.every=9")
		p.trainTo(3)
		for range 2 { // an attempt that is made again
			result, err := p.change(0, 1, "optimizer.learning_rate=0.02", "training.staleness=3")
			if err != nil || result.Spec.Staleness != 3 || !strings.Contains(result.Summary, "training.staleness 0 → 3") || !strings.Contains(result.Summary, "optimizer.learning_rate") {
				t.Fatalf("%+v, %v", result, err)
			}
		}
		if result, err := p.change(1, 2, "training.staleness=0"); err != nil || result.Spec.Staleness != 0 {
			t.Fatalf("%+v, %v", result, err)
		}
		for revision := 1; revision <= 2; revision++ {
			if lost {
				p.restart()
			}
			input := p.input(3 + revision)
			input.Config = revision
			p.train(input)
		}
		if m := p.manifest(4); m.Config != 1 || p.manifest(5).Config != 2 || p.manifest(3).Config != 0 {
			t.Errorf("step 4 has revision %d", m.Config)
		}
		return p
	}
	kept, lost := run(false), run(true)
	equalSteps(t, kept.digests(0), lost.digests(0))
	if kept.digests(4)[0] == straightDigests(t)[4] {
		t.Error("the changed rate changes nothing")
	}
	found, err := kept.a.found(t.Context(), kept.folder())
	if err != nil || found.Config != 2 || found.Spec == nil || found.Spec.Staleness != 0 {
		t.Errorf("found %+v, %v; want revision 2 with its plan", found, err)
	}
}

// TestMethodChanges in mid-run; the next step trains with it.
func TestMethodChanges(t *testing.T) {
	learnerAlone(t)
	p := newApprentice(t)
	p.trainTo(3)
	result, err := p.change(0, 1, "method.loss.objective.clip_high=0.5")
	if err != nil || result.Summary != "method.loss.objective.clip_high 0.2 → 0.5" {
		t.Fatalf("%+v, %v", result, err)
	}
	input := p.input(4)
	input.Config = 1
	p.train(input)
}

// TestRefusedChanges are the user's mistakes: lasting, and nothing is written.
func TestRefusedChanges(t *testing.T) {
	p := newApprentice(t)
	for _, test := range []struct {
		base, revision int
		override, want string
	}{
		{0, 1, "seed=4", "cannot change"},
		{0, 1, "training.staleness=-1", "too small"},
		{0, 1, "training.stalenes=1", "stalenes"},
		{1, 1, "training.staleness=1", "not after"},
	} {
		if _, err := p.change(test.base, test.revision, test.override); !isLasting(err) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: lasting %v: %v; want %q", test.override, isLasting(err), err, test.want)
		}
	}
	if revisions, err := p.folder().Revisions(context.Background()); err != nil || len(revisions) != 0 {
		t.Errorf("revisions %v, %v; want none", revisions, err)
	}
	if _, err := p.change(0, 1, "training.staleness=1"); err != nil {
		t.Fatal(err)
	}
	input := p.input(1)
	input.Config = 5
	if _, err := p.order(input); !isLasting(err) || !strings.Contains(err.Error(), "revision 5") {
		t.Errorf("an unknown revision: %v", err)
	}
}

// TestChangeWhoseAnswerWasLost finds its revision written. The same values take it up, however they are asked for;
// others are refused with what to do, and come after it.
func TestChangeWhoseAnswerWasLost(t *testing.T) {
	p := newApprentice(t)
	if _, err := p.change(0, 1, "training.staleness=1", "optimizer.learning_rate=0.02"); err != nil {
		t.Fatal(err)
	}
	_, err := p.change(0, 1, "training.staleness=2")
	if !isLasting(err) || !strings.Contains(err.Error(), "revision 1 of the config exists") || !strings.Contains(err.Error(), "training.staleness 0 → 1") ||
		!strings.Contains(err.Error(), "try that change again") {
		t.Errorf("another revision 1: lasting %v: %v", isLasting(err), err)
	}
	again, err := p.change(0, 1, "optimizer.learning_rate=2e-2", "training.staleness=1")
	if err != nil || again.Spec.Staleness != 1 || !strings.Contains(again.Summary, "training.staleness 0 → 1") {
		t.Errorf("the same values in another order: %+v, %v", again, err)
	}
	if next, err := p.change(1, 2, "training.staleness=2"); err != nil || next.Spec.Staleness != 2 {
		t.Errorf("the change after it: %+v, %v", next, err)
	}
}
