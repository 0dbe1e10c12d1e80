package pair

import "github.com/turnwise-rl/turnwise/algos/scored"

// Sorted prefers the better half of a group to the worse half, from the outside in. With the members sorted by
// reward, R_(1) ≥ R_(2) ≥ …,
//
//	((n), (N + 1 − n))    n = 1, 2, …    while R_(n) − R_(N+1−n) ≥ Gap and > 0
//
// A member in the middle of an odd group stays alone. Equal members are sorted by id.
type Sorted struct {
	// Of says which rewards are compared. Default outcome.
	Of Of `yaml:"of" jsonschema:"enum=outcome,enum=turns,enum=total"`
	// Gap is the least difference of a pair. Default 0: any difference.
	Gap float64 `yaml:"gap"`
}

// Validate reports settings that are unknown or negative.
func (r Sorted) Validate() error { return validate(r.Of, r.Gap) }

// NeedsOutcome is true when the outcome counts.
func (r Sorted) NeedsOutcome() bool { return r.Of.NeedsOutcome() }

// NeedsTurns is true when turn rewards count.
func (r Sorted) NeedsTurns() bool { return r.Of.NeedsTurns() }

// Pair adds the pairs.
func (r Sorted) Pair(g *scored.Group) error {
	members := r.Of.order(g)
	for n := 0; n < len(members)/2; n++ {
		better, worse := members[n], members[len(members)-1-n]
		if !r.Of.prefers(g, better, worse, r.Gap) {
			break
		}
		g.Pairs = append(g.Pairs, scored.Pair{Chosen: better, Rejected: worse})
	}
	return nil
}
