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
	Pooled      Compare = "pooled"     // all turns, or all tokens, of its group
	SameState   Compare = "state"      // the turns of its group that started in the same environment state
	SameRole    Compare = "role"       // the trajectories of its group with the same role
	WholeBatch  Compare = "batch"      // all trajectories, turns or tokens of the batch
)

// Compares lists every comparison and the levels of scores it can compare.
var Compares = []struct {
	Name   Compare
	Levels []credit.Level
}{
	{WithinGroup, []credit.Level{credit.Trajectory}},
	{TurnIndex, []credit.Level{credit.Turn}},
	{Pooled, []credit.Level{credit.Turn, credit.Token}},
	{SameState, []credit.Level{credit.Turn}},
	{SameRole, []credit.Level{credit.Trajectory}},
	{WholeBatch, []credit.Level{credit.Trajectory, credit.Turn, credit.Token}},
}

// item is one score and its place.
type item struct {
	group, trajectory, unit int
	score                   float64
}

// setKey names a comparison set; the fields that do not matter to a comparison stay zero.
type setKey struct {
	group, unit int
	state       string // or the role
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
	case SameRole:
		return setKey{group: it.group, state: groups[it.group].Trajectories[it.trajectory].Role}, nil
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

// partition orders items by comparison set and returns the bounds of the sets, those that appear first
// first, so that sums run in a fixed order.
func (c Compare) partition(groups []*scored.Group, items []item) ([]item, []int32, error) {
	index := map[setKey]int{}
	set, sizes := make([]int, len(items)), []int32(nil)
	var last setKey
	for n, it := range items {
		key, err := c.key(groups, it)
		if err != nil {
			return nil, nil, err
		}
		if n > 0 && key == last {
			set[n] = set[n-1]
			sizes[set[n]]++
			continue
		}
		at, ok := index[key]
		if !ok {
			at = len(sizes)
			index[key], sizes = at, append(sizes, 0)
		}
		last, set[n] = key, at
		sizes[at]++
	}
	bounds := make([]int32, len(sizes)+1)
	for s, size := range sizes {
		bounds[s+1] = bounds[s] + size
	}
	next, ordered := append([]int32(nil), bounds[:len(sizes)]...), make([]item, len(items))
	for n, it := range items {
		ordered[next[set[n]]] = it
		next[set[n]]++
	}
	return ordered, bounds, nil
}
