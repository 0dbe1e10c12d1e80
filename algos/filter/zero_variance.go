package filter

import (
	"fmt"
	"slices"

	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Of says which rewards a filter looks at.
type Of string

const (
	All     Of = "all"     // the outcome and every turn reward
	Outcome Of = "outcome" // the outcome alone, as DAPO does
)

// ZeroVariance drops whole groups whose kept members have equal rewards, with reason "zero_variance".
// A group with one kept member is left to the terms' singleton rule. Rewards at single tokens are not
// compared. DAPO's dynamic sampling, arXiv 2503.14476, eq. 11; sampling until the batch is full is the run's.
type ZeroVariance struct {
	// Of says which rewards are compared. Default all.
	Of Of `yaml:"of" jsonschema:"enum=all,enum=outcome"`
	// KeepAllIfEmpty drops nothing when that would leave no trajectory of the batch: a policy that is still
	// weak, or already perfect, would wait for a batch forever. Default false.
	KeepAllIfEmpty bool `yaml:"keep_all_if_empty"`
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
	dropGroups(groups, f.KeepAllIfEmpty, "zero_variance", func(g *scored.Group) bool { return !flat(g, f.Of) })
	return nil
}

// flat is true when the group's kept members, at least two, have equal rewards.
func flat(g *scored.Group, of Of) bool {
	members := kept(g)
	if len(members) < 2 {
		return false
	}
	for _, i := range members[1:] {
		if g.Outcome[i] != g.Outcome[members[0]] {
			return false
		}
		if of == All && g.Turns != nil && !slices.Equal(g.Turns[i], g.Turns[members[0]]) {
			return false
		}
	}
	return true
}
