package shape

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// FormatOf says what a format bonus is paid for.
type FormatOf string

const (
	EveryTurn FormatOf = "every" // all turns well-formed, or nothing
	MeanTurn  FormatOf = "mean"  // the share of well-formed turns
)

// FormatBonus pays for turns that parse. With F the share of a trajectory's turns that are well-formed,
//
//	every: R ← R + Weight·1{F = 1}    mean: R ← R + Weight·F
//
// A trajectory without turns earns no bonus. every: Genome-Bench, training/rl_training.py; DeepEyesV2,
// verl/utils/reward_score/deepeyesv2.py. mean: OpenThinkIMG, r1_v/open_r1/tool_grpo.py.
type FormatBonus struct {
	// Weight is the bonus of a trajectory whose turns are all well-formed. Default 1.
	Weight float64 `yaml:"weight"`
	// Of says what is paid for. Default every.
	Of FormatOf `yaml:"of" jsonschema:"enum=every,enum=mean"`
}

// Validate reports settings that are unknown or no numbers.
func (s FormatBonus) Validate() error {
	return first(fact.Finite("weight", s.Weight), oneOf("of", s.Of, []FormatOf{EveryTurn, MeanTurn}))
}

// Shape adds the bonuses.
func (s FormatBonus) Shape(g *scored.Group) error {
	for _, i := range kept(g) {
		turns, bad := len(g.Trajectories[i].Turns), malformed(&g.Trajectories[i])
		switch {
		case turns == 0:
		case s.Of == MeanTurn:
			g.Outcome[i] += s.Weight * float64(turns-bad) / float64(turns)
		case bad == 0:
			g.Outcome[i] += s.Weight
		}
	}
	return nil
}
