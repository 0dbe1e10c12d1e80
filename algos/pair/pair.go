// Package pair holds the rules that turn a group into preferences: pairs of a chosen and a rejected
// trajectory, or scores to rank by.
package pair

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Rule makes preferences of a group's rewards.
type Rule interface {
	// Pair sets g.Pairs or g.RankScores from the rewards after shaping. A trajectory is in one pair at most.
	Pair(g *scored.Group) error
}

// Table lists every rule.
var Table = []scored.Variant{
	{Name: "none", Doc: "no preferences", New: func() any { return None{} }},
	{
		Name: "best_worst", Doc: "one pair: the member with the greatest reward against the one with the least",
		New: func() any { return BestWorst{Of: Outcome} },
	},
	{
		Name: "sorted", Doc: "the best member against the worst, the second best against the second worst, and so on",
		New: func() any { return Sorted{Of: Outcome} },
	},
	{
		Name: "recorded", Doc: "the pairs recorded with the trajectories",
		Cite: "Magnet's mDPO and DiaTool-DPO, whose pairs are made before training", New: func() any { return Recorded{} },
	},
	{
		Name: "rank", Doc: "ranks all members by their reward or by a recorded score",
		Cite: "RRHF, arXiv 2304.05302; TRICE, arXiv 2305.13068", New: func() any { return Rank{Of: Outcome} },
	},
}

// None makes no preferences.
type None struct{}

// Pair does nothing.
func (None) Pair(*scored.Group) error { return nil }

// Of says which rewards are compared.
type Of string

const (
	Outcome Of = "outcome" // R
	Turns   Of = "turns"   // Σ_k r_k
	Total   Of = "total"   // R + Σ_k r_k
)

// Validate reports an unknown value.
func (o Of) Validate() error {
	if o != Outcome && o != Turns && o != Total {
		return fmt.Errorf("of: unknown value %q: use outcome, turns or total", o)
	}
	return nil
}

// NeedsOutcome is true when the outcome counts.
func (o Of) NeedsOutcome() bool { return o != Turns }

// NeedsTurns is true when turn rewards count.
func (o Of) NeedsTurns() bool { return o != Outcome }

// reward is what member i has earned.
func (o Of) reward(g *scored.Group, i int) float64 {
	total := 0.0
	if o.NeedsTurns() {
		total = g.TurnTotal(i)
	}
	if o.NeedsOutcome() {
		total += g.Outcome[i]
	}
	return total
}

// order lists the kept members from the best to the worst, equal ones by id, so that the order of a group's
// members does not matter. Members without a turn are left out: they have no token to prefer.
func (o Of) order(g *scored.Group) []int {
	var members []int
	for i := range g.Trajectories {
		if g.Kept(i) && len(g.Trajectories[i].Turns) > 0 {
			members = append(members, i)
		}
	}
	slices.SortStableFunc(members, func(a, b int) int {
		if c := cmp.Compare(o.reward(g, b), o.reward(g, a)); c != 0 {
			return c
		}
		return cmp.Compare(g.Trajectories[a].ID, g.Trajectories[b].ID)
	})
	return members
}

// prefers is true when member a has earned so much more than b that they make a pair.
func (o Of) prefers(g *scored.Group, a, b int, gap float64) bool {
	difference := o.reward(g, a) - o.reward(g, b)
	return difference > 0 && difference >= gap
}

// validate reports settings of a pair made by rewards.
func validate(of Of, gap float64) error {
	if err := of.Validate(); err != nil {
		return err
	}
	return fact.NotNegative("gap", gap)
}
