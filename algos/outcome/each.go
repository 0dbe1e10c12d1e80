package outcome

import (
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// each rewards the kept trajectories one by one; dropped ones get 0, which nobody reads.
func each(g *scored.Group, reward func(t *rollout.Trajectory) (float64, error)) ([]float64, error) {
	out := make([]float64, len(g.Trajectories))
	for i := range g.Trajectories {
		if !g.Kept(i) {
			continue
		}
		var err error
		if out[i], err = reward(&g.Trajectories[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}
