// Package mask holds the parts that keep trajectories, turns or tokens out of the loss although they take
// part in every comparison. What must not even be compared with is a filter's business.
package mask

import "github.com/turnwise-rl/turnwise/algos/scored"

// Rule masks what must not be trained.
type Rule interface {
	// Mask drops whole trajectories by setting g.Reason, which takes them out of the loss and its
	// denominators, or single tokens by setting their g.LossWeights to 0, which leaves denominators alone.
	// It runs after the advantages are computed.
	Mask(g *scored.Group) error
}

// Table lists every mask.
var Table = []scored.Variant{}
