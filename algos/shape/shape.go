// Package shape holds the parts that edit rewards after they are given and before credit spreads them.
// Shaping never touches the loss.
package shape

import (
	"fmt"
	"maps"
	"slices"

	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Shaper edits the rewards of a group; it sees the whole group.
type Shaper interface {
	// Shape changes g.Outcome and g.Turns in place. Rewards of dropped trajectories are not read.
	Shape(g *scored.Group) error
}

// Table lists every shaper.
var Table = []scored.Variant{
	{
		Name: "format_gate", Doc: "the outcome becomes the penalty when any turn is malformed",
		Cite: "ARPO, arXiv 2507.19849, reward", New: func() any { return FormatGate{Penalty: -1} },
	},
	{
		Name: "turn_format", Doc: "adds the penalty to the reward of each malformed turn",
		Cite: "GTPO, arXiv 2511.14846, eq. 5", New: func() any { return TurnFormat{Penalty: -0.1} },
	},
	{
		Name: "weighted", Doc: "weighted sum of the outcome and of recorded scores",
		New: func() any { return Weighted{Outcome: 1} },
	},
}

// FormatGate replaces the outcome of a trajectory with a malformed turn: R = Penalty.
type FormatGate struct {
	// Penalty is the outcome of a trajectory with at least one malformed turn. Default −1.
	Penalty float64 `yaml:"penalty"`
}

// Shape gates the outcomes.
func (s FormatGate) Shape(g *scored.Group) error {
	for i, t := range g.Trajectories {
		for _, turn := range t.Turns {
			if !turn.FormatOK {
				g.Outcome[i] = s.Penalty
				break
			}
		}
	}
	return nil
}

// TurnFormat penalises malformed turns where they happen: r_k += Penalty·1[turn k is malformed]. It
// needs turn rewards to add to.
type TurnFormat struct {
	// Penalty is added to the reward of a malformed turn. Default −0.1.
	Penalty float64 `yaml:"penalty"`
}

// NeedsTurns is true: without turn rewards there is nothing to add to.
func (TurnFormat) NeedsTurns() bool { return true }

// Shape adds the penalties.
func (s TurnFormat) Shape(g *scored.Group) error {
	for i, t := range g.Trajectories {
		for k, turn := range t.Turns {
			if !turn.FormatOK {
				g.Turns[i][k] += s.Penalty
			}
		}
	}
	return nil
}

// Weighted mixes the outcome with recorded scores: R = Outcome·R + Σ_name Scores[name]·score[name].
type Weighted struct {
	// Outcome multiplies the outcome. Default 1.
	Outcome float64 `yaml:"outcome"`
	// Scores multiply the trajectory's recorded scores, by name. A kept trajectory that lacks one is an
	// error. Default none.
	Scores map[string]float64 `yaml:"scores"`
}

// Shape mixes the outcomes.
func (s Weighted) Shape(g *scored.Group) error {
	for i, t := range g.Trajectories {
		if !g.Kept(i) {
			continue
		}
		// Names in order, so that the sum does not depend on map order.
		total := s.Outcome * g.Outcome[i]
		for _, name := range slices.Sorted(maps.Keys(s.Scores)) {
			score, ok := t.Scores[name]
			if !ok {
				return fmt.Errorf("trajectory %s: no score named %q: record it or remove it from the weighted shaper", t.ID, name)
			}
			total += s.Scores[name] * score
		}
		g.Outcome[i] = total
	}
	return nil
}
