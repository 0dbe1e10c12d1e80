package algos

import (
	"fmt"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/shape"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/rollout"
)

func tokenReturn(discount float64, between kernels.Between) Method {
	return termMethod(credit.TokenReturn{Of: credit.Outcome, Discount: discount, ObsTokens: between})
}

func TestReinforcePP(t *testing.T) {
	var v struct {
		In struct {
			Rewards [][]float64
			Mask    [][]int
			Gamma   float64
		}
		Returns, Adv [][]float64
		ReMax        struct {
			In  struct{ Greedy []float64 }
			Adv [][]float64
		}
	}
	vectors(t, "reinforce_pp", &v)
	rewards := tokenRewards{}
	var group rollout.Group
	for i, mask := range v.In.Mask {
		id := fmt.Sprint(i)
		rewards[id] = v.In.Rewards[i]
		group.Trajectories = append(group.Trajectories, masked(id, mask...))
	}
	m := tokenReturn(v.In.Gamma, kernels.BetweenSkip)
	m.Shape = []shape.Shaper{rewards}
	for i, s := range streams(t, m, group) {
		agree(t, fmt.Sprintf("returns of %d", i), v.Returns[i], s.Advantage)
	}
	m.Advantage.Transforms = []advantage.Transform{advantage.Whiten{Epsilon: 1e-8}}
	for i, s := range streams(t, m, group) {
		agree(t, fmt.Sprintf("advantages of %d", i), v.Adv[i], s.Advantage)
	}

	// ReMax: the reward to come less that of a greedy rollout of the same task.
	remax := tokenReturn(1, kernels.BetweenSkip)
	remax.Shape = []shape.Shaper{rewards}
	remax.Advantage.Terms[0].Center = advantage.Greedy
	greedy := masked("greedy", 1, 1)
	greedy.Role = "greedy"
	rewards["greedy"] = []float64{0, v.ReMax.In.Greedy[0]}
	withBaseline := group
	withBaseline.Trajectories = append([]rollout.Trajectory{greedy}, group.Trajectories...)
	all := streams(t, remax, withBaseline)
	for i, s := range all[1:] {
		agree(t, fmt.Sprintf("ReMax advantages of %d", i), v.ReMax.Adv[i], s.Advantage)
	}
	if s := all[0]; s.Kept || s.Reason != "baseline" || s.Advantage[0] != 0 {
		t.Errorf("the greedy rollout: %+v, want dropped as baseline", s)
	}
}

// What the tests of verl and SkyRL expect of returns, and D3's conventions for observation tokens.
func TestTokenReturnConventions(t *testing.T) {
	for _, test := range []struct {
		name     string
		mask     []int
		rewards  []float64
		discount float64
		between  kernels.Between
		want     []float64
	}{
		{"verl, multi-turn", []int{1, 1, 0, 0, 1}, []float64{0, 0, 0, 0, 2}, 0.5, kernels.BetweenSkip, []float64{0.5, 1, 0, 0, 2}},
		{"SkyRL, multi-turn", []int{1, 1, 0, 0, 1}, []float64{0, 0, 0, 0, 2}, 0.5, kernels.BetweenReset, []float64{0, 0, 0, 0, 2}},
		{"slime, multi-turn", []int{1, 1, 0, 0, 1}, []float64{0, 0, 0, 0, 2}, 0.5, kernels.BetweenPlain, []float64{0.125, 0.25, 0, 0, 2}},
		{"zero, multi-turn", []int{1, 1, 0, 0, 1}, []float64{0, 0, 7, 0, 2}, 0.5, kernels.BetweenZero, []float64{0.125, 0.25, 0, 0, 2}},
		{"verl, observation inside", []int{1, 0, 1, 1}, []float64{0, 0, 0, 1}, 1, kernels.BetweenSkip, []float64{1, 0, 1, 1}},
		{"verl, observation at the end", []int{1, 1, 1, 0}, []float64{0, 0, 1, 0}, 1, kernels.BetweenSkip, []float64{1, 1, 1, 0}},
		{"SkyRL, rewards at every token", []int{1, 1, 0}, []float64{1, 2, 3}, 1, kernels.BetweenReset, []float64{3, 2, 0}},
		{"SkyRL, discounted", []int{1, 1, 1}, []float64{1, 2, 3}, 0.5, kernels.BetweenReset, []float64{2.75, 3.5, 3}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := tokenReturn(test.discount, test.between)
			m.Shape = []shape.Shaper{tokenRewards{"a": test.rewards}}
			agree(t, "returns", test.want, streams(t, m, one(masked("a", test.mask...)))[0].Advantage)
		})
	}
}

// Turn rewards lie at a turn's last token, the outcome at the last sampled one.
func TestWhereRewardsLie(t *testing.T) {
	trajectory := masked("a", 0, 1, 1, 0, 1, 1, 0)
	outcome := 4.0
	trajectory.Outcome = &outcome
	for k, reward := range []float64{1, 2} {
		trajectory.Turns[k].Rewards = map[string]float64{"r": reward}
	}
	for of, want := range map[credit.Of][]float64{
		credit.Outcome: {0, 0.5, 1, 0, 2, 4, 0},
		credit.Turns:   {0, 0.75, 1.5, 0, 1, 2, 0},
		credit.Total:   {0, 1.25, 2.5, 0, 3, 6, 0},
	} {
		m := termMethod(credit.TokenReturn{Of: of, Discount: 0.5, ObsTokens: kernels.BetweenSkip})
		m.TurnReward = recorded()
		agree(t, string(of), want, streams(t, m, one(trajectory))[0].Advantage)
	}
}

// prime-rl's broadcast: one score at every sampled token, none at observations.
func TestBroadcast(t *testing.T) {
	for _, test := range []struct {
		mask []int
		want []float64
	}{{[]int{0, 1, 1}, []float64{0, 0.7, 0.7}}, {[]int{0, 1, 0}, []float64{0, 0.7, 0}}} {
		trajectory := masked("a", test.mask...)
		score := 0.7
		trajectory.Outcome = &score
		agree(t, fmt.Sprint(test.mask), test.want, streams(t, termMethod(credit.Broadcast{Of: credit.Outcome}), one(trajectory))[0].Advantage)
	}
}
