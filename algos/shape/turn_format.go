package shape

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// TurnFormat penalises malformed turns where they happen:
//
//	r_k ← r_k + Penalty where turn k is malformed
//
// It needs turn rewards to add to. GTPO, arXiv 2511.14846, eq. 5.
type TurnFormat struct {
	// Penalty is added to the reward of a malformed turn. Default −0.1.
	Penalty float64 `yaml:"penalty"`
}

// Validate reports a penalty that is no number.
func (s TurnFormat) Validate() error { return fact.Finite("penalty", s.Penalty) }

// NeedsTurns is true: without turn rewards there is nothing to add to.
func (TurnFormat) NeedsTurns() bool { return true }

// Shape adds the penalties.
func (s TurnFormat) Shape(g *scored.Group) error {
	for _, i := range kept(g) {
		for k, turn := range g.Trajectories[i].Turns {
			if !turn.FormatOK {
				g.Turns[i][k] += s.Penalty
			}
		}
	}
	return nil
}
