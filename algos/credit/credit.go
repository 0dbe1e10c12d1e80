// Package credit holds the rules that turn rewards into the raw scores that comparisons make
// advantages of.
package credit

import "github.com/turnwise-rl/turnwise/algos/scored"

// Level is what a score belongs to.
type Level string

const (
	Trajectory Level = "trajectory" // one score per trajectory, the same for all its tokens
	Turn       Level = "turn"       // one score per turn, the same for all its tokens
)

// Rule spreads the rewards of a group.
type Rule interface {
	// Level is what the scores belong to.
	Level() Level
	// NeedsOutcome and NeedsTurns say which rewards the rule reads.
	NeedsOutcome() bool
	NeedsTurns() bool
	// Scores returns the scores of each trajectory: one, or one per turn. Those of a dropped trajectory
	// are not read.
	Scores(g *scored.Group) ([][]float64, error)
}

// Table lists every credit rule.
var Table = []scored.Variant{
	{Name: "broadcast", Doc: "one total for the whole trajectory", New: func() any { return Broadcast{Of: Outcome} }},
	{
		Name: "turn_return", Doc: "discounted sum of the rewards from the turn on",
		Cite: "MatchTIR, arXiv 2601.10712; GTPO, arXiv 2511.14846, eq. 6", New: func() any { return TurnReturn{Discount: 0.9} },
	},
}
