package turnreward

import (
	"maps"
	"slices"

	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Recorded uses the rewards the environment gave at turns: r_k = Σ_name Weights[name]·reward_k[name]. A
// reward the environment did not give at a turn is 0.
type Recorded struct {
	// Weights multiply the recorded rewards, by name. Default {env: 1}.
	Weights map[string]float64 `yaml:"weights"`
}

// Rewards returns the rewards of every turn.
func (r Recorded) Rewards(g *scored.Group) ([][]float64, error) {
	out := zeros(g)
	// Names in order, so that the sum does not depend on map order.
	names := slices.Sorted(maps.Keys(r.Weights))
	for i, t := range g.Trajectories {
		for k, turn := range t.Turns {
			for _, name := range names {
				out[i][k] += r.Weights[name] * turn.Rewards[name]
			}
		}
	}
	return out, nil
}
