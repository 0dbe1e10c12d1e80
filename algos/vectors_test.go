package algos

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/algos/turnreward"
	"github.com/turnwise-rl/turnwise/kernels/graph"
	"github.com/turnwise-rl/turnwise/kernels/ref"
	"github.com/turnwise-rl/turnwise/rollout"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// within is the tolerance of the reference vectors.
var within = cmpopts.EquateApprox(0, 1e-6)

// vectors reads one family of testdata/vectors.json, numbers that an independent implementation
// computed in float64.
func vectors(t *testing.T, family string, into any) {
	t.Helper()
	raw, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var families map[string]json.RawMessage
	if err := json.Unmarshal(raw, &families); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(families[family], into); err != nil {
		t.Fatalf("family %s: %v", family, err)
	}
}

// episode is a trajectory with the given turn rewards, recorded under "r": a prompt token, then per
// turn two sampled tokens and one observation token.
func episode(id string, outcome float64, rewards ...float64) rollout.Trajectory {
	t := rollout.Trajectory{ID: id, Tokens: []int32{1}, Sampled: []bool{false}, Stop: rollout.StopAnswer, Outcome: &outcome}
	for _, reward := range rewards {
		start := len(t.Tokens)
		t.Tokens, t.Sampled = append(t.Tokens, 2, 3, 4), append(t.Sampled, true, true, false)
		t.Turns = append(t.Turns, rollout.Turn{
			Start: start, End: start + 2, FormatOK: true, Rewards: map[string]float64{"r": reward},
			Observation: &rollout.Span{Start: start + 2, End: start + 3},
		})
	}
	return t
}

// outcomes builds groups of one-turn episodes from parallel lists of outcomes and group names.
func outcomes(rewards []float64, names []string) []rollout.Group {
	var groups []rollout.Group
	for i, reward := range rewards {
		if n := len(groups); n == 0 || groups[n-1].ID != names[i] {
			groups = append(groups, rollout.Group{ID: names[i]})
		}
		g := &groups[len(groups)-1]
		g.Trajectories = append(g.Trajectories, episode(fmt.Sprintf("%s/%d", g.ID, i), reward, 0))
	}
	return groups
}

func turnGroup(rewards [][]float64) rollout.Group {
	g := rollout.Group{ID: "g"}
	for i, r := range rewards {
		g.Trajectories = append(g.Trajectories, episode(fmt.Sprintf("g/%d", i), 0, r...))
	}
	return g
}

func recorded() turnreward.Rule {
	return turnreward.Recorded{Weights: map[string]float64{"r": 1}}
}

// compiled is the arithmetic of training: the operations that losses are made of.
var compiled = graph.NewArithmetic()

// streams gives credit with both arithmetics, which must agree.
func streams(t *testing.T, m Method, groups ...rollout.Group) []rollout.Streams {
	t.Helper()
	out, err := m.Streams(groups, ref.Arithmetic{})
	if err != nil {
		t.Fatal(err)
	}
	again, err := m.Streams(groups, compiled)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(out, again, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Errorf("streams (-ref +graph):\n%s", diff)
	}
	return out
}

// turnAdvantages reads the advantage of each turn off its first token and checks that the turn's
// tokens agree and all others are 0.
func turnAdvantages(t *testing.T, groups []rollout.Group, all []rollout.Streams) [][]float64 {
	t.Helper()
	var out [][]float64
	for _, g := range groups {
		for _, trajectory := range g.Trajectories {
			s := all[len(out)]
			var turns []float64
			for p, sampled := range trajectory.Sampled {
				if !sampled && s.Advantage[p] != 0 {
					t.Errorf("trajectory %s: token %d is not sampled and has advantage %v", trajectory.ID, p, s.Advantage[p])
				}
			}
			for _, turn := range trajectory.Turns {
				turns = append(turns, float64(s.Advantage[turn.Start]))
				for p := turn.Start; p < turn.End; p++ {
					if s.Advantage[p] != s.Advantage[turn.Start] {
						t.Errorf("trajectory %s: advantage %v at token %d, %v at the turn's start", trajectory.ID, s.Advantage[p], p, s.Advantage[turn.Start])
					}
				}
			}
			out = append(out, turns)
		}
	}
	return out
}

func TestGroupAdvantages(t *testing.T) {
	var v struct {
		In struct {
			R     []float64
			Group []string
		}
		Sample     []float64 `json:"grpo_unbiased_std"`
		Population []float64 `json:"grpo_population_std"`
		DrGRPO     []float64 `json:"dr_grpo"`
		RLOO       []float64 `json:"rloo"`
		MaxRLA     []float64 `json:"max_rl_group_a"`
	}
	vectors(t, "group_advantages", &v)
	population := GRPO()
	population.Advantage.Terms[0].Scale = advantage.PopulationStd
	for _, test := range []struct {
		name   string
		method Method
		want   []float64
	}{
		{"grpo", GRPO(), v.Sample},
		{"population", population, v.Population},
		{"dr-grpo", drGRPO(), v.DrGRPO},
		{"rloo", rloo(), v.RLOO},
		{"max-rl", maxRL(), append(v.MaxRLA, 0, 0, 0)},
	} {
		t.Run(test.name, func(t *testing.T) {
			groups := outcomes(v.In.R, v.In.Group)
			var got []float64
			for _, turns := range turnAdvantages(t, groups, streams(t, test.method, groups...)) {
				got = append(got, turns...)
			}
			if diff := cmp.Diff(test.want, got, within); diff != "" {
				t.Errorf("advantages (-want +got):\n%s", diff)
			}
		})
	}
}

// Numbers that the tests of SkyRL and prime-rl expect.
func TestPeerGroupAdvantages(t *testing.T) {
	skyMax := maxRL()
	skyMax.Advantage.Terms[0].Epsilon = 1e-6
	for _, test := range []struct {
		name   string
		method Method
		groups [][]float64
		want   []float64
	}{
		{"SkyRL RLOO, singleton 0", singletons(rloo(), advantage.Zero), [][]float64{{6, 3}, {9, 12}, {1}}, []float64{3, -3, -3, 3, 0}},
		{"SkyRL GRPO without std", drGRPO(), [][]float64{{6, 3}, {9, 12}}, []float64{1.5, -1.5, -1.5, 1.5}},
		{"SkyRL MaxRL", skyMax, [][]float64{{6, 3}, {9, 12}}, []float64{1.5 / 4.500001, -1.5 / 4.500001, -1.5 / 10.500001, 1.5 / 10.500001}},
		{"prime-rl MaxRL", maxRL(), [][]float64{{1, 0, 0, 0}, {0, 0}, {1, 1}, {7}}, []float64{3, -1, -1, -1, 0, 0, 0, 0, 0}},
		{"verl GRPO, low variance", GRPO(), [][]float64{{1, 1.00001}, {2, 2.00001}}, []float64{-0.619497, 0.619497, -0.619497, 0.619497}},
		{"verl GRPO, one group", GRPO(), [][]float64{{10, 300, 22, 38}}, []float64{-0.594346, 1.494870, -0.507896, -0.392629}},
		{"verl GRPO, six", GRPO(), [][]float64{{100, 10, 400, 300, 22, 38}}, []float64{-0.272975, -0.818925, 1.546859, 0.940247, -0.746132, -0.649074}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var rewards []float64
			var names []string
			for g, members := range test.groups {
				for _, reward := range members {
					rewards, names = append(rewards, reward), append(names, fmt.Sprint(g))
				}
			}
			groups := outcomes(rewards, names)
			var got []float64
			for _, turns := range turnAdvantages(t, groups, streams(t, test.method, groups...)) {
				got = append(got, turns...)
			}
			if diff := cmp.Diff(test.want, got, within); diff != "" {
				t.Errorf("advantages (-want +got):\n%s", diff)
			}
		})
	}
}

func singletons(m Method, rule advantage.Singleton) Method {
	m.Advantage.Terms[0].Singleton = rule
	return m
}

func TestMatchTIRDualLevel(t *testing.T) {
	var v struct {
		Dual struct {
			In struct {
				Rewards [][]float64 `json:"turn_rewards"`
			}
			Trajectory []float64   `json:"A_traj"`
			Turn       [][]float64 `json:"A_turn"`
			Fused      [][]float64 `json:"A_fused"`
		} `json:"dual_level"`
	}
	vectors(t, "matchtir", &v)
	m := MatchTIR()
	m.TurnReward = recorded()
	group := turnGroup(v.Dual.In.Rewards)
	all := streams(t, m, group)
	for i, s := range all {
		if diff := cmp.Diff(v.Dual.Turn[i], s.Terms[1].Turns, within); diff != "" {
			t.Errorf("turn term of trajectory %d (-want +got):\n%s", i, diff)
		}
		for k, got := range s.Terms[0].Turns {
			if math.Abs(got-v.Dual.Trajectory[i]) > 1e-6 {
				t.Errorf("trajectory term of trajectory %d at turn %d: %v, want %v", i, k, got, v.Dual.Trajectory[i])
			}
		}
	}
	if diff := cmp.Diff(v.Dual.Fused, turnAdvantages(t, []rollout.Group{group}, all), within); diff != "" {
		t.Errorf("advantages (-want +got):\n%s", diff)
	}
}

func TestGTPO(t *testing.T) {
	var v struct {
		In struct {
			Rewards [][]float64 `json:"turn_rewards"`
		}
		Adv [][]float64
	}
	vectors(t, "gtpo", &v)
	m := gtpo()
	m.TurnReward = recorded()
	group := turnGroup(v.In.Rewards)
	if diff := cmp.Diff(v.Adv, turnAdvantages(t, []rollout.Group{group}, streams(t, m, group)), within); diff != "" {
		t.Errorf("advantages (-want +got):\n%s", diff)
	}
}

func TestGiGPO(t *testing.T) {
	var v struct {
		In struct {
			Trajectories [][][2]any
		}
		MeanStd struct{ A [][]float64 } `json:"mean_std_norm"`
		Mean    struct{ A [][]float64 } `json:"mean_norm"`
	}
	vectors(t, "gigpo", &v)
	var rewards [][]float64
	for _, turns := range v.In.Trajectories {
		var r []float64
		for _, turn := range turns {
			r = append(r, turn[1].(float64))
		}
		rewards = append(rewards, r)
	}
	group := turnGroup(rewards)
	for i, turns := range v.In.Trajectories {
		for k, turn := range turns {
			group.Trajectories[i].Turns[k].State = turn[0].(string)
		}
	}
	withStd := gigpo()
	withStd.TurnReward = recorded()
	without := gigpo()
	without.TurnReward = recorded()
	without.Advantage.Terms[0].Scale, without.Advantage.Terms[1].Scale = advantage.NoScale, advantage.NoScale
	for _, test := range []struct {
		name   string
		method Method
		want   [][]float64
	}{{"mean_std_norm", withStd, v.MeanStd.A}, {"mean_norm", without, v.Mean.A}} {
		t.Run(test.name, func(t *testing.T) {
			got := turnAdvantages(t, []rollout.Group{group}, streams(t, test.method, group))
			if diff := cmp.Diff(test.want, got, within); diff != "" {
				t.Errorf("advantages (-want +got):\n%s", diff)
			}
		})
	}
}

// The baseline form of REINFORCE++ whitens the centred outcome over the batch's tokens, so longer
// trajectories count more.
func TestReinforcePPBaseline(t *testing.T) {
	var v struct {
		In struct {
			Rewards [][]float64
			Mask    [][]int
			Group   []string
		}
		Want [][]float64 `json:"baseline_variant"`
	}
	vectors(t, "reinforce_pp", &v)
	var groups []rollout.Group
	for i, rewards := range v.In.Rewards {
		total, n := 0.0, 0
		for p, reward := range rewards {
			total += reward
			n += v.In.Mask[i][p]
		}
		trajectory := rollout.Trajectory{
			ID: fmt.Sprint(i), Tokens: make([]int32, len(rewards)), Sampled: make([]bool, len(rewards)),
			Stop: rollout.StopAnswer, Outcome: &total, Turns: []rollout.Turn{{Start: 0, End: n}},
		}
		for p := range n {
			trajectory.Sampled[p] = true
		}
		if len(groups) == 0 || groups[len(groups)-1].ID != v.In.Group[i] {
			groups = append(groups, rollout.Group{ID: v.In.Group[i]})
		}
		g := &groups[len(groups)-1]
		g.Trajectories = append(g.Trajectories, trajectory)
	}
	for i, s := range streams(t, reinforcePPBaseline(), groups...) {
		for p, want := range v.Want[i] {
			if math.Abs(float64(s.Advantage[p])-want) > 1e-6 {
				t.Errorf("trajectory %d, token %d: %v, want %v", i, p, s.Advantage[p], want)
			}
		}
	}
}

// The outcome is available to MatchTIR as a further term.
func TestOutcomeTermBesideTurnTerms(t *testing.T) {
	m := MatchTIR()
	m.Outcome, m.TurnReward = outcome.Verifier{}, recorded()
	extra := advantage.NewTerm()
	extra.Weight, extra.Scale = 2, advantage.NoScale
	m.Advantage.Terms = append(m.Advantage.Terms, extra)
	group := turnGroup([][]float64{{0, 0}, {0, 0}})
	one := 1.0
	group.Trajectories[0].Outcome = &one
	got := turnAdvantages(t, []rollout.Group{group}, streams(t, m, group))
	if diff := cmp.Diff([][]float64{{1, 1}, {-1, -1}}, got, within); diff != "" {
		t.Errorf("advantages (-want +got):\n%s", diff)
	}
}

func TestPresetsAreValidAndNamed(t *testing.T) {
	seen := map[string]bool{}
	for _, preset := range Presets() {
		m := preset.New()
		if err := m.Validate(); err != nil {
			t.Errorf("preset %s: %v", preset.Name, err)
		}
		if m.Name != preset.Name || seen[preset.Name] || preset.Doc == "" || preset.Cite == "" || preset.Pinned == "" {
			t.Errorf("preset %+v: method is named %q; names are unique and every field is set", preset, m.Name)
		}
		seen[preset.Name] = true
	}
}

func TestTablesResolveEveryVariant(t *testing.T) {
	for _, kind := range Tables() {
		seen := map[string]bool{}
		for _, variant := range kind.Variants {
			part := variant.New()
			if got := NameOf(part); got != variant.Name {
				t.Errorf("%s %s: its default is found under %q", kind.Name, variant.Name, got)
			}
			if seen[variant.Name] || variant.Doc == "" {
				t.Errorf("%s %s: names are unique and documented", kind.Name, variant.Name)
			}
			if err := validatePart(kind.Name, part); err != nil {
				t.Errorf("%s %s: its defaults are invalid: %v", kind.Name, variant.Name, err)
			}
			seen[variant.Name] = true
		}
	}
}
