package shape

import (
	"testing"

	"github.com/turnwise-rl/turnwise/algos/fact/facttest"
	"github.com/turnwise-rl/turnwise/rollout"
)

// Trajectories of two and of three sampled tokens that are .5 and 1 away at each, and one that does not know the
// reference policy: 4 over five tokens, 4 over two trajectories.
func TestDivergenceOfAStep(t *testing.T) {
	episode := func(tokens int) facttest.Episode {
		return facttest.Episode{Turns: []facttest.Turn{{Tokens: tokens}}}
	}
	g := group(t, []float64{0, 0, 0}, episode(2), episode(3), episode(1))
	for i, away := range []float32{0.5, 1} {
		trajectory := &g.Trajectories[i]
		for range trajectory.Tokens {
			trajectory.BehaviorLogProbs = append(trajectory.BehaviorLogProbs, -1)
			trajectory.ReferenceLogProbs = append(trajectory.ReferenceLogProbs, -1-away)
		}
	}
	for per, want := range map[DivergencePer]float64{PerToken: 0.8, PerTrajectory: 2} {
		part := NewKLInReward()
		part.Target, part.Per = 1, per
		mean, trajectories := part.Divergence([]rollout.Group{g.Group})
		same(t, string(per), []float64{want, 2}, []float64{mean, float64(trajectories)})
		if none, _ := part.Divergence(nil); none != 0 {
			t.Errorf("%s: the divergence of no trajectory is %v", per, none)
		}
	}
	part := NewKLInReward()
	part.Per = "turn"
	if err := part.Validate(); err == nil || err.Error() != `per: unknown value "turn": use one of [token trajectory]` {
		t.Errorf("error %v", err)
	}
}
