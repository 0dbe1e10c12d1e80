package runfolder

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// TestRetention lists, step by step, what of a run at step 12 need not be there any more: w for weights, o for an
// optimizer's state.
func TestRetention(t *testing.T) {
	plan := runstate.Spec{WarmSteps: 2, TrainSteps: 18, CheckpointEvery: 3, EvaluateEvery: 5}
	for name, test := range map[string]struct {
		rule       Retention
		checkpoint int
		want       string
	}{
		"two checkpoints": {Retention{Plan: plan, Checkpoints: 2}, 12, "0 1wo 2 3wo 4wo 5wo 6wo 7 8w 9 10 11 12 "},
		// Live changes may have made checkpoints rarer than the rule counts: the newest one stays all the same.
		"no newer checkpoint": {Retention{Plan: plan, Checkpoints: 2}, 6, "0 1wo 2 3wo 4wo 5wo 6 7 8w 9 10 11 12 "},
		"a fork":              {Retention{Plan: plan, Checkpoints: 2, Adopted: 10}, 12, "0 1wo 2 3wo 4wo 5wo 6wo 7wo 8wo 9wo 10wo 11 12 "},
	} {
		got := ""
		for step := range 13 {
			m := Manifest{Step: step}
			if step%3 == 0 {
				m.Checkpoint = &Checkpoint{}
			}
			weights, optimizer := test.rule.Passing(m, 12, test.checkpoint)
			got += fmt.Sprint(step)
			if weights {
				got += "w"
			}
			if optimizer {
				got += "o"
			}
			got += " "
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
