package turnreward

import (
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// eachTurn rewards every turn of the kept trajectories; those of dropped ones get 0. begin is called once
// per trajectory and returns what rewards its turn k.
func eachTurn(g *scored.Group, begin func(t *rollout.Trajectory) (reward func(k int) (float64, error), err error)) ([][]float64, error) {
	out := zeros(g)
	for i := range g.Trajectories {
		if !g.Kept(i) {
			continue
		}
		reward, err := begin(&g.Trajectories[i])
		if err != nil {
			return nil, err
		}
		for k := range out[i] {
			if out[i][k], err = reward(k); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}
