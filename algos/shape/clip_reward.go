package shape

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// ClipReward limits rewards:
//
//	R ← min(max(R, −Bound), Bound), and likewise each r_k where there are turn rewards
//
// Rewards at single tokens, such as a divergence, stay. TL-Training, code/irm/dschat/rlhf/ppo_trainer.py.
type ClipReward struct {
	// Bound is the largest size of a reward. Default 5.
	Bound float64 `yaml:"bound"`
}

// Validate reports a bound that is not positive.
func (s ClipReward) Validate() error { return fact.Positive("bound", s.Bound) }

// Shape limits the rewards.
func (s ClipReward) Shape(g *scored.Group) error {
	for _, i := range kept(g) {
		g.Outcome[i] = s.clip(g.Outcome[i])
		if g.Turns == nil {
			continue
		}
		for k := range g.Turns[i] {
			g.Turns[i][k] = s.clip(g.Turns[i][k])
		}
	}
	return nil
}

func (s ClipReward) clip(r float64) float64 { return min(max(r, -s.Bound), s.Bound) }
