//go:build slim

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/record"
)

// within is the tolerance of the reference vectors.
var within = cmpopts.EquateApprox(0, 1e-6)

// vectors reads one family of reference numbers, which an independent implementation computed in float64.
func vectors(t *testing.T, family string, into any) {
	t.Helper()
	raw, err := os.ReadFile("../../algos/testdata/vectors.json")
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

// pipe gives a command its standard input and reads the lines of JSON it prints.
func pipe[T any](t *testing.T, input string, args ...string) []T {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(t.Context(), append(args, "--data", t.TempDir()), strings.NewReader(input), &out, &errs); code != 0 {
		t.Fatalf("turnwise %s: exit code %d\n%s", strings.Join(args, " "), code, errs.String())
	}
	var rows []T
	for line := range strings.Lines(out.String()) {
		rows = append(rows, parse[T](t, line))
	}
	return rows
}

// parse reads one line of a result.
func parse[T any](t *testing.T, line string) T {
	t.Helper()
	var row T
	decoder := json.NewDecoder(strings.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&row); err != nil {
		t.Fatal(err)
	}
	return row
}

// rewarded is a trajectory with the rewards r at its turns: a prompt token, then per turn two sampled tokens
// and an observation.
func rewarded(id string, outcome float64, rewards ...float64) rollout.Trajectory {
	t := rollout.Trajectory{ID: id, Tokens: []int32{1}, Sampled: []bool{false}, Stop: rollout.StopAnswer, Outcome: &outcome}
	for _, reward := range rewards {
		start := len(t.Tokens)
		t.Tokens, t.Sampled = append(t.Tokens, 2, 3, 4), append(t.Sampled, true, true, false)
		t.Turns = append(t.Turns, rollout.Turn{Start: start, End: start + 2, FormatOK: true, Rewards: map[string]float64{"r": reward}})
	}
	return t
}

// lines writes groups as the command reads them.
func lines(t *testing.T, groups ...rollout.Group) string {
	t.Helper()
	var out bytes.Buffer
	for _, g := range groups {
		if err := record.WriteGroup(&out, g); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// turnRewards is a group of trajectories with these rewards at their turns.
func turnRewards(rewards [][]float64) rollout.Group {
	g := rollout.Group{ID: "g"}
	for i, r := range rewards {
		g.Trajectories = append(g.Trajectories, rewarded(fmt.Sprintf("g/%d", i), 0, r...))
	}
	return g
}

// perTurn reads the advantage of each turn, the same at both of its tokens, and checks that the others are 0.
func perTurn(t *testing.T, rows []creditRow) [][]float64 {
	t.Helper()
	var out [][]float64
	for _, row := range rows {
		var turns []float64
		for p := range row.Advantages {
			switch p % 3 {
			case 0:
				if row.Advantages[p] != 0 {
					t.Errorf("trajectory %s: token %d was not sampled and has advantage %v", row.Trajectory, p, row.Advantages[p])
				}
			case 1:
				turns = append(turns, row.Advantages[p])
			case 2:
				if row.Advantages[p] != row.Advantages[p-1] {
					t.Errorf("trajectory %s: advantages %v and %v in one turn", row.Trajectory, row.Advantages[p-1], row.Advantages[p])
				}
			}
		}
		out = append(out, turns)
	}
	return out
}

const recordedRewards = "turn_reward={type: recorded, weights: {r: 1}}"

func TestCreditOfGroupsAgreesWithTheVectors(t *testing.T) {
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
	var groups []rollout.Group
	for i, r := range v.In.R {
		if n := len(groups); n == 0 || groups[n-1].ID != v.In.Group[i] {
			groups = append(groups, rollout.Group{ID: v.In.Group[i]})
		}
		g := &groups[len(groups)-1]
		g.Trajectories = append(g.Trajectories, rewarded(fmt.Sprint(i), r, 0))
	}
	for _, test := range []struct {
		args string
		want []float64
	}{
		{"grpo", v.Sample}, {"grpo advantage.terms[0].scale=population", v.Population}, {"dr-grpo", v.DrGRPO}, {"rloo", v.RLOO},
		{"max-rl", append(v.MaxRLA, 0, 0, 0)},
	} {
		t.Run(test.args, func(t *testing.T) {
			rows := pipe[creditRow](t, lines(t, groups...), append([]string{"credit", "--method"}, strings.Fields(test.args)...)...)
			var got []float64
			for _, turns := range perTurn(t, rows) {
				got = append(got, turns...)
			}
			if diff := cmp.Diff(test.want, got, within); diff != "" {
				t.Errorf("advantages (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCreditOfTurnsAgreesWithTheVectors(t *testing.T) {
	var match struct {
		Dual struct {
			In struct {
				Rewards [][]float64 `json:"turn_rewards"`
			}
			Turn  [][]float64 `json:"A_turn"`
			Fused [][]float64 `json:"A_fused"`
		} `json:"dual_level"`
	}
	vectors(t, "matchtir", &match)
	rows := pipe[creditRow](t, lines(t, turnRewards(match.Dual.In.Rewards)), "credit", "--method", "matchtir", recordedRewards)
	if diff := cmp.Diff(match.Dual.Fused, perTurn(t, rows), within); diff != "" {
		t.Errorf("matchtir (-want +got):\n%s", diff)
	}
	for i, row := range rows {
		if diff := cmp.Diff(match.Dual.Turn[i], row.Terms[1].Turns, within); diff != "" {
			t.Errorf("turn term of trajectory %d (-want +got):\n%s", i, diff)
		}
		if diff := cmp.Diff(match.Dual.In.Rewards[i], row.TurnRewards, within); diff != "" {
			t.Errorf("turn rewards of trajectory %d (-want +got):\n%s", i, diff)
		}
	}

	var gtpo struct {
		In struct {
			Rewards [][]float64 `json:"turn_rewards"`
		}
		Adv [][]float64
	}
	vectors(t, "gtpo", &gtpo)
	rows = pipe[creditRow](t, lines(t, turnRewards(gtpo.In.Rewards)), "credit", "--method", "gtpo", recordedRewards)
	if diff := cmp.Diff(gtpo.Adv, perTurn(t, rows), within); diff != "" {
		t.Errorf("gtpo (-want +got):\n%s", diff)
	}
}

func TestCreditOfStatesAgreesWithTheVectors(t *testing.T) {
	var v struct {
		In struct {
			Trajectories [][][2]any
		}
		MeanStd struct{ A [][]float64 } `json:"mean_std_norm"`
		Mean    struct{ A [][]float64 } `json:"mean_norm"`
	}
	vectors(t, "gigpo", &v)
	g := rollout.Group{ID: "g"}
	for i, turns := range v.In.Trajectories {
		var rewards []float64
		for _, turn := range turns {
			rewards = append(rewards, turn[1].(float64))
		}
		g.Trajectories = append(g.Trajectories, rewarded(fmt.Sprintf("g/%d", i), 0, rewards...))
		for k, turn := range turns {
			g.Trajectories[i].Turns[k].State = turn[0].(string)
		}
	}
	for _, test := range []struct {
		overrides []string
		want      [][]float64
	}{
		{nil, v.MeanStd.A}, {[]string{"advantage.terms[0].scale=none", "advantage.terms[1].scale=none"}, v.Mean.A},
	} {
		rows := pipe[creditRow](t, lines(t, g), append([]string{"credit", "--method", "gigpo", recordedRewards}, test.overrides...)...)
		if diff := cmp.Diff(test.want, perTurn(t, rows), within); diff != "" {
			t.Errorf("gigpo %v (-want +got):\n%s", test.overrides, diff)
		}
	}
}

// Whitening looks at the tokens of all groups of the input.
func TestCreditOfBatchesAgreesWithTheVectors(t *testing.T) {
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
		trajectory := rollout.Trajectory{ID: fmt.Sprint(i), Tokens: make([]int32, len(rewards)), Sampled: make([]bool, len(rewards)),
			Stop: rollout.StopAnswer, Outcome: &total, Turns: []rollout.Turn{{Start: 0, End: n}}}
		for p := range n {
			trajectory.Sampled[p] = true
		}
		if len(groups) == 0 || groups[len(groups)-1].ID != v.In.Group[i] {
			groups = append(groups, rollout.Group{ID: v.In.Group[i]})
		}
		g := &groups[len(groups)-1]
		g.Trajectories = append(g.Trajectories, trajectory)
	}
	for i, row := range pipe[creditRow](t, lines(t, groups...), "credit", "--method", "reinforce-pp-baseline") {
		if diff := cmp.Diff(v.Want[i], row.Advantages, within); diff != "" {
			t.Errorf("trajectory %d (-want +got):\n%s", i, diff)
		}
	}
}

// A critic's values come with the groups, its targets with the credit.
func TestCreditOfACriticAgreesWithTheVectors(t *testing.T) {
	var v struct {
		Masked struct {
			In           struct{ R, V []float64 }
			Adv, Returns []float64
		} `json:"masked_obs"`
	}
	vectors(t, "gae", &v)
	outcome := 1.0
	trajectory := rollout.Trajectory{ID: "a", Tokens: []int32{1, 2, 3, 4, 5}, Sampled: []bool{true, true, false, true, true},
		Stop: rollout.StopAnswer, Outcome: &outcome, Turns: []rollout.Turn{{Start: 0, End: 2}, {Start: 3, End: 5}}}
	for _, value := range v.Masked.In.V {
		trajectory.Values = append(trajectory.Values, float32(value))
	}
	rows := pipe[creditRow](t, lines(t, rollout.Group{ID: "g", Trajectories: []rollout.Trajectory{trajectory}}), "credit", "--method", "grpo",
		"advantage.terms=[{name: critic, credit: {type: gae, discount: 0.99, lambda: 0.95}, compare: pooled, center: none, scale: none}]",
		"loss.regularizers=[{type: value}]")
	for p, sampled := range trajectory.Sampled {
		if !sampled {
			v.Masked.Adv[p], v.Masked.Returns[p] = 0, 0
		}
	}
	if diff := cmp.Diff([][]float64{v.Masked.Adv, v.Masked.Returns}, [][]float64{rows[0].Advantages, rows[0].Returns}, within); diff != "" {
		t.Errorf("advantages and returns (-want +got):\n%s", diff)
	}
}
