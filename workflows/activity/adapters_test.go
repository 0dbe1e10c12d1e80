package activity

import (
	"testing"

	"github.com/turnwise-rl/turnwise/trainer/policy"
	"github.com/turnwise-rl/turnwise/workflows"
)

// TestAdaptersTrain plays a run that trains adapters of a network of another family: sampler and learner
// agree to the last bit, a learner that is thrown away comes back, and the policy that is exported is one
// network without adapters.
func TestAdaptersTrain(t *testing.T) {
	learnerAlone(t)
	overrides := []string{"policy.family=llama", "policy.lora={rank: 2, alpha: 4, targets: [q_proj, down_proj, lm_head]}", "policy.untied_head=true"}
	dir := t.TempDir()
	if _, err := fresh(dir).prepare(t.Context(), workflows.PrepareInput{Run: runID, Config: string(resolve(t, overrides...).YAML())}); err != nil {
		t.Fatal(err)
	}
	d := newDriver(t, dir, overrides...)
	d.beforeStep = func(step int) {
		if step == 5 {
			d.restart()
		}
	}
	complete(t, d)
	traces := d.traces()
	for step := 1; step < len(traces); step++ {
		// Adapters of a random network learn too little for groups to differ, so only imitation is sure to move them.
		if step <= 2 && traces[step].Weights == traces[step-1].Weights {
			t.Errorf("step %d changes no weight", step)
		}
		if gap := traces[step].Report.OnPolicyGap; step > 2 && gap != 0 {
			t.Errorf("step %d: sampler and learner differ by %g", step, gap)
		}
	}
	exported, err := policy.LoadFolder(d.a.Processor, d.folder().PolicyPath(), policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := exported.Config(); got.Family != policy.Llama || !got.UntiedHead {
		t.Errorf("exported %+v", got)
	}
}
