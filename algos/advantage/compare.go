package advantage

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Compare says which scores a score is compared with.
type Compare string

const (
	WithinGroup Compare = "group"      // the trajectories of its group
	TurnIndex   Compare = "turn-index" // the turns of its group with the same index
	Pooled      Compare = "pooled"     // all turns of its group
	SameState   Compare = "state"      // the turns of its group that started in the same environment state
	WholeBatch  Compare = "batch"      // all trajectories, or all turns, of the batch
)

// Compares lists every comparison and the level of scores it can compare; "" is either.
var Compares = []struct {
	Name  Compare
	Level credit.Level
}{
	{WithinGroup, credit.Trajectory}, {TurnIndex, credit.Turn}, {Pooled, credit.Turn}, {SameState, credit.Turn}, {WholeBatch, ""},
}

// item is one score and its place.
type item struct {
	group, trajectory, unit int
	score                   float64
}

// setKey names a comparison set; the fields that do not matter to a comparison stay zero.
type setKey struct {
	group, unit int
	state       string
}

// key returns the set an item belongs to.
func (c Compare) key(groups []*scored.Group, it item) (setKey, error) {
	switch c {
	case WithinGroup, Pooled:
		return setKey{group: it.group}, nil
	case TurnIndex:
		return setKey{group: it.group, unit: it.unit}, nil
	case WholeBatch:
		return setKey{}, nil
	case SameState:
		t := &groups[it.group].Trajectories[it.trajectory]
		state := t.Turns[it.unit].State
		if state == "" {
			return setKey{}, fmt.Errorf("group %s: trajectory %s: turns[%d] has no state, and compare is state: use an environment that reports its state",
				groups[it.group].ID, t.ID, it.unit)
		}
		return setKey{group: it.group, state: state}, nil
	}
	return setKey{}, fmt.Errorf("compare: unknown value %q", c)
}

// partition splits items into comparison sets, in order of first appearance, so that sums run in a
// fixed order.
func (c Compare) partition(groups []*scored.Group, items []item) ([][]item, error) {
	index := map[setKey]int{}
	var sets [][]item
	for _, it := range items {
		key, err := c.key(groups, it)
		if err != nil {
			return nil, err
		}
		at, ok := index[key]
		if !ok {
			at = len(sets)
			index[key], sets = at, append(sets, nil)
		}
		sets[at] = append(sets[at], it)
	}
	return sets, nil
}
