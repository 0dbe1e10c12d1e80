package shape

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// FormatGate replaces the outcome of a trajectory with a malformed turn:
//
//	R = Penalty where any turn is malformed, else R
//
// A trajectory without turns has none that is malformed. ARPO, arXiv 2507.19849,
// verl/utils/reward_score/deep_research.py.
type FormatGate struct {
	// Penalty is the outcome of a trajectory with at least one malformed turn. Default −1.
	Penalty float64 `yaml:"penalty"`
}

// Validate reports a penalty that is no number.
func (s FormatGate) Validate() error { return fact.Finite("penalty", s.Penalty) }

// Shape gates the outcomes.
func (s FormatGate) Shape(g *scored.Group) error {
	for _, i := range kept(g) {
		if malformed(&g.Trajectories[i]) > 0 {
			g.Outcome[i] = s.Penalty
		}
	}
	return nil
}
