// Package filter holds the rules that drop trajectories from training.
package filter

import (
	"fmt"
	"slices"

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

// Of says which rewards a filter looks at.
type Of string

const (
	All     Of = "all"     // the outcome and every turn reward
	Outcome Of = "outcome" // the outcome alone, as DAPO does
)

// ZeroVariance drops whole groups whose kept members have equal rewards, with reason "zero_variance".
// A group with one kept member is left to the terms' singleton rule.
type ZeroVariance struct {
	// Of says which rewards are compared. Default all.
	Of Of `yaml:"of" jsonschema:"enum=all,enum=outcome"`
}

// Validate reports an unknown setting.
func (f ZeroVariance) Validate() error {
	if f.Of != All && f.Of != Outcome {
		return fmt.Errorf("of: unknown value %q: use all or outcome", f.Of)
	}
	return nil
}

// Drop drops the groups without variance.
func (f ZeroVariance) Drop(groups []*scored.Group) error {
	for _, g := range groups {
		if !f.flat(g) {
			continue
		}
		for i := range g.Reason {
			if g.Kept(i) {
				g.Reason[i] = "zero_variance"
			}
		}
	}
	return nil
}

func (f ZeroVariance) flat(g *scored.Group) bool {
	first, kept := -1, 0
	for i := range g.Trajectories {
		if !g.Kept(i) {
			continue
		}
		kept++
		if first < 0 {
			first = i
			continue
		}
		if g.Outcome[i] != g.Outcome[first] {
			return false
		}
		if f.Of == All && g.Turns != nil && !slices.Equal(g.Turns[i], g.Turns[first]) {
			return false
		}
	}
	return kept > 1
}
