package credit

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Backup is how the value of a turn follows from those of the turns after it.
type Backup string

const (
	BackupEntropy Backup = "entropy" // weighted by the softmax of the children's entropies
	BackupMean    Backup = "mean"    // mean of the children
	BackupLeaf    Backup = "leaf"    // mean of the leaves below
)

// TreeAdvantage is what a turn's score is made of.
type TreeAdvantage string

const (
	TreeOwn         TreeAdvantage = "value"        // V(v)
	TreeMinusParent TreeAdvantage = "minus_parent" // V(v) − V(parent)
	TreeMinusRoot   TreeAdvantage = "minus_root"   // V(v) − V(root)
	TreeBoth        TreeAdvantage = "both"         // the sum of the two differences
)

// TreeValue scores the turns of a tree of trajectories, which branch where their parents say. A trajectory's last
// turn is a leaf; over the M kept trajectories of the group and the children c of a turn v,
//
//	V(leaf) = (R − mean)/(std + Epsilon),  std with M;    V(v) = Σ_c softmax_c(H_c)·V(c)
//
// H is the entropy of a turn: −mean log μ over its sampled tokens, or what was recorded with the turn when the
// log-probabilities are unknown. A turn shared by several trajectories has one score. Trajectories without parent
// all hang at the root. The scores are advantages: center none, scale none. AT²PO, arXiv 2601.04767.
type TreeValue struct {
	// Backup is how values go up the tree. Default entropy.
	Backup Backup `yaml:"backup" jsonschema:"enum=entropy,enum=mean,enum=leaf"`
	// Advantage is what a turn is credited with. Default value.
	Advantage TreeAdvantage `yaml:"advantage" jsonschema:"enum=value,enum=minus_parent,enum=minus_root,enum=both"`
	// Epsilon is added to the leaves' standard deviation. Default 1e-6.
	Epsilon float64 `yaml:"epsilon"`
}

// NewTreeValue returns TreeValue with its defaults.
func NewTreeValue() TreeValue {
	return TreeValue{Backup: BackupEntropy, Advantage: TreeOwn, Epsilon: 1e-6}
}

// Validate reports settings that are unknown or out of range.
func (r TreeValue) Validate() error {
	switch {
	case r.Backup != BackupEntropy && r.Backup != BackupMean && r.Backup != BackupLeaf:
		return fmt.Errorf("backup: unknown value %q: use entropy, mean or leaf", r.Backup)
	case r.Advantage != TreeOwn && r.Advantage != TreeMinusParent && r.Advantage != TreeMinusRoot && r.Advantage != TreeBoth:
		return fmt.Errorf("advantage: unknown value %q: use value, minus_parent, minus_root or both", r.Advantage)
	case !(r.Epsilon > 0) || math.IsInf(r.Epsilon, 0):
		return fmt.Errorf("epsilon: %v must be positive: leaves that all earned the same have no deviation", r.Epsilon)
	}
	return nil
}

// Level is the turn.
func (TreeValue) Level() Level { return Turn }

// NeedsOutcome is true: the leaves are scored by it.
func (TreeValue) NeedsOutcome() bool { return true }

// NeedsTurns is false.
func (TreeValue) NeedsTurns() bool { return false }

// Scores returns the score of every turn.
func (r TreeValue) Scores(b *scored.Batch) ([][][]float64, error) {
	leaves, err := r.leaves(b)
	if err != nil {
		return nil, err
	}
	_, out := units(b, turnCount)
	for gi, g := range b.Groups {
		tree, err := scored.NewTree(g)
		if err != nil {
			return nil, err
		}
		values, root := r.backup(g, tree, leaves[gi])
		for i := range g.Trajectories {
			if !g.Kept(i) {
				continue
			}
			for k, node := range tree.Of[i] {
				parent := root
				if p := tree.Nodes[node].Parent; p >= 0 {
					parent = values[p]
				}
				out[gi][i][k] = r.advantage(values[node], parent, root)
			}
		}
	}
	return out, nil
}

func (r TreeValue) advantage(value, parent, root float64) float64 {
	switch r.Advantage {
	case TreeMinusParent:
		return value - parent
	case TreeMinusRoot:
		return value - root
	case TreeBoth:
		return 2*value - parent - root
	}
	return value
}

// leaves standardises the outcomes of each group's kept trajectories.
func (r TreeValue) leaves(b *scored.Batch) ([][]float64, error) {
	var outcomes []float64
	bounds := []int32{0}
	for _, g := range b.Groups {
		for i := range g.Trajectories {
			if g.Kept(i) {
				outcomes = append(outcomes, g.Outcome[i])
			}
		}
		if n := int32(len(outcomes)); n > bounds[len(bounds)-1] {
			bounds = append(bounds, n)
		}
	}
	mean, variance, err := b.Arithmetic.Moments(outcomes, bounds)
	if err != nil {
		return nil, err
	}
	out, set := make([][]float64, len(b.Groups)), 0
	for gi, g := range b.Groups {
		out[gi] = make([]float64, len(g.Trajectories))
		kept := 0
		for i := range g.Trajectories {
			if g.Kept(i) {
				out[gi][i] = (g.Outcome[i] - mean[set]) / (math.Sqrt(variance[set]) + r.Epsilon)
				kept++
			}
		}
		set += min(kept, 1)
	}
	return out, nil
}

// backup returns the value of every node and of the root. Nodes that no kept trajectory passes have none. A
// trajectory's last turn has no children, since a branch departs before it.
func (r TreeValue) backup(g *scored.Group, tree *scored.Tree, leaves []float64) (values []float64, root float64) {
	// The root stands at the end. Going through the nodes from the last to the first, the children of a node are
	// all done before it.
	n := len(tree.Nodes)
	values = make([]float64, n)
	entropies, most := r.entropies(g, tree)
	weight, sum, count := make([]float64, n+1), make([]float64, n+1), make([]int, n+1)
	for i, nodes := range tree.Of {
		if g.Kept(i) && len(nodes) > 0 {
			last := nodes[len(nodes)-1]
			weight[last], sum[last], count[last] = 1, leaves[i], 1
		}
	}
	for v := n - 1; v >= 0; v-- {
		if count[v] == 0 {
			continue
		}
		values[v] = sum[v] / weight[v]
		parent, w := above(tree, v), 1.0
		switch r.Backup {
		case BackupLeaf:
			w = float64(count[v])
		case BackupEntropy:
			w = math.Exp(entropies[v] - most[parent])
		}
		weight[parent], sum[parent], count[parent] = weight[parent]+w, sum[parent]+w*values[v], count[parent]+count[v]
	}
	if count[n] > 0 {
		root = sum[n] / weight[n]
	}
	return values, root
}

// entropies returns the entropy of every node and the largest one among each node's children, which a softmax
// subtracts so that it cannot overflow; the root's stands at the end.
func (r TreeValue) entropies(g *scored.Group, tree *scored.Tree) (of, most []float64) {
	if r.Backup != BackupEntropy {
		return nil, nil
	}
	of, most = make([]float64, len(tree.Nodes)), make([]float64, len(tree.Nodes)+1)
	for v, node := range tree.Nodes {
		of[v] = TurnEntropy(g, node.Trajectory, node.Turn)
		most[above(tree, v)] = math.Inf(-1)
	}
	for v, entropy := range of {
		parent := above(tree, v)
		most[parent] = max(most[parent], entropy)
	}
	return of, most
}

// above is the node before v, len(Nodes) for the root.
func above(tree *scored.Tree, v int) int {
	if parent := tree.Nodes[v].Parent; parent >= 0 {
		return parent
	}
	return len(tree.Nodes)
}

// TurnEntropy is the uncertainty of a turn in nats: −mean log μ over its tokens, or what was recorded with the
// turn when the log-probabilities are unknown.
func TurnEntropy(g *scored.Group, trajectory, turn int) float64 {
	t := &g.Trajectories[trajectory]
	at := t.Turns[turn]
	if t.BehaviorLogProbs == nil {
		return at.Entropy
	}
	sum := 0.0
	for _, logProb := range t.BehaviorLogProbs[at.Start:at.End] {
		sum -= float64(logProb)
	}
	return sum / float64(at.End-at.Start)
}

// ExpansionScore ranks the turns of a tree for expansion: its entropy, less 0.05 for each sibling that it has
// already. AT²PO, arXiv 2601.04767.
func ExpansionScore(entropy float64, siblings int) float64 { return entropy - 0.05*float64(siblings) }

// BranchProbability is how likely a rollout branches after a tool call whose answer changed the entropy by
// change: clip(base + weight·change, 0, 1). ARPO, arXiv 2507.19849.
func BranchProbability(base, weight, change float64) float64 {
	return min(max(base+weight*change, 0), 1)
}
