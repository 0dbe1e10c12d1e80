package activity

import (
	"math"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/algos"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/trainer/digests"
	"github.com/turnwise-rl/turnwise/trainer/policy"
	"github.com/turnwise-rl/turnwise/workflows"
)

// TestEveryPresetTrains makes one update with each method that comes with the program, on groups that the small
// run sampled. A method that misses something may refuse the groups, and says why then; preparing the run has said so
// before.
func TestEveryPresetTrains(t *testing.T) {
	learnerAlone(t)
	d := newDriver(t, prepared(t))
	if err := d.play(3); err != nil {
		t.Fatal(err)
	}
	manifest, err := d.folder().Manifest(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.a.openRun(t.Context(), runID)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, preset := range algos.Presets() {
		t.Run(preset.Name, func(t *testing.T) {
			own := *r
			own.config.Method = preset.New()
			s := another(t, d.a, &own)
			defer s.free()
			groups, err := s.readGroups(t.Context(), order{batch: manifest.Batch})
			if err != nil {
				t.Fatal(err)
			}
			succeed(groups)
			if err := s.annotate(t.Context(), groups, needsOf(own.config.Method), own.config); err != nil {
				t.Fatal(err)
			}
			streams, err := own.config.Method.Streams(groups, s.arithmetic)
			if rehearsed := own.rehearse(t.Context(), s.arithmetic); (err == nil) != (rehearsed == nil) {
				t.Errorf("credit: %v; rehearsed: %v", err, rehearsed)
			}
			if err != nil && preset.Missing != "" {
				refused++
				t.Skipf("misses %s: %v", preset.Missing, err)
			}
			if err != nil {
				t.Fatal(err)
			}
			sequences, _ := trained(groups, streams, own.config.Method.Loss)
			if len(sequences) == 0 {
				t.Skip("nothing of these groups is trained")
			}
			before, _, _ := s.digests(digests.Formula)
			report, err := s.learner.Step(t.Context(), sequences, trainer.Update{
				Program: own.config.Method.Loss, LearningRate: 1e-3, Minibatches: 1, MicroBatchTokens: 300, Version: 3,
			})
			if err != nil {
				t.Fatal(err)
			}
			if after, _, _ := s.digests(digests.Formula); report.GradNorm > 0 == (after == before) || math.IsNaN(report.GradNorm) {
				t.Errorf("gradient norm %g, weights changed: %v", report.GradNorm, after != before)
			}
		})
	}
	if refused > len(algos.Presets())/2 {
		t.Errorf("%d of %d presets refuse what a run samples", refused, len(algos.Presets()))
	}
}

// another returns a learner for a method, with weights and a reference policy that did not sample the groups.
func another(t *testing.T, a *Activities, r *run) *session {
	t.Helper()
	model, err := newModel(a.Processor, r, 11)
	if err != nil {
		t.Fatal(err)
	}
	s, err := a.newSession(r, model)
	if err != nil {
		t.Fatal(err)
	}
	if s.learner.Reference, err = policy.New(a.Processor, r.shape, policy.Options{Seed: 12, Frozen: true}); err != nil {
		t.Fatal(err)
	}
	return s
}

// succeed lets every other member of a group succeed, which the small policy does not do by itself.
func succeed(groups []rollout.Group) {
	for g := range groups {
		for i := range groups[g].Trajectories {
			outcome := float64(i % 2)
			groups[g].Trajectories[i].Outcome = &outcome
		}
	}
}

// TestMethodIsRehearsed refuses, before anything is trained, a run whose method reads what its episodes do not carry.
func TestMethodIsRehearsed(t *testing.T) {
	learnerAlone(t)
	_, err := fresh(t.TempDir()).prepare(t.Context(), workflows.PrepareInput{Run: runID, Config: string(resolve(t, "method=steptool").YAML())})
	if !isLasting(classify(err)) || !strings.Contains(err.Error(), "method steptool cannot give credit to episodes of lookup") || !strings.Contains(err.Error(), `"contribution"`) {
		t.Errorf("%v; want a lasting error that names the method, the environment and what is missing", err)
	}
}
