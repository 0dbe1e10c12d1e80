package shape

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// LengthPenalty takes a share of the group's mean outcome off, the larger the longer the trajectory. Over the
// kept members, for x each of output tokens (sampled), input tokens (all others) and turns,
//
//	R_i ← R_i − mean(R)·Σ_x w_x·x_i/max(x)
//
// A quantity that is 0 for every member takes nothing off. It scales with the mean outcome, so that a group
// that fails is not taught to be brief, and wants outcomes that are not negative: with a negative mean, length
// pays. prime-rl, orchestrator/algo/grpo.py.
type LengthPenalty struct {
	// Output weighs the tokens the policy sampled. Default 1.
	Output float64 `yaml:"output"`
	// Input weighs prompt and observation tokens. Default 0.1.
	Input float64 `yaml:"input"`
	// Turns weighs the turns. Default 0.1.
	Turns float64 `yaml:"turns"`
}

// Validate reports weights that are out of range.
func (s LengthPenalty) Validate() error {
	return first(fact.NotNegative("output", s.Output), fact.NotNegative("input", s.Input), fact.NotNegative("turns", s.Turns))
}

// Shape takes the penalties off.
func (s LengthPenalty) Shape(g *scored.Group) error {
	members := kept(g)
	outcomes := make([]float64, len(members))
	for j, i := range members {
		outcomes[j] = g.Outcome[i]
	}
	mean, _ := moments(outcomes)
	for _, quantity := range []struct {
		weight float64
		of     func(*rollout.Trajectory) int
	}{
		{s.Output, sampledTokens},
		{s.Input, func(t *rollout.Trajectory) int { return len(t.Tokens) - sampledTokens(t) }},
		{s.Turns, func(t *rollout.Trajectory) int { return len(t.Turns) }},
	} {
		most := 0
		for _, i := range members {
			most = max(most, quantity.of(&g.Trajectories[i]))
		}
		for _, i := range members {
			if most > 0 {
				g.Outcome[i] -= mean * quantity.weight * float64(quantity.of(&g.Trajectories[i])) / float64(most)
			}
		}
	}
	return nil
}
