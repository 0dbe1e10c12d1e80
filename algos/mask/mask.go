// Package mask holds the parts that keep trajectories, turns or tokens out of the loss although they take
// part in every comparison. What must not even be compared with is a filter's business.
package mask

import (
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// Rule masks what must not be trained.
type Rule interface {
	// Mask drops whole trajectories by setting g.Reason, which takes them out of the loss and its
	// denominators, or single tokens by setting their g.LossWeights to 0, which leaves denominators alone.
	// It runs after the advantages are computed.
	Mask(g *scored.Group) error
}

// Table lists every mask.
var Table = []scored.Variant{
	{
		Name: "over_turn", Doc: "drops trajectories that ran out of turns or tokens before they answered",
		Cite: "Mini-o3, verl/workers/actor/dp_actor.py; SUPO, arXiv 2510.06727", New: func() any { return OverTurn{} },
	},
	{
		Name: "overlong", Doc: "drops trajectories that ran out of tokens before they answered",
		Cite: "DAPO overlong filtering, arXiv 2503.14476, section 3.4", New: func() any { return Overlong{} },
	},
	{
		Name: "void_turn", Doc: "drops trajectories with a turn that has neither a call nor the answer, or masks only that turn",
		Cite: "SimpleTIR, arXiv 2509.02479", New: func() any { return VoidTurn{Whole: true} },
	},
	{
		Name: "incomplete_signal", Doc: "drops trajectories whose reward signal is missing or incomplete",
		Cite: "LongCat-Flash-Thinking, arXiv 2509.18883", New: func() any { return NewIncompleteSignal() },
	},
	{
		Name: "malformed_turn", Doc: "masks the turns that do not parse strictly",
		New: func() any { return MalformedTurn{} },
	},
	{
		Name: "erroneous_turn", Doc: "masks the turns with a failed call and keeps them as context",
		Cite: "AskToAct, ToolMind; TL-Training's MAE, code/mae/mae.py", New: func() any { return NewErroneousTurn() },
	},
}

// drop sets the reason of the kept trajectories that match.
func drop(g *scored.Group, reason string, match func(t *rollout.Trajectory) bool) {
	for i := range g.Trajectories {
		if g.Kept(i) && match(&g.Trajectories[i]) {
			g.Reason[i] = reason
		}
	}
}

// silence sets the loss weights of the turns that match to 0.
func silence(g *scored.Group, match func(t *rollout.Trajectory, k int) bool) {
	for i := range g.Trajectories {
		if !g.Kept(i) {
			continue
		}
		for k, turn := range g.Trajectories[i].Turns {
			if match(&g.Trajectories[i], k) {
				clear(g.WritableLossWeights(i)[turn.Start:turn.End])
			}
		}
	}
}
