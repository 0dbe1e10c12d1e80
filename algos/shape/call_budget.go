package shape

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// CallBudget pays a correct trajectory for the calls it did not need. With m its calls,
//
//	R ← R + Bonus·max(0, 1 − m/Limit) where R ≥ Threshold
//
// TGRL is this with format_bonus of weight 0.1 after it (reconstructed from the abstract).
type CallBudget struct {
	// Bonus of a correct trajectory without calls. Default 0.1.
	Bonus float64 `yaml:"bonus"`
	// Limit is the number of calls from which on there is no bonus. Default 10.
	Limit int `yaml:"limit"`
	// Threshold is the outcome from which on a trajectory is correct. Default 0.5.
	Threshold float64 `yaml:"threshold"`
	// Count says which calls count. Default issued.
	Count Counted `yaml:"count" jsonschema:"enum=issued,enum=valid,enum=ok"`
	// Tools limits the count to calls of these tools. Default none: all tools.
	Tools []string `yaml:"tools"`
}

// Validate reports settings that are unknown or out of range.
func (s CallBudget) Validate() error {
	return first(fact.NotNegative("bonus", s.Bonus), fact.Positive("limit", float64(s.Limit)), fact.Finite("threshold", s.Threshold), oneOf("count", s.Count, Counteds))
}

// Shape adds the bonuses.
func (s CallBudget) Shape(g *scored.Group) error {
	for _, i := range kept(g) {
		if g.Outcome[i] >= s.Threshold {
			used := float64(s.Count.calls(&g.Trajectories[i], s.Tools)) / float64(s.Limit)
			g.Outcome[i] += s.Bonus * max(0, 1-used)
		}
	}
	return nil
}
