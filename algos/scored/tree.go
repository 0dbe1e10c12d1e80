package scored

import "fmt"

// Tree is how the turns of a group hang together. A trajectory with a parent shares the parent's turns
// before the one it departs at; every other turn is its own. The root, where all of them begin, is no node.
type Tree struct {
	// Nodes are the distinct turns, parents before children.
	Nodes []Node
	// Of is the node of each trajectory's turn. len = trajectories, then turns.
	Of [][]int
}

// Node is one turn of a tree.
type Node struct {
	// Parent is the node before it, −1 for a first turn.
	Parent int
	// Trajectory and Turn are where the turn stands; trajectories that share it have the same tokens there.
	Trajectory, Turn int
}

// NewTree builds the tree of a group. Trajectories without parent make a tree of separate chains.
func NewTree(g *Group) (*Tree, error) {
	t := &Tree{Of: make([][]int, len(g.Trajectories))}
	index := make(map[string]int, len(g.Trajectories))
	for i := range g.Trajectories {
		index[g.Trajectories[i].ID] = i
	}
	open := make([]bool, len(g.Trajectories))
	for i := range g.Trajectories {
		if err := t.grow(g, index, open, i); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// grow adds trajectory i after the one it departs from.
func (t *Tree) grow(g *Group, index map[string]int, open []bool, i int) error {
	if t.Of[i] != nil {
		return nil
	}
	trajectory := &g.Trajectories[i]
	fail := func(format string, args ...any) error {
		return fmt.Errorf("group %s: trajectory %s: parent: %w", g.ID, trajectory.ID, fmt.Errorf(format, args...))
	}
	if open[i] {
		return fail("departs from itself: parents form a circle")
	}
	open[i] = true
	nodes, shared, last := make([]int, len(trajectory.Turns)), 0, -1
	if parent := trajectory.Parent; parent != nil {
		p, ok := index[parent.Trajectory]
		if !ok {
			return fail("trajectory %q is not in the group", parent.Trajectory)
		}
		if err := t.grow(g, index, open, p); err != nil {
			return err
		}
		if parent.Turn < 0 || parent.Turn >= len(t.Of[p]) || parent.Turn >= len(nodes) {
			return fail("departs at turn %d, but it has %d turns and its parent %s %d: a branch replaces a turn of its parent",
				parent.Turn, len(nodes), parent.Trajectory, len(t.Of[p]))
		}
		shared = parent.Turn
		copy(nodes, t.Of[p][:shared])
		if err := sameTurns(g, p, i, shared); err != nil {
			return fail("%w", err)
		}
	}
	if shared > 0 {
		last = nodes[shared-1]
	}
	for k := shared; k < len(nodes); k++ {
		t.Nodes = append(t.Nodes, Node{Parent: last, Trajectory: i, Turn: k})
		last = len(t.Nodes) - 1
		nodes[k] = last
	}
	t.Of[i] = nodes
	return nil
}

// sameTurns checks that the first n turns of two trajectories have the same tokens.
func sameTurns(g *Group, p, i, n int) error {
	a, b := &g.Trajectories[p], &g.Trajectories[i]
	for k := range n {
		x, y := a.Turns[k], b.Turns[k]
		if x.End-x.Start != y.End-y.Start {
			return fmt.Errorf("turns[%d] has %d tokens, that of %s %d: they share it", k, y.End-y.Start, a.ID, x.End-x.Start)
		}
		for j := range x.End - x.Start {
			if a.Tokens[x.Start+j] != b.Tokens[y.Start+j] {
				return fmt.Errorf("turns[%d]: token %d is %d, that of %s %d: they share it", k, y.Start+j, b.Tokens[y.Start+j], a.ID, a.Tokens[x.Start+j])
			}
		}
	}
	return nil
}
