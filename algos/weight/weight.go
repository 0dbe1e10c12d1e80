// Package weight holds the parts that give tokens or trajectories weights and bounds of their own in the loss.
package weight

import "github.com/turnwise-rl/turnwise/algos/scored"

// Rule writes streams for the learner beside the advantages.
type Rule interface {
	// Weigh sets g.LossWeights, g.CEWeights, g.ReferenceKLWeights or g.ClipHigh. It runs after the masks.
	Weigh(g *scored.Group) error
}

// Table lists every weight.
var Table = []scored.Variant{
	{
		Name: "key_tokens", Doc: "raises the loss weights of the tokens that decide which tool is called",
		Cite: "TL-Training's PKT, code/pkt/utils.py", New: func() any { return KeyTokens{Max: 9} },
	},
	{
		Name: "imitate", Doc: "imitates the trajectories whose reward is at least a threshold",
		Cite: "ToRA, arXiv 2309.17452, output-space shaping; STE, arXiv 2403.04746", New: func() any { return NewImitate() },
	},
	{
		Name: "distill", Doc: "a constant weight of the divergence from the reference policy at every sampled token",
		Cite: "prime-rl trainer/rl/loss.py, ref_kl", New: func() any { return Distill{Weight: 1} },
	},
	{
		Name: "trust_clip", Doc: "an upper clip bound that is wider the less the group agrees",
		Cite: "Agent0's ADPO, Agent0/executor_train/verl_tool/trainer/ppo/core_algos.py", New: func() any { return NewTrustClip() },
	},
}

// constant is a stream of w at the sampled tokens of trajectory i and 0 elsewhere and where a mask has set the
// loss weight to 0.
func constant(g *scored.Group, i int, w float64) []float64 {
	t := &g.Trajectories[i]
	out := make([]float64, len(t.Tokens))
	for p, sampled := range t.Sampled {
		masked := g.LossWeights != nil && g.LossWeights[i] != nil && g.LossWeights[i][p] == 0
		if sampled && !masked {
			out[p] = w
		}
	}
	return out
}
