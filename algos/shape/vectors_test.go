package shape

import (
	"fmt"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/fact/facttest"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/rollout"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// tolerance is that of the reference vectors.
var tolerance = cmpopts.EquateApprox(0, 1e-6)

// calling is an episode of one turn with so many calls of a tool.
func calling(tool string, calls int) facttest.Episode {
	turn := facttest.Turn{}
	for range calls {
		turn.Calls = append(turn.Calls, rollout.Call{Name: tool, Status: rollout.CallOK})
	}
	return facttest.Episode{Turns: []facttest.Turn{turn}}
}

// group lays out episodes with the given outcomes.
func group(t testing.TB, outcomes []float64, episodes ...facttest.Episode) *scored.Group {
	t.Helper()
	g := facttest.Group(t, rollout.Gold{}, episodes...)
	g.Outcome = slices.Clone(outcomes)
	return g
}

// shaped applies parts in order and returns the outcomes.
func shaped(t testing.TB, g *scored.Group, parts ...Shaper) []float64 {
	t.Helper()
	for _, part := range parts {
		if v, ok := part.(interface{ Validate() error }); ok {
			if err := v.Validate(); err != nil {
				t.Fatalf("%T: %v", part, err)
			}
		}
		if err := part.Shape(g); err != nil {
			t.Fatalf("%T: %v", part, err)
		}
	}
	return g.Outcome
}

func same(t *testing.T, name string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, tolerance); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestToolEfficiencyVectors(t *testing.T) {
	var v struct {
		In struct {
			C     float64 `json:"c"`
			Alpha float64 `json:"alpha"`
		} `json:"in"`
		PPO     []float64 `json:"ppo_r_tool_m0..5"`
		None    []float64 `json:"grpo_n0_m0..3"`
		Two     []float64 `json:"grpo_n2_m0..6"`
		Example struct {
			In struct {
				Correct []float64 `json:"correct"`
				Calls   []int     `json:"calls"`
			} `json:"in"`
			Reward []float64 `json:"reward"`
		} `json:"group_example"`
	}
	facttest.Vector(t, "otc", &v)
	part := NewToolEfficiency()
	part.Smoothing, part.Alpha = v.In.C, v.In.Alpha

	alone := part
	alone.Variant = EfficiencyPPO
	for m, want := range v.PPO {
		same(t, fmt.Sprintf("ppo, %d calls", m), []float64{want}, shaped(t, group(t, []float64{1}, calling("search", m)), alone))
	}
	for n, all := range map[int][]float64{0: v.None, 2: v.Two} {
		for m, want := range all {
			// A partly right outcome below the threshold is multiplied, but is no correct member.
			g := group(t, []float64{1, 0.25}, calling("search", n), calling("search", m))
			same(t, fmt.Sprintf("group, fewest %d, %d calls", n, m), []float64{1, 0.25 * want}, shaped(t, g, part))
		}
	}
	var episodes []facttest.Episode
	for _, calls := range v.Example.In.Calls {
		episodes = append(episodes, calling("search", calls))
	}
	same(t, "group example", v.Example.Reward, shaped(t, group(t, v.Example.In.Correct, episodes...), part))
}

func TestToolBellVectors(t *testing.T) {
	var v struct {
		Bell struct {
			Tool  map[string][]float64 `json:"tool_reward_n0..6"`
			Total float64              `json:"total_correct_n2_dS+0.5"`
		} `json:"at_grpo"`
	}
	facttest.Vector(t, "seed_rewards", &v)
	part := NewToolBell()
	for text, all := range v.Bell.Tool {
		var benefit float64
		if _, err := fmt.Sscan(text, &benefit); err != nil {
			t.Fatal(err)
		}
		for n, want := range all {
			e := calling("search", n)
			e.Scores = map[string]float64{"tool_benefit": benefit}
			same(t, fmt.Sprintf("benefit %v, %d calls", benefit, n), []float64{0.6 * want}, shaped(t, group(t, []float64{0}, e), part))
		}
	}
	e := calling("search", 2)
	e.Scores = map[string]float64{"tool_benefit": 0.5}
	same(t, "total", []float64{v.Bell.Total}, shaped(t, group(t, []float64{1}, e), part))
}

func TestSigmoidEfficiencyVectors(t *testing.T) {
	var v struct {
		ET struct {
			In struct {
				Calls []int     `json:"calls"`
				Lens  []int     `json:"lens"`
				Base  []float64 `json:"base"`
			} `json:"in"`
			Reward []float64 `json:"reward"`
			Bad    float64   `json:"bad_format_0"`
		} `json:"et_agent"`
	}
	facttest.Vector(t, "seed_rewards", &v)
	part := NewSigmoidEfficiency()
	part.Length = LengthSampled
	build := func() *scored.Group {
		var episodes []facttest.Episode
		for i, calls := range v.ET.In.Calls {
			e := calling("search", calls)
			e.Turns[0].Tokens = v.ET.In.Lens[i]
			episodes = append(episodes, e)
		}
		return group(t, v.ET.In.Base, episodes...)
	}
	same(t, "rewards", v.ET.Reward, shaped(t, build(), part))
	bad := build()
	bad.Trajectories[0].Turns[0].FormatOK = false
	same(t, "bad format", v.ET.Bad, shaped(t, bad, part)[0])
	over := part
	over.Progress = 1
	same(t, "at the end of training", v.ET.In.Base, shaped(t, build(), over))
	same(t, "alone", []float64{1}, shaped(t, group(t, []float64{1}, calling("search", 3)), part))
}

func TestRewardVectors(t *testing.T) {
	var v struct {
		MindWatcher struct {
			R float64 `json:"R"`
		} `json:"mindwatcher"`
		WebSeer struct {
			In struct {
				Recall      float64 `json:"recall"`
				Submissions float64 `json:"submissions"`
			} `json:"in"`
			R float64 `json:"R"`
		} `json:"webseer"`
		DeepEyes struct {
			Search float64 `json:"search_correct_fmt_ok_called"`
			Vision float64 `json:"vision_correct_fmt_ok"`
		} `json:"deepeyes_v2"`
		Overlong map[string]any `json:"overlong_soft"`
	}
	facttest.Vector(t, "seed_rewards", &v)

	watched := calling("search", 4)
	watched.Turns[0].Malformed = true
	watched.Scores = map[string]float64{"residue": 7, "responses": 3}
	same(t, "mindwatcher", []float64{v.MindWatcher.R}, shaped(t, group(t, []float64{1}, watched), NewHallucination()))

	retried := calling("search", 1)
	retried.Scores = map[string]float64{"submissions": v.WebSeer.In.Submissions}
	same(t, "webseer", []float64{v.WebSeer.R}, shaped(t, group(t, []float64{v.WebSeer.In.Recall}, retried), RetryDecay{Decay: 0.8, Score: "submissions"}))

	deepEyes := []Shaper{fresh[CallDiscount](t, "call_discount"), Weighted{Outcome: 0.8}, FormatBonus{Weight: 0.2, Of: EveryTurn}}
	got := shaped(t, group(t, []float64{1, 1}, calling("search", 2), calling("crop", 2)), deepEyes...)
	same(t, "deepeyes", []float64{v.DeepEyes.Search, v.DeepEyes.Vision}, got)

	for length, name := range map[int]string{12288: "L=12288", 14336: "L=14336", 16384: "L=16384"} {
		e := facttest.Episode{Turns: []facttest.Turn{{Tokens: length}}}
		same(t, name, []float64{v.Overlong[name].(float64)}, shaped(t, group(t, []float64{0}, e), NewOverlong()))
	}
}

// fresh is a part of the table with its defaults.
func fresh[T any](t testing.TB, name string) T {
	t.Helper()
	for _, row := range Table {
		if row.Name == name {
			return row.New().(T)
		}
	}
	t.Fatalf("no part named %s", name)
	return *new(T)
}

func TestARPORewardVectors(t *testing.T) {
	var v struct {
		Reward map[string]float64 `json:"reward"`
	}
	facttest.Vector(t, "arpo", &v)
	call := func(name string, status rollout.CallStatus) rollout.Call {
		return rollout.Call{Name: name, Status: status}
	}
	both := []rollout.Call{call("search", rollout.CallOK), call("python", rollout.CallError)}
	one := []rollout.Call{call("search", rollout.CallOK), call("python", rollout.CallBadArgs)}
	g := group(t, []float64{0.8, 0, 0.8, 0.8},
		facttest.Episode{Turns: []facttest.Turn{{Calls: both, Malformed: true}}},
		facttest.Episode{Turns: []facttest.Turn{{Calls: both}}},
		facttest.Episode{Turns: []facttest.Turn{{Calls: one}}},
		facttest.Episode{Turns: []facttest.Turn{{Calls: both[:1]}, {Calls: both[1:]}}})
	want := []float64{v.Reward["wrong_format"], v.Reward["ok_wrong"], v.Reward["f1_0.8_one_tool"], v.Reward["f1_0.8_search_and_python"]}
	same(t, "arpo", want, shaped(t, g, fresh[MultiToolBonus](t, "multi_tool_bonus"), fresh[FormatGate](t, "format_gate")))
}

func TestDivergenceVectors(t *testing.T) {
	var raw struct {
		K1, K2, K3 struct {
			Value float64 `json:"value"`
		}
		In struct {
			LogP float64 `json:"logp"`
			Ref  float64 `json:"ref"`
		} `json:"in"`
		Controller struct {
			In struct {
				Beta, Target, KL float64
				Horizon, N       int
			} `json:"in"`
			Next float64 `json:"beta_next"`
		} `json:"adaptive_controller"`
	}
	facttest.Vector(t, "kl", &raw)
	want := map[kernels.Divergence]float64{
		kernels.KLK1: raw.K1.Value, kernels.KLK2: raw.K2.Value, kernels.KLK3: raw.K3.Value, kernels.KLAbs: raw.K1.Value,
	}
	for estimator, value := range want {
		g := group(t, []float64{0}, facttest.Episode{Turns: []facttest.Turn{{Tokens: 2}}})
		trajectory := &g.Trajectories[0]
		trajectory.BehaviorLogProbs = []float32{0, float32(raw.In.LogP), float32(raw.In.Ref), 0}
		trajectory.ReferenceLogProbs = []float32{9, float32(raw.In.Ref), float32(raw.In.Ref), 9}
		part := NewKLInReward()
		part.Estimator, part.Coef = estimator, 0.5
		shaped(t, g, part)
		same(t, string(estimator), [][]float64{{0, -0.5 * value, 0, 0}}, g.Tokens)
	}
	c := raw.Controller
	same(t, "controller", c.Next, NextKLCoef(c.In.Beta, c.In.KL, c.In.Target, c.In.N, c.In.Horizon))
	same(t, "controller of SkyRL's test", 0.204, NextKLCoef(0.2, 0.2, 0.1, 10, 100))
	same(t, "controller below target", 0.196, NextKLCoef(0.2, 0.01, 0.1, 10, 100))
	same(t, "controller near target", 0.2*(1+0.1*0.1), NextKLCoef(0.2, 0.11, 0.1, 10, 100))
	same(t, "fixed controller", 0.3, NextKLCoef(0.3, 9, 0, 10, 100))
}
