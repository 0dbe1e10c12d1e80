package algos

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/shape"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/ref"
	"github.com/turnwise-rl/turnwise/rollout"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// gae is PPO's advantage, with rewards given token by token.
func gae(discount, lambda float64, between kernels.Between) Method {
	return termMethod(credit.GAE{Of: credit.Outcome, Discount: discount, Lambda: lambda, ObsTokens: between})
}

func TestGAEVectors(t *testing.T) {
	type family struct {
		In struct {
			R, V       []float64
			Mask       []int
			Gamma, Lam float64
		}
		Adv, Returns []float64
		Whitened     []float64 `json:"adv_whitened"`
	}
	var v struct {
		Masked family `json:"masked_obs"`
		MC     family `json:"mc_limit"`
	}
	vectors(t, "gae", &v)
	for name, f := range map[string]family{"masked_obs": v.Masked, "mc_limit": v.MC} {
		t.Run(name, func(t *testing.T) {
			m := gae(f.In.Gamma, f.In.Lam, kernels.BetweenSkip)
			m.Shape = []shape.Shaper{tokenRewards{"a": f.In.R}}
			group := one(valued("a", f.In.Mask, f.In.V))
			s := streams(t, m, group)[0]
			agree(t, "advantages", sampledOnly(f.Adv, f.In.Mask), s.Advantage)
			agree(t, "returns", sampledOnly(f.Returns, f.In.Mask), s.Returns)
			if f.Whitened == nil {
				return
			}
			m.Advantage.Transforms = []advantage.Transform{advantage.Whiten{Epsilon: 1e-8}}
			s = streams(t, m, group)[0]
			agree(t, "whitened advantages", f.Whitened, s.Advantage)
			agree(t, "returns, which are set before whitening", sampledOnly(f.Returns, f.In.Mask), s.Returns)
		})
	}
}

// StepTool's step rewards at the last tokens of its steps, with a critic; and its step returns.
func TestStepTool(t *testing.T) {
	var v struct {
		In struct {
			TokenRewards []float64 `json:"token_rewards"`
			Values       []float64
			Mask         []int
			Gamma, Lam   float64
		}
		StepRewards  []float64 `json:"step_rewards"`
		Adv, Returns []float64
		StepReturns  []float64 `json:"step_returns_gamma0.99"`
	}
	vectors(t, "steptool", &v)
	trajectory := valued("a", v.In.Mask, v.In.Values)
	for k, reward := range v.StepRewards {
		trajectory.Turns[k].Rewards = map[string]float64{"r": reward}
	}
	m := termMethod(credit.GAE{Of: credit.Turns, Discount: v.In.Gamma, Lambda: v.In.Lam, ObsTokens: kernels.BetweenSkip})
	m.TurnReward = recorded()
	s := streams(t, m, one(trajectory))[0]
	agree(t, "advantages", sampledOnly(v.Adv, v.In.Mask), s.Advantage)
	agree(t, "returns", sampledOnly(v.Returns, v.In.Mask), s.Returns)

	steps := termMethod(credit.TurnReturn{Discount: 0.99})
	steps.TurnReward = recorded()
	agree(t, "step returns", v.StepReturns, streams(t, steps, one(trajectory))[0].Terms[0].Turns)
}

// SkyRL's GAE: returns are advantages plus values, and observations pass time and count.
func TestSkyRLGAE(t *testing.T) {
	rewards, values := []float64{1, 2, 3}, []float64{0.5, 1, 1.5}
	for _, test := range []struct {
		discount, lambda float64
		want             []float64
	}{{1, 1, []float64{6, 5, 3}}, {0.5, 1, []float64{2.75, 3.5, 3}}, {1, 0.5, []float64{3.625, 4.25, 3}}} {
		m := gae(test.discount, test.lambda, kernels.BetweenPlain)
		m.Shape = []shape.Shaper{tokenRewards{"a": rewards}}
		agree(t, fmt.Sprintf("returns at discount %v, lambda %v", test.discount, test.lambda), test.want,
			streams(t, m, one(valued("a", []int{1, 1, 1}, values)))[0].Returns)
	}
}

// D3: the same rewards and values under each convention for observation tokens. SkyRL's whitened advantages are
// compared with at 1e-4, the digits its test has.
func TestGAEConventionsForObservations(t *testing.T) {
	rewards, values, mask := []float64{1, 2, 3}, []float64{0.5, 1, 1.5}, []int{1, 0, 1}
	for _, test := range []struct {
		between kernels.Between
		want    []float64
	}{
		{kernels.BetweenSkip, []float64{4, 0, 3}},  // verl, NeMo, AReaL
		{kernels.BetweenPlain, []float64{6, 0, 3}}, // SkyRL, slime, ROLL
		{kernels.BetweenZero, []float64{4, 0, 3}},  // OpenRLHF, which agrees with verl at discount and lambda 1 only
		{kernels.BetweenReset, []float64{1, 0, 3}},
	} {
		m := gae(1, 1, test.between)
		m.Shape = []shape.Shaper{tokenRewards{"a": rewards}}
		agree(t, string(test.between), test.want, streams(t, m, one(valued("a", mask, values)))[0].Returns)
	}
	m := gae(1, 1, kernels.BetweenPlain)
	m.Shape = []shape.Shaper{tokenRewards{"a": rewards}}
	m.Advantage.Transforms = []advantage.Transform{advantage.Whiten{Epsilon: 1e-8}}
	got := streams(t, m, one(valued("a", mask, values)))[0].Advantage
	if diff := cmp.Diff([]float64{0.7071, 0, -0.7071}, got, cmpopts.EquateApprox(0, 1e-4)); diff != "" {
		t.Errorf("SkyRL's whitened advantages at sampled tokens (-want +got):\n%s", diff)
	}
	// SkyRL whitens with the moments of sampled tokens, so its middle token, which we give none, is at .1768.
	if middle := (4 - 3.5) / math.Sqrt(8); math.Abs(middle-0.1768) > 1e-4 {
		t.Errorf("the middle token would be at %v", middle)
	}
	apart := func(between kernels.Between) []float64 {
		m := gae(0.9, 0.9, between)
		m.Shape = []shape.Shaper{tokenRewards{"a": rewards}}
		return streams(t, m, one(valued("a", mask, values)))[0].Returns
	}
	if cmp.Equal(apart(kernels.BetweenSkip), apart(kernels.BetweenZero), within) {
		t.Error("skipping and zeroing observations agree at a discount below 1")
	}
}

// verl's multi-turn test, with the numbers frozen from its formula.
func TestVerlMultiTurnGAE(t *testing.T) {
	rewards := []float64{0, 0, 0.1, 0.1, 0.1, 0, 0, 0.1, 1, 0, 0}
	mask := []int{0, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0}
	for _, test := range []struct {
		name             string
		discount, lambda float64
		whiten           bool
		want             []float64
	}{
		{"raw", 1, 1, false, []float64{-2.6, -3.7, -4.8, -5.9, -8}},
		{"whitened", 1, 1, true, []float64{1.154033, 0.625101, 0.096169, -0.432762, -1.442541}},
		{"discounted", 0.9, 0.8, false, []float64{-0.534651, -1.575904, -2.8832, -4.56, -8}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, noise := range []float64{-3, 0, 70} {
				values, valid := make([]float64, len(mask)), []float64{4, 5, 6, 7, 9}
				for p, sampled := range mask {
					values[p] = noise + float64(p)
					if sampled == 1 {
						values[p], valid = valid[0], valid[1:]
					}
				}
				m := gae(test.discount, test.lambda, kernels.BetweenSkip)
				m.Shape = []shape.Shaper{tokenRewards{"a": rewards}}
				if test.whiten {
					m.Advantage.Transforms = []advantage.Transform{advantage.Whiten{Epsilon: 1e-8}}
				}
				s := streams(t, m, one(valued("a", mask, values)))[0]
				var got, returns []float64
				for p, sampled := range mask {
					if sampled == 1 {
						got, returns = append(got, s.Advantage[p]), append(returns, s.Returns[p])
					} else if s.Advantage[p] != 0 || s.Returns[p] != 0 {
						t.Errorf("token %d is not sampled: advantage %v, return %v", p, s.Advantage[p], s.Returns[p])
					}
				}
				agree(t, fmt.Sprintf("advantages with %v at observations", noise), test.want, got)
				if test.discount == 1 {
					agree(t, "returns", []float64{1.4, 1.3, 1.2, 1.1, 1}, returns)
				}
			}
		})
	}
}

func TestReVeal(t *testing.T) {
	var v struct {
		In struct {
			Turns   [][2]any
			Outcome float64
		}
		Turn  []float64 `json:"R_turn"`
		Tilde []float64 `json:"R_tilde"`
	}
	seedRewards(t, "reveal", &v)
	var rewards []float64
	for _, turn := range v.In.Turns {
		rewards = append(rewards, turn[1].(float64))
	}
	group := one(episode("a", v.In.Outcome, rewards...))
	for of, want := range map[credit.Of][]float64{credit.Turns: v.Turn, credit.Total: v.Tilde} {
		m := termMethod(credit.NeighborReturn{Of: of})
		m.TurnReward = recorded()
		agree(t, string(of), want, streams(t, m, group)[0].Terms[0].Turns)
	}
	// With a critic, the value at each token is subtracted and the return is its target.
	m := termMethod(credit.NeighborReturn{Of: credit.Total})
	m.TurnReward, m.Advantage.Terms[0].Center = recorded(), advantage.Critic
	m.Loss.Regularizers = []kernels.Regularizer{kernels.NewValue()}
	for p := range group.Trajectories[0].Tokens {
		group.Trajectories[0].Values = append(group.Trajectories[0].Values, float32(p))
	}
	s := streams(t, m, group)[0]
	agree(t, "advantages", []float64{0, 5.2 - 1, 5.2 - 2, 0, 6.1 - 4, 6.1 - 5, 0, 5.6 - 7, 5.6 - 8, 0}, s.Advantage)
	agree(t, "returns", []float64{0, 5.2, 5.2, 0, 6.1, 6.1, 0, 5.6, 5.6, 0}, s.Returns)
}

// Without a critic's values a method that reads them says so.
func TestMissingValues(t *testing.T) {
	m := gae(1, 1, kernels.BetweenSkip)
	if reads := m.Reads(); reads != (Annotations{Values: true}) {
		t.Errorf("the method reads %+v before credit", reads)
	}
	for name, test := range map[string]struct {
		edit func(*rollout.Trajectory)
		want string
	}{
		"none":       {func(tr *rollout.Trajectory) { tr.Values = nil }, "advantage.terms[0] (outcome): group g: trajectory a: values: null: the method reads a critic: record one value per token, or choose a method without a critic"},
		"too few":    {func(tr *rollout.Trajectory) { tr.Values = tr.Values[:1] }, "group g: trajectory a: values: 1 values for 2 tokens"},
		"no numbers": {func(tr *rollout.Trajectory) { tr.Values[1] = float32(math.Inf(1)) }, "advantage.terms[0] (outcome): group g: trajectory a: values: token 1: +Inf, want a finite number"},
	} {
		t.Run(name, func(t *testing.T) {
			trajectory := valued("a", []int{0, 1}, []float64{math.NaN(), 1}) // NaN where nothing was sampled is ignored
			test.edit(&trajectory)
			if _, err := m.Streams([]rollout.Group{one(trajectory)}, ref.Arithmetic{}); err == nil || err.Error() != test.want {
				t.Errorf("error %v\nwant  %s", err, test.want)
			}
		})
	}
	if _, err := m.Streams([]rollout.Group{one(valued("a", []int{0, 1}, []float64{math.NaN(), 1}))}, ref.Arithmetic{}); err != nil {
		t.Errorf("a value at an observation: %v", err)
	}
	// Where observations count as time, their values are read too, but for the prompt's.
	plain := gae(1, 1, kernels.BetweenPlain)
	trajectory := valued("a", []int{0, 1, 0, 1}, []float64{math.NaN(), 1, math.NaN(), 1})
	_, err := plain.Streams([]rollout.Group{one(trajectory)}, ref.Arithmetic{})
	if want := "advantage.terms[0] (outcome): group g: trajectory a: values: token 2: NaN, want a finite number"; err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
	trajectory.Values[2] = 0
	if _, err := plain.Streams([]rollout.Group{one(trajectory)}, ref.Arithmetic{}); err != nil {
		t.Errorf("a value in the prompt: %v", err)
	}
	if strings.Contains(fmt.Sprint(GRPO().Reads()), "true") {
		t.Errorf("GRPO reads %+v before credit", GRPO().Reads())
	}
}
