package configs

import (
	"fmt"
	"reflect"

	"github.com/turnwise-rl/turnwise/algos"
	"github.com/turnwise-rl/turnwise/kernels"
)

// offPolicyKey is the path of the corrections for what older policies sampled.
const offPolicyKey = "method.loss.off_policy"

// Decoupled is the correction that a run with training.staleness above 0 trains with when its loss has no
// view of the policies that sampled: the weight π_p/μ of decoupled PPO, as the preset decoupled-ppo has it.
func Decoupled() kernels.Correction {
	return kernels.BehaviorWeight{Level: kernels.LevelToken, Action: kernels.ActionClamp, Low: 0, High: 5}
}

// blind is true when a loss that is importance-weighted reads nothing of the policy that sampled. The
// other losses, of imitation and of preferences, hold for samples of any policy.
func blind(loss kernels.Program) bool {
	return loss.Objective != nil && loss.Objective.UsesRatio() && !loss.Reads().Has(kernels.ReadsBehavior)
}

// deriveRun sets the defaults that follow from other settings.
func deriveRun(value any, root *node, broken []string, errs *Errors) {
	run := value.(*Run)
	sound := soundness(broken, *errs)
	if sound(deviceKey) {
		derivePrecision(run, root)
	}
	deriveOffPolicy(run, root, sound, errs)
}

// deriveOffPolicy has a stale run's loss see which policy sampled, unless the user says that nothing corrects for
// it, which is an error.
func deriveOffPolicy(run *Run, root *node, sound func(section string) bool, errs *Errors) {
	loss := child(root, "method.loss")
	if !sound("training.staleness") || !sound(methodKey) || loss == nil {
		return
	}
	forgetDerived(run, loss)
	stale := run.Training.Staleness
	if stale == 0 || !blind(run.Method.Loss) {
		return
	}
	if n := child(loss, "off_policy"); n != nil {
		if _, written := writtenBelow(n, offPolicyKey); written {
			errs.attach(root, "", refuseBlind(stale, run.Method.Loss))
			return
		}
	}
	run.Method.Loss.OffPolicy = []kernels.Correction{Decoupled()}
	if err := run.Method.Validate(); err != nil {
		errs.attach(root, "", at("training.staleness", "%d trains on what older policies sampled, and the loss cannot be weighed for it: %w: set method.loss.anchor to %s, or training.staleness to 0",
			stale, err, kernels.AnchorBehavior))
		return
	}
	setOffPolicy(run, loss, Origin{Kind: FromSetting, Name: fmt.Sprintf("training.staleness is %d", stale)})
}

// forgetDerived takes back the correction that an earlier staleness asked for, so that the present one
// decides. It stays where the method would not be valid without.
func forgetDerived(run *Run, loss *node) {
	n, derived := child(loss, "off_policy"), true
	if n == nil || len(n.items) == 0 {
		return
	}
	leaves(n, "", func(_ string, leaf *node) { derived = derived && leaf.origin.Kind == FromSetting })
	without := run.Method
	without.Loss.OffPolicy = nil
	if derived && without.Validate() == nil {
		run.Method = without
		setOffPolicy(run, loss, Origin{})
	}
}

// setOffPolicy writes the run's corrections into the tree of its loss.
func setOffPolicy(run *Run, loss *node, origin Origin) {
	n := runLanguage().encode(reflect.ValueOf(run.Method.Loss.OffPolicy))
	leaves(n, "", func(_ string, leaf *node) { leaf.origin = origin })
	if e, ok := loss.lookup("off_policy"); ok {
		e.value = n
		return
	}
	loss.entries = append(loss.entries, entry{key: "off_policy", value: n})
}

// refuseBlind is the error of a stale run whose user wants nothing to correct for it.
func refuseBlind(stale int, loss kernels.Program) error {
	const problem = "%d trains on what older policies sampled, but " + offPolicyKey + " is empty and nothing else in the loss sees which policy that was"
	mend := "remove " + offPolicyKey + " to train with " + algos.NameOf(Decoupled())
	if loss.UsesAnchor() {
		return at("training.staleness", problem+", with method.loss.anchor %s: %s, or set method.loss.anchor to %s", stale, loss.Anchor, mend, kernels.AnchorBehavior)
	}
	return at("training.staleness", problem+", with method.loss.ratio %s: %s, or set training.staleness to 0", stale, loss.Ratio, mend)
}

// child returns the value below n at a path, nil when there is none.
func child(n *node, path string) *node {
	for _, s := range splitPath(path) {
		if n = s.of(n); n == nil {
			return nil
		}
	}
	return n
}
