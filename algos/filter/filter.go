// Package filter holds the rules that drop trajectories from training.
//
// A rule sees all groups of a batch and gives reasons to those it drops; what an earlier rule dropped is in
// no statistic. A rule that drops everything leaves an empty batch, which the trainer counts and reports,
// unless its settings say to keep all then.
package filter

import (
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// Rule drops trajectories.
type Rule interface {
	// Drop sets g.Reason of trajectories that must not be trained; it sees all groups of the batch.
	Drop(groups []*scored.Group) error
}

// Table lists every filter.
var Table = []scored.Variant{
	{
		Name: "zero_variance", Doc: "drops a group whose members all earned the same rewards, since no comparison can tell them apart",
		Cite: "DAPO dynamic sampling, arXiv 2503.14476, eq. 11", New: func() any { return ZeroVariance{Of: All} },
	},
	{
		Name: "pass_rate_band", Doc: "keeps groups of a task that is neither too hard nor too easy for the policy",
		Cite: "Agent0, executor_train (--min_score, --max_score); VISTA-Gym", New: func() any { return NewPassRateBand() },
	},
	{
		Name: "success", Doc: "keeps trajectories that succeeded: rejection sampling for supervised stages",
		Cite: "ET-Agent, rejection-sampling fine-tuning", New: func() any { return Success{Threshold: 0.5} },
	},
	{
		Name: "pareto", Doc: "keeps the groups that vary most in calls and in correctness",
		Cite: "ET-Agent, pareto/data_process.py", New: func() any { return Pareto{Quota: 0.5, Threshold: 0.75} },
	},
	{
		Name: "value_resample", Doc: "drops groups without variance and fills the batch with copies of the informative ones (reconstructed)",
		Cite: "PRS + VSPO, value-based sampling", New: func() any { return NewValueResample() },
	},
}

// Untrainable drops what no method may train or compare with: episodes that failed for reasons the
// policy did not cause, episodes that were withdrawn, and rollouts sampled greedily as a baseline.
// Every method applies it first.
func Untrainable(g *scored.Group) {
	for i, t := range g.Trajectories {
		switch {
		case t.Stop == rollout.StopToolFailure || t.Stop == rollout.StopCancelled:
			g.Reason[i] = string(t.Stop)
		case t.Role == "greedy":
			g.Reason[i] = "baseline"
		}
	}
}

// kept are the indices of the trajectories that are not dropped.
func kept(g *scored.Group) []int {
	var out []int
	for i := range g.Trajectories {
		if g.Kept(i) {
			out = append(out, i)
		}
	}
	return out
}

// drop gives every kept member of a group a reason.
func drop(g *scored.Group, reason string) {
	for _, i := range kept(g) {
		g.Reason[i] = reason
	}
}

// dropGroups drops the groups that are not to stay. With keepAll it drops none when that would leave no
// trajectory of the batch.
func dropGroups(groups []*scored.Group, keepAll bool, reason string, stays func(*scored.Group) bool) {
	var out []*scored.Group
	left := 0
	for _, g := range groups {
		if stays(g) {
			left += len(kept(g))
		} else {
			out = append(out, g)
		}
	}
	if left == 0 && keepAll {
		return
	}
	for _, g := range out {
		drop(g, reason)
	}
}

// correct is how many of the members have an outcome of at least threshold.
func correct(g *scored.Group, members []int, threshold float64) int {
	n := 0
	for _, i := range members {
		if g.Outcome[i] >= threshold {
			n++
		}
	}
	return n
}
