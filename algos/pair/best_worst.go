package pair

import "github.com/turnwise-rl/turnwise/algos/scored"

// BestWorst prefers the member with the greatest reward to the one with the least:
//
//	(argmax_i R_i, argmin_i R_i)    when max R − min R ≥ Gap and > 0
//
// so that a group whose rewards are all equal makes no pair. Of equal members the first by id is taken for the
// best, the last for the worst.
type BestWorst struct {
	// Of says which rewards are compared. Default outcome.
	Of Of `yaml:"of" jsonschema:"enum=outcome,enum=turns,enum=total"`
	// Gap is the least difference of a pair. Default 0: any difference.
	Gap float64 `yaml:"gap"`
}

// Validate reports settings that are unknown or negative.
func (r BestWorst) Validate() error { return validate(r.Of, r.Gap) }

// NeedsOutcome is true when the outcome counts.
func (r BestWorst) NeedsOutcome() bool { return r.Of.NeedsOutcome() }

// NeedsTurns is true when turn rewards count.
func (r BestWorst) NeedsTurns() bool { return r.Of.NeedsTurns() }

// Pair adds the pair.
func (r BestWorst) Pair(g *scored.Group) error {
	members := r.Of.order(g)
	if len(members) < 2 {
		return nil
	}
	if best, worst := members[0], members[len(members)-1]; r.Of.prefers(g, best, worst, r.Gap) {
		g.Pairs = append(g.Pairs, scored.Pair{Chosen: best, Rejected: worst})
	}
	return nil
}
