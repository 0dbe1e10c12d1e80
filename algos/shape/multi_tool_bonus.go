package shape

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// MultiToolBonus pays for joining tools:
//
//	R ← R + Bonus where R > 0 and every one of Tools was called
//
// With format_gate after it, ARPO's reward: −1 for bad format, else F1, plus the bonus.
// ARPO, verl/utils/reward_score/deep_research.py.
type MultiToolBonus struct {
	// Tools must all have been called. Default search and python.
	Tools []string `yaml:"tools"`
	// Bonus is added to the outcome. Default 0.1.
	Bonus float64 `yaml:"bonus"`
	// Count says which calls count. Default valid.
	Count Counted `yaml:"count" jsonschema:"enum=issued,enum=valid,enum=ok"`
}

// Validate reports settings that are unknown or out of range.
func (s MultiToolBonus) Validate() error {
	return first(someTools("tools", s.Tools), fact.Finite("bonus", s.Bonus), oneOf("count", s.Count, Counteds))
}

// Shape adds the bonuses.
func (s MultiToolBonus) Shape(g *scored.Group) error {
	for _, i := range kept(g) {
		all := g.Outcome[i] > 0
		for _, tool := range s.Tools {
			all = all && s.Count.calls(&g.Trajectories[i], []string{tool}) > 0
		}
		if all {
			g.Outcome[i] += s.Bonus
		}
	}
	return nil
}
