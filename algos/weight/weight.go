// Package weight holds the parts that give tokens or trajectories weights and bounds of their own in the loss.
package weight

import "github.com/turnwise-rl/turnwise/algos/scored"

// Rule writes streams for the learner beside the advantages.
type Rule interface {
	// Weigh sets g.LossWeights, g.CEWeights, g.ReferenceKLWeights or g.ClipHigh. It runs after the masks.
	Weigh(g *scored.Group) error
}

// Table lists every weight.
var Table = []scored.Variant{}
