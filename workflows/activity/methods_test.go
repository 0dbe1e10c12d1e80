package activity

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/workflows"
)

// trainedMethods are methods of every kind that really train, as edits to the small run.
var trainedMethods = map[string]struct {
	edits []string
	// want looks at the reports of the steps of reinforcement learning.
	want func(t *testing.T, steps []trace)
}{
	"matchtir":    {edits: []string{"method=matchtir"}, want: comparesWithReference},
	"matchtir-ot": {edits: []string{"method=matchtir-ot"}, want: comparesWithReference},
	"gtpo":        {edits: []string{"method=gtpo", answered}},
	"gigpo":       {edits: []string{"method=gigpo", answered, "method.turn_reward.bad_format=-0.1"}},
}

// answered gives partial credit for an answer, which the small run's policy earns now and then.
const answered = "method.outcome={type: answer_f1}"

// TestMethodsTrain makes a short run with each method: every step moves the weights, every figure is a number,
// and a learner that is thrown away before each step comes back by redo to the same bits.
func TestMethodsTrain(t *testing.T) {
	for name, method := range trainedMethods {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			overrides := append([]string{"checkpoint.every=2"}, method.edits...)
			d := newDriver(t, preparedAnew(t, overrides...), overrides...)
			complete(t, d)
			traces := d.traces()
			steps := traces[len(traces)-3:]
			for i, step := range steps {
				before := traces[len(traces)-4+i]
				if step.Weights == before.Weights {
					t.Errorf("step %d does not change the weights", step.Step)
				}
				r := step.Report
				if r.GradNorm <= 0 || math.IsNaN(r.Loss+r.GradNorm) || r.TokensTrained == 0 || r.OnPolicyGap != 0 || r.KeptRatio <= 0 {
					t.Errorf("step %d: %+v", step.Step, r)
				}
			}
			if method.want != nil {
				method.want(t, steps)
			}
			again := newDriver(t, preparedAnew(t, overrides...), overrides...)
			again.beforeStep = func(int) { again.restart() }
			complete(t, again)
			if diff := cmp.Diff(traces, again.traces()); diff != "" {
				t.Errorf("redo gives other steps (-undisturbed +thrown away):\n%s", diff)
			}
			if diff := cmp.Diff(d.evaluations(), again.evaluations()); diff != "" {
				t.Errorf("redo gives other evaluations (-undisturbed +thrown away):\n%s", diff)
			}
		})
	}
}

// preparedAnew is prepared for settings that change what preparing makes.
func preparedAnew(t *testing.T, overrides ...string) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := fresh(dir).prepare(t.Context(), workflows.PrepareInput{Run: runID, Config: string(resolve(t, overrides...).YAML())}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// comparesWithReference: nothing diverges before the first update, and something does after it.
func comparesWithReference(t *testing.T, steps []trace) {
	t.Helper()
	if last := steps[len(steps)-1].Report.ReferenceKL; !(last > 0) {
		t.Errorf("the last step diverges from the reference policy by %g", last)
	}
}
