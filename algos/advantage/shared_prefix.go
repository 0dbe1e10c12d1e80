package advantage

import "github.com/turnwise-rl/turnwise/algos/scored"

// SharedPrefixMean gives a token that several rollouts share, because they branched after it, the mean of
// their advantages:
//
//	A_t ← mean_{i ∈ D} A_{i,t},  D the kept rollouts that share token t
//
// Parents of trajectories say what is shared. ARPO's hard attribution, arXiv 2507.19849; its soft one, the
// default there, leaves advantages as they are.
type SharedPrefixMean struct{}

// Transform averages shared turns.
func (SharedPrefixMean) Transform(b *Batch) error {
	for gi, g := range b.Groups {
		if !branches(g) {
			continue
		}
		tree, err := scored.NewTree(g)
		if err != nil {
			return err
		}
		members := make([][]int, len(tree.Nodes))
		for i, nodes := range tree.Of {
			for _, node := range nodes {
				if g.Kept(i) {
					members[node] = append(members[node], i)
				}
			}
		}
		for node, sharing := range members {
			if len(sharing) > 1 {
				b.average(gi, tree.Nodes[node].Turn, sharing)
			}
		}
	}
	return nil
}

func branches(g *scored.Group) bool {
	for i := range g.Trajectories {
		if g.Trajectories[i].Parent != nil {
			return true
		}
	}
	return false
}

// average sets the advantages of a turn to their mean over the trajectories that share it.
func (b *Batch) average(gi, turn int, sharing []int) {
	g := b.Groups[gi]
	at := func(i, offset int) *float64 { return &b.Tokens[gi][i][g.Trajectories[i].Turns[turn].Start+offset] }
	first := g.Trajectories[sharing[0]].Turns[turn]
	for offset := range first.End - first.Start {
		mean := 0.0
		for _, i := range sharing {
			mean += *at(i, offset)
		}
		mean /= float64(len(sharing))
		for _, i := range sharing {
			*at(i, offset) = mean
		}
	}
}
