package shape

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/turnwise-rl/turnwise/algos/fact/facttest"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/rollout"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// variants are the table's parts with their defaults, and with the settings that take another path.
func variants() map[string]Shaper {
	out := map[string]Shaper{}
	for _, row := range Table {
		out[row.Name] = row.New().(Shaper)
	}
	out["weighted scores"] = Weighted{Outcome: 2, Scores: map[string]float64{"residue": 0.1, "responses": -0.5}, Constant: -1}
	out["format_bonus mean"] = FormatBonus{Weight: 0.3, Of: MeanTurn}
	out["repetition_gate bigrams"] = RepetitionGate{Penalty: -1, BadFormat: -0.5, Bonus: 0.1, N: 2, Share: 0.3}
	out["progressive bleu"] = Progressive{Credit: 0.2, Of: StageBLEU}
	efficiency := NewToolEfficiency()
	efficiency.Variant = EfficiencyPPO
	out["tool_efficiency ppo"] = efficiency
	efficiency.Variant, efficiency.MinimumScore, efficiency.Count = EfficiencyGroup, "submissions", CountOK
	out["tool_efficiency minimum"] = efficiency
	out["lift_tool_use messages"] = LiftToolUse{Base: -1, Step: 0.05, Cap: -0.6, Count: CountMessages}
	out["overlong short"] = Overlong{MaxLength: 8, Cache: 6, Factor: 1, Saturate: true, Length: LengthResponse}
	for _, rule := range []CalibrationRule{CalibrationCorrectness, CalibrationBrier, CalibrationLog} {
		part := NewCalibration()
		part.Rule = rule
		out["calibration "+string(rule)] = part
	}
	kl := NewKLInReward()
	kl.Estimator = kernels.KLK3
	out["kl_in_reward k3"] = kl
	return out
}

// drawn is a group of random episodes that hold every fact a part may read.
func drawn(tb testing.TB, t *rapid.T) *scored.Group {
	var episodes []facttest.Episode
	for range rapid.IntRange(1, 6).Draw(t, "members") {
		e := facttest.Episode{
			Stop:   rapid.SampledFrom([]rollout.StopReason{rollout.StopAnswer, rollout.StopMaxTurns, rollout.StopVoid}).Draw(t, "stop"),
			Answer: rapid.SampledFrom([]string{"", "a", "a b", "a b c d e"}).Draw(t, "answer"),
			Scores: map[string]float64{
				"tool_benefit": rapid.Float64Range(-1, 1).Draw(t, "tool_benefit"),
				"confidence":   rapid.Float64Range(0, 1).Draw(t, "confidence"),
				"submissions":  float64(rapid.IntRange(0, 5).Draw(t, "submissions")),
				"residue":      float64(rapid.IntRange(0, 30).Draw(t, "residue")),
				"responses":    float64(rapid.IntRange(0, 6).Draw(t, "responses")),
			},
		}
		for range rapid.IntRange(0, 4).Draw(t, "turns") {
			turn := facttest.Turn{
				IDs:       rapid.SliceOfN(rapid.Int32Range(1, 3), 1, 12).Draw(t, "tokens"),
				Malformed: rapid.IntRange(0, 3).Draw(t, "format") == 0,
			}
			for range rapid.IntRange(0, 3).Draw(t, "calls") {
				turn.Calls = append(turn.Calls, rollout.Call{
					Name:   rapid.SampledFrom([]string{"search", "python"}).Draw(t, "tool"),
					Args:   rollout.StringArgs("code", rapid.SampledFrom([]string{"x", "x + y", "f(x)", ""}).Draw(t, "code")),
					Status: rapid.SampledFrom(rollout.CallStatuses).Draw(t, "status"),
				})
			}
			e.Turns = append(e.Turns, turn)
		}
		episodes = append(episodes, e)
	}
	g := facttest.Group(tb, rollout.Gold{Answer: "a b"}, episodes...)
	g.Turns = make([][]float64, len(g.Trajectories))
	for i := range g.Trajectories {
		trajectory := &g.Trajectories[i]
		trajectory.ElapsedSeconds = rapid.Float64Range(1, 90).Draw(t, "elapsed")
		drift := rapid.Float32Range(-5, 5).Draw(t, "drift")
		for p := range trajectory.Tokens {
			behavior := -0.3 * float32(p%7)
			trajectory.BehaviorLogProbs = append(trajectory.BehaviorLogProbs, behavior)
			trajectory.ReferenceLogProbs = append(trajectory.ReferenceLogProbs, behavior+drift*float32(p%3-1))
		}
		g.Outcome[i] = rapid.SampledFrom([]float64{-1, 0, 0.3, 0.5, 0.75, 1}).Draw(t, "outcome")
		g.Turns[i] = rapid.SliceOfN(rapid.Float64Range(-6, 6), len(trajectory.Turns), len(trajectory.Turns)).Draw(t, "rewards")
	}
	return g
}

// members is the group of some members, in the given order, with rewards of its own.
func members(g *scored.Group, order []int) *scored.Group {
	out := &scored.Group{Group: rollout.Group{ID: g.ID, Task: g.Task}}
	for _, i := range order {
		out.Trajectories = append(out.Trajectories, g.Trajectories[i])
		out.Outcome = append(out.Outcome, g.Outcome[i])
		out.Turns = append(out.Turns, slices.Clone(g.Turns[i]))
		out.Reason = append(out.Reason, g.Reason[i])
	}
	return out
}

// rewards are a member's rewards after shaping.
type rewards struct {
	Outcome       float64
	Turns, Tokens []float64
}

func rewardsOf(g *scored.Group) []rewards {
	var out []rewards
	for i := range g.Trajectories {
		r := rewards{Outcome: g.Outcome[i], Turns: g.Turns[i]}
		if g.Tokens != nil {
			r.Tokens = g.Tokens[i]
		}
		out = append(out, r)
	}
	return out
}

// rounding allows for sums in another order.
var rounding = cmp.Options{cmpopts.EquateApprox(0, 1e-9), cmpopts.EquateEmpty(), cmpopts.EquateNaNs()}

func TestPermutingAGroupPermutesItsRewards(tb *testing.T) {
	for name, part := range variants() {
		tb.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			g := drawn(tb, t)
			order := make([]int, len(g.Trajectories))
			for i := range order {
				order[i] = i
			}
			straight := members(g, order)
			order = rapid.Permutation(order).Draw(t, "order")
			permuted := members(g, order)
			apply(t, part, straight, permuted)
			want := rewardsOf(straight)
			for j, got := range rewardsOf(permuted) {
				if diff := cmp.Diff(want[order[j]], got, rounding); diff != "" {
					t.Fatalf("member %d (-straight +permuted):\n%s", order[j], diff)
				}
			}
		}))
	}
}

func TestDroppedMembersNeverMatter(tb *testing.T) {
	for name, part := range variants() {
		tb.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			g := drawn(tb, t)
			var stay, all []int
			for i := range g.Trajectories {
				all = append(all, i)
				if rapid.Bool().Draw(t, "kept") {
					stay = append(stay, i)
					continue
				}
				// Nothing of a dropped member is read: neither rewards nor facts.
				g.Reason[i], g.Outcome[i] = "dropped", math.NaN()
				for k := range g.Turns[i] {
					g.Turns[i][k] = math.NaN()
				}
				g.Trajectories[i].Scores, g.Trajectories[i].ElapsedSeconds = nil, 0
				g.Trajectories[i].BehaviorLogProbs, g.Trajectories[i].ReferenceLogProbs = nil, nil
			}
			with, without := members(g, all), members(g, stay)
			before := rewardsOf(members(g, all))
			apply(t, part, with, without)
			got, want := rewardsOf(with), rewardsOf(without)
			for j, i := range stay {
				if diff := cmp.Diff(want[j], got[i], rounding); diff != "" {
					t.Fatalf("member %d (-without the dropped +with them):\n%s", i, diff)
				}
			}
			for i := range all {
				if !g.Kept(i) && len(got[i].Tokens) == 0 && cmp.Diff(before[i], got[i], rounding) != "" {
					t.Fatalf("dropped member %d was edited: %v", i, got[i])
				}
			}
		}))
	}
}

func apply(t *rapid.T, part Shaper, groups ...*scored.Group) {
	for _, g := range groups {
		if err := part.Shape(g); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBoundsHold checks every bound that a part's comment promises. R is the outcome before.
func TestBoundsHold(tb *testing.T) {
	const slack = 1e-12
	between := func(low, high, x float64) bool { return x >= low-slack && x <= high+slack }
	bounds := map[string]func(g *scored.Group, i int, before, after float64) bool{
		"clip_reward": func(g *scored.Group, i int, _, after float64) bool {
			return between(-5, 5, after) && !slices.ContainsFunc(g.Turns[i], func(r float64) bool { return !between(-5, 5, r) })
		},
		"tool_efficiency": func(_ *scored.Group, _ int, before, after float64) bool {
			return between(min(0, before), before, after)
		},
		"tool_efficiency ppo": func(_ *scored.Group, _ int, before, after float64) bool {
			return between(min(0, before), before, after)
		},
		"tool_bell": func(g *scored.Group, i int, before, after float64) bool {
			return math.Abs(after-before) <= 0.6*math.Abs(g.Trajectories[i].Scores["tool_benefit"])+slack
		},
		"sigmoid_efficiency": func(_ *scored.Group, _ int, before, after float64) bool {
			return between(min(0, before)-1, max(0, 4*before), after)
		},
		"call_budget": func(_ *scored.Group, _ int, before, after float64) bool { return between(0, 0.1, after-before) },
		"retry_decay": func(_ *scored.Group, _ int, before, after float64) bool {
			return between(min(0, before), before, after)
		},
		"call_discount": func(_ *scored.Group, _ int, before, after float64) bool {
			return between(min(0, before), before, after)
		},
		"format_bonus": func(_ *scored.Group, _ int, before, after float64) bool { return between(0, 1, after-before) },
		"lift_tool_use": func(_ *scored.Group, _ int, before, after float64) bool {
			return before >= 0 && after == before || before < 0 && after <= -0.6
		},
		"overlong short": func(_ *scored.Group, _ int, before, after float64) bool { return between(-1, 0, after-before) },
		"time_bonus": func(g *scored.Group, i int, before, after float64) bool {
			if g.Trajectories[i].ElapsedSeconds > time.Minute.Seconds() {
				return after == 0
			}
			return between(0, 0.5, after-before)
		},
		"calibration brier": func(_ *scored.Group, _ int, _, after float64) bool { return between(-1, 1, after) },
		"progressive": func(g *scored.Group, i int, _, after float64) bool {
			return between(0, 1, after) && (malformed(&g.Trajectories[i]) == 0 || after <= 0.2)
		},
		"progressive bleu": func(_ *scored.Group, _ int, _, after float64) bool { return between(0, 1, after) },
		"code_similarity": func(_ *scored.Group, _ int, before, after float64) bool {
			return after >= before && (before >= 0.5 && after == before || before < 0.5 && after <= max(before, 0.5)+slack)
		},
		"penalties": func(_ *scored.Group, _ int, before, after float64) bool { return between(-1.25, 0, after-before) },
	}
	parts := variants()
	for name, holds := range bounds {
		part, ok := parts[name]
		if !ok {
			tb.Fatalf("no variant named %q", name)
		}
		tb.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			g := drawn(tb, t)
			before := slices.Clone(g.Outcome)
			apply(t, part, g)
			for i, after := range g.Outcome {
				if !holds(g, i, before[i], after) {
					t.Fatalf("member %d: outcome %v became %v, beyond what the part promises", i, before[i], after)
				}
			}
		}))
	}
}

// TestMarginSeparates: whatever the confidences, every correct answer earns at least 1 − Spread more than every
// wrong one.
func TestMarginSeparates(tb *testing.T) {
	rapid.Check(tb, func(t *rapid.T) {
		part, g := NewCalibration(), drawn(tb, t)
		part.Spread = rapid.Float64Range(0, 0.5).Draw(t, "spread")
		before := slices.Clone(g.Outcome)
		apply(t, part, g)
		for i := range before {
			for j := range before {
				if before[i] >= part.Threshold && before[j] < part.Threshold && g.Outcome[i]-g.Outcome[j] < 1-part.Spread-1e-12 {
					t.Fatalf("spread %v: correct %v, wrong %v", part.Spread, g.Outcome[i], g.Outcome[j])
				}
			}
		}
	})
}

// TestShorterIsBetter: of two members with the same outcome in a group that earns something, the one that is
// nowhere longer earns at least as much.
func TestShorterIsBetter(tb *testing.T) {
	rapid.Check(tb, func(t *rapid.T) {
		g := drawn(tb, t)
		for i := range g.Outcome {
			g.Outcome[i] = math.Abs(g.Outcome[i])
		}
		before := slices.Clone(g.Outcome)
		apply(t, LengthPenalty{Output: 1, Input: 0.1, Turns: 0.1}, g)
		for i := range before {
			for j := range before {
				a, b := &g.Trajectories[i], &g.Trajectories[j]
				out, in := sampledTokens(a) <= sampledTokens(b), len(a.Tokens)-sampledTokens(a) <= len(b.Tokens)-sampledTokens(b)
				if out && in && len(a.Turns) <= len(b.Turns) && before[i] == before[j] && g.Outcome[i] < g.Outcome[j]-1e-12 {
					t.Fatalf("member %d is nowhere longer than %d but earns %v, not %v", i, j, g.Outcome[i], g.Outcome[j])
				}
			}
		}
	})
}

// TestObservationTokensNeverMatter changes what the policy did not sample, but for its amount.
func TestObservationTokensNeverMatter(tb *testing.T) {
	for name, part := range variants() {
		tb.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			g := drawn(tb, t)
			order := []int{}
			for i := range g.Trajectories {
				order = append(order, i)
			}
			before := members(g, order)
			apply(t, part, before)
			for i := range g.Trajectories {
				trajectory := &g.Trajectories[i]
				for p, sampled := range trajectory.Sampled {
					if !sampled {
						trajectory.Tokens[p] = rapid.Int32().Draw(t, "token")
						trajectory.BehaviorLogProbs[p] = float32(math.NaN())
						trajectory.ReferenceLogProbs[p] = float32(math.Inf(-1))
					}
				}
			}
			after := members(g, order)
			apply(t, part, after)
			if diff := cmp.Diff(rewardsOf(before), rewardsOf(after), rounding); diff != "" {
				t.Fatal(diff)
			}
		}))
	}
}

func TestTheTableHoldsWhatItSays(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range Table {
		part, ok := row.New().(Shaper)
		if !ok {
			t.Errorf("%s is no shaper", row.Name)
			continue
		}
		if row.Doc == "" || seen[row.Name] || seen[fmt.Sprintf("%T", part)] {
			t.Errorf("%s: no doc, or a name or type that occurs twice", row.Name)
		}
		seen[row.Name], seen[fmt.Sprintf("%T", part)] = true, true
		if v, ok := part.(interface{ Validate() error }); !ok {
			t.Errorf("%s cannot be validated", row.Name)
		} else if err := v.Validate(); err != nil {
			t.Errorf("%s: defaults are refused: %v", row.Name, err)
		}
	}
}
