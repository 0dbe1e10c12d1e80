package pair

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Recorded takes the pairs that were recorded with the trajectories: one with role chosen and one with role
// rejected share a pair id. A kept trajectory without a role, and a pair without both of its members or with
// two of the same role, are errors. A pair whose other member is dropped is not made. Rewards do not matter.
type Recorded struct{}

// sides are the members of a pair by role, −1 for none.
type sides struct{ chosen, rejected int }

// Pair adds the pairs, in the order of their first members.
func (Recorded) Pair(g *scored.Group) error {
	pairs, order := map[string]*sides{}, []string(nil)
	for i, t := range g.Trajectories {
		if t.Role != "chosen" && t.Role != "rejected" || t.Pair == "" {
			if g.Kept(i) {
				return fmt.Errorf("trajectory %s: role %q and pair %q are no half of a pair: record role chosen or rejected and the pair's id, or use another pair.type",
					t.ID, t.Role, t.Pair)
			}
			continue
		}
		pair := pairs[t.Pair]
		if pair == nil {
			pair = &sides{-1, -1}
			pairs[t.Pair], order = pair, append(order, t.Pair)
		}
		side := &pair.chosen
		if t.Role == "rejected" {
			side = &pair.rejected
		}
		if *side >= 0 {
			return fmt.Errorf("trajectory %s: pair %q already has %s as its %s member: give every pair an id of its own", t.ID, t.Pair, g.Trajectories[*side].ID, t.Role)
		}
		*side = i
	}
	for _, id := range order {
		pair := pairs[id]
		switch {
		case pair.rejected < 0:
			return fmt.Errorf("trajectory %s: pair %q has no rejected member in the group: record both members", g.Trajectories[pair.chosen].ID, id)
		case pair.chosen < 0:
			return fmt.Errorf("trajectory %s: pair %q has no chosen member in the group: record both members", g.Trajectories[pair.rejected].ID, id)
		case g.Kept(pair.chosen) && g.Kept(pair.rejected):
			g.Pairs = append(g.Pairs, scored.Pair{Chosen: pair.chosen, Rejected: pair.rejected})
		}
	}
	return nil
}
