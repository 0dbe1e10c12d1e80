package activity

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/algos/shape"
	"github.com/turnwise-rl/turnwise/workflows"
)

// trainedMethods are methods of every kind that really train, as edits to the small run. Its policy hardly ever
// succeeds, so rewards are partial credit where a method leaves the choice.
var trainedMethods = map[string]struct {
	edits []string
	// want looks at the steps of reinforcement learning.
	want func(t *testing.T, steps []trace)
}{
	"matchtir":    {edits: []string{"method=matchtir"}, want: comparesWithReference},
	"matchtir-ot": {edits: []string{"method=matchtir-ot"}, want: comparesWithReference},
	"gtpo":        {edits: []string{"method=gtpo", answered}},
	"gigpo":       {edits: []string{"method=gigpo", answered, "method.turn_reward.bad_format=-0.1"}},
	"ppo": {edits: []string{"method=grpo", matched, "method.advantage.transforms=[{type: whiten}]",
		"method.advantage.terms=[{name: gae, credit: {type: gae, of: total, lambda: 0.95}, center: none, scale: none}]",
		"method.loss.regularizers=[{type: value}]"}, want: learnsValues},
	"reveal": {edits: []string{"method=grpo", matched, "method.advantage.terms=[{name: neighbor, credit: {type: neighbor_return}, center: critic, scale: none}]",
		"method.loss.regularizers=[{type: value}]"}, want: learnsValues},
	"steptool": {edits: []string{"method=grpo", matched, "method.shape=[{type: kl_in_reward, coef: 0.3, target: 0.1, horizon: 20}]",
		"method.advantage.terms=[{name: gae, credit: {type: gae, of: total, discount: 0.99, lambda: 0.95}, center: none, scale: none}]",
		"method.loss.regularizers=[{type: value}]"}, want: adapts},
	"toolpo": {edits: []string{"method=grpo", answered, matched,
		"method.advantage.terms=[{name: success, scale: none}, {name: action, credit: {type: broadcast, of: turns}, scale: none, support: calls}]"}},
	"at2po": {edits: []string{"method=grpo", answered, "method.shape=[{type: overlong, max_length: 200, cache: 200, length: sampled}]", "method.advantage.terms=[{credit: {type: tree_value}, center: none, scale: none}]",
		"method.loss.ratio=turn", "method.loss.aggregate=seq-mean-token-mean"}},
	"arpo": {edits: []string{"method=grpo", matched, "method.advantage.terms=[{credit: {type: broadcast, of: turns}}]", "method.advantage.transforms=[{type: shared_prefix_mean}]"}},
	"dpo": {edits: []string{"method=grpo", matched, "method.pair={type: sorted, of: total}", "method.loss.ratio=one", "method.loss.objective={type: dpo}",
		"training.micro_batch_tokens=150"}, want: prefers},
	"ranks": {edits: []string{"method=grpo", matched, "method.pair={type: rank, of: total}", "method.loss.ratio=one", "method.loss.objective={type: rank}"}},
	"weighted imitation": {edits: []string{"method=grpo", answered, "method.weight=[{type: imitate, at_least: 0, stream: loss}]", "method.loss.ratio=one",
		"method.loss.objective={type: cross_entropy}", "method.loss.aggregate=weighted-mean"}},
	"imitation beside": {edits: []string{"method=grpo", matched, "method.advantage.terms=[{credit: {type: broadcast, of: turns}}]", "method.weight=[{type: imitate, at_least: 0}]",
		"method.loss.regularizers=[{type: cross_entropy, coef: 0.1}]"}},
	"sequence ratio": {edits: []string{"method=grpo", matched, "method.advantage.terms=[{credit: {type: broadcast, of: turns}}]", "method.loss.ratio=sequence-geometric",
		"method.loss.aggregate=seq-mean-token-mean"}},
	"rejected leave": {edits: []string{"method=grpo", matched, "method.advantage.terms=[{credit: {type: broadcast, of: turns}}]",
		"method.loss.off_policy=[{type: m2po}]", "method.loss.rejected=leave", "training.micro_batch_tokens=150"}},
}

const (
	// answered gives partial credit for an answer, matched for calls.
	answered = "method.outcome={type: answer_f1}"
	matched  = "method.turn_reward={type: match}"
)

// TestMethodsTrain makes a short run with each method: every step moves the weights, every figure is a number,
// and a learner that is thrown away before each step comes back by redo to the same bits.
func TestMethodsTrain(t *testing.T) {
	learnerAlone(t)
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

// comparesWithReference: the policy leaves the one after the warm start.
func comparesWithReference(t *testing.T, steps []trace) {
	t.Helper()
	if last := steps[len(steps)-1].Report.ReferenceKL; !(last > 0) {
		t.Errorf("the last step diverges from the reference policy by %g", last)
	}
}

// learnsValues: the critic starts at zero and is wrong, and its values come to tell something.
func learnsValues(t *testing.T, steps []trace) {
	t.Helper()
	if first, last := steps[0].Report, steps[len(steps)-1].Report; first.ExplainedVariance != 0 || !(first.ValueError > 0) || last.ExplainedVariance == 0 {
		t.Errorf("first step %+v\nlast step %+v", first, last)
	}
}

// adapts: what leaving the reference policy costs follows the divergence of the step before.
func adapts(t *testing.T, steps []trace) {
	t.Helper()
	learnsValues(t, steps)
	for i, step := range steps {
		charged, want := step.Rewards.Divergence, 0.3
		if i > 0 {
			before := steps[i-1].Rewards.Divergence
			want = shape.NextKLCoef(before.Coef, before.Mean, 0.1, 9, 20)
		}
		if charged == nil || charged.Coef != want || charged.Trajectories != 9 || (i > 0) != (charged.Mean != 0) {
			t.Errorf("step %d charges %+v, want coefficient %g", step.Step, charged, want)
		}
	}
}

// prefers: pairs of the group are trained, and who is in none is written down as dropped.
func prefers(t *testing.T, steps []trace) {
	t.Helper()
	for _, step := range steps {
		paired := 0
		for _, row := range step.Ledger {
			if row.State == "trained" {
				paired++
			} else if row.Reason != "unpaired" {
				t.Errorf("step %d: %s is %s: %s", step.Step, row.Trajectory, row.State, row.Reason)
			}
		}
		if r := step.Report; r.Pairs == 0 || 2*r.Pairs != paired || step.Rewards.Kept != paired {
			t.Errorf("step %d: %d pairs, %d trajectories in the ledger, %d kept", step.Step, r.Pairs, paired, step.Rewards.Kept)
		}
	}
}

// TestCriticFromAnExport starts a critic on a policy that has none; what is exported is the policy alone, which a run
// without a critic goes on from.
func TestCriticFromAnExport(t *testing.T) {
	learnerAlone(t)
	first := newDriver(t, prepared(t))
	complete(t, first)
	short := []string{"sampling={max_turns: 3, max_turn_tokens: 24, max_tokens: 250, slots: 2}", "warm_start.steps=0"}
	d, config := from(t, first.folder().PolicyPath(), append(short, trainedMethods["ppo"].edits...)...)
	if err := CheckStart(config); err != nil {
		t.Fatal(err)
	}
	d.beforeStep = func(int) { d.restart() }
	complete(t, d)
	learnsValues(t, d.traces()[1:])
	digestOf(t, d.folder().PolicyPath()) // reads the folder without a value head
	again, config := from(t, d.folder().PolicyPath(), short...)
	if err := CheckStart(config); err != nil {
		t.Fatal(err)
	}
	complete(t, again)
}
