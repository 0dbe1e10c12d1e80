// Package pair holds the rules that turn a group into preferences: pairs of a chosen and a rejected
// trajectory, or scores to rank by.
package pair

import "github.com/turnwise-rl/turnwise/algos/scored"

// Rule makes preferences of a group's rewards.
type Rule interface {
	// Pair sets g.Pairs or g.RankScores from the rewards after shaping. A trajectory is in one pair at most.
	Pair(g *scored.Group) error
}

// Table lists every rule.
var Table = []scored.Variant{
	{Name: "none", Doc: "no preferences", New: func() any { return None{} }},
}

// None makes no preferences.
type None struct{}

// Pair does nothing.
func (None) Pair(*scored.Group) error { return nil }
