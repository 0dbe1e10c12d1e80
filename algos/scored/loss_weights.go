package scored

// WritableLossWeights returns the loss weights of trajectory i for a part to write to; they are 1 everywhere
// until one has. len = tokens.
func (g *Group) WritableLossWeights(i int) []float64 {
	if g.LossWeights == nil {
		g.LossWeights = make([][]float64, len(g.Trajectories))
	}
	if g.LossWeights[i] == nil {
		g.LossWeights[i] = make([]float64, len(g.Trajectories[i].Tokens))
		for t := range g.LossWeights[i] {
			g.LossWeights[i][t] = 1
		}
	}
	return g.LossWeights[i]
}
