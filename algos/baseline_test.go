package algos

import (
	"fmt"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/kernels/ref"
	"github.com/turnwise-rl/turnwise/rollout"
)

// centered is GRPO with another centre and scale.
func centered(center advantage.Center, scale advantage.Scale) Method {
	m := GRPO()
	m.Advantage.Terms[0].Center, m.Advantage.Terms[0].Scale = center, scale
	return m
}

// firsts are the advantages of trajectories at their first turn.
func firsts(t *testing.T, m Method, groups ...rollout.Group) []float64 {
	t.Helper()
	var out []float64
	for _, turns := range turnAdvantages(t, groups, streams(t, m, groups...)) {
		out = append(out, turns[0])
	}
	return out
}

func TestBaselines(t *testing.T) {
	var v struct {
		In struct {
			R     []float64
			Group []string
			Len   []int
		}
		OPO []float64
		GPG struct {
			Adv   []float64
			Alpha float64
		}
		PassKNorm []float64 `json:"passk_group_a_norm"`
		PassKRaw  []float64 `json:"passk_group_a_raw"`
		RAE       struct {
			Adv   []float64
			After float64 `json:"baseline_after"`
		} `json:"rae_decay_0.9"`
	}
	vectors(t, "group_advantages", &v)

	groups := outcomes(v.In.R, v.In.Group)
	i := 0
	for _, g := range groups {
		for j := range g.Trajectories {
			g.Trajectories[j] = lengthened(g.Trajectories[j], v.In.Len[i])
			i++
		}
	}
	agree(t, "OPO", v.OPO, firsts(t, centered(advantage.LengthWeighted, advantage.NoScale), groups...))

	gpg := centered(advantage.Mean, advantage.NoScale)
	gpg.Advantage.Transforms = []advantage.Transform{advantage.GPGScale{}}
	agree(t, "GPG", v.GPG.Adv, firsts(t, gpg, groups...))

	// The file gives no inputs for Pass@k; 1, .5, .25, 0 reproduce both of its results.
	four := outcomes([]float64{1, 0.5, 0.25, 0}, []string{"a", "a", "a", "a"})
	agree(t, "Pass@k", v.PassKRaw, firsts(t, centered(advantage.RunnerUp, advantage.NoScale), four...))
	agree(t, "Pass@k, normalised", v.PassKNorm, firsts(t, centered(advantage.RunnerUp, advantage.SampleStd), four...))
	tied := outcomes([]float64{1, 1, 0}, []string{"a", "a", "a"})
	agree(t, "Pass@k, tied", []float64{0, 0, 0}, firsts(t, centered(advantage.RunnerUp, advantage.NoScale), tied...))

	rae := centered(advantage.EMA, advantage.NoScale)
	rae.Advantage.Terms[0].Decay = 0.9
	// A fourth trajectory with outcome 0 has minus the average after the third as its advantage.
	agree(t, "RAE", append(v.RAE.Adv, -v.RAE.After), firsts(t, rae, outcomes([]float64{1, 0, 1, 0}, []string{"a", "a", "b", "b"})...))
	apart := outcomes([]float64{1, 1}, []string{"a", "b"})
	apart[1].Task.Env = "another"
	agree(t, "RAE, two environments", []float64{1, 1}, firsts(t, rae, apart...))
}

// lengthened makes the only turn of an episode n tokens long.
func lengthened(t rollout.Trajectory, n int) rollout.Trajectory {
	out := masked(t.ID, append([]int{0}, repeat(1, n)...)...)
	out.Outcome = t.Outcome
	return out
}

func repeat(value, n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = value
	}
	return out
}

// GAPO counts a trajectory once per turn, in the mean and in the deviation: the statistics of 1, 0, 0, 0.
func TestTurnWeighted(t *testing.T) {
	group := one(episode("a", 1, 0), episode("b", 0, 0, 0, 0))
	agree(t, "GAPO", []float64{0.75 / 0.500001, -0.25 / 0.500001}, firsts(t, centered(advantage.TurnWeighted, advantage.SampleStd), group))
	agree(t, "without deviation", []float64{0.75, -0.25}, firsts(t, centered(advantage.TurnWeighted, advantage.NoScale), group))
}

// Turns are weighted by their own lengths: 1 counts three times and 0 once.
func TestLengthWeightedTurns(t *testing.T) {
	trajectory := masked("a", 1, 1, 1, 0, 1)
	for k, reward := range []float64{1, 0} {
		trajectory.Turns[k].Rewards = map[string]float64{"r": reward}
	}
	m := centered(advantage.LengthWeighted, advantage.NoScale)
	m.TurnReward = recorded()
	m.Advantage.Terms[0].Credit, m.Advantage.Terms[0].Compare = credit.TurnReturn{Discount: 0}, advantage.Pooled
	agree(t, "advantages", []float64{0.25, -0.75}, streams(t, m, one(trajectory))[0].Terms[0].Turns)
}

// ROLL divides what is centred by group by the deviation of the batch.
func TestBatchScale(t *testing.T) {
	groups := outcomes([]float64{1, 3, 5, 7}, []string{"a", "a", "b", "b"})
	std := 2.581988897471611 // of 1, 3, 5, 7 with n−1
	want := []float64{-1 / (std + 1e-6), 1 / (std + 1e-6), -1 / (std + 1e-6), 1 / (std + 1e-6)}
	agree(t, "batch", want, firsts(t, centered(advantage.Mean, advantage.BatchStd), groups...))
}

// D3: the same group under the conventions of other trainers.
func TestGroupConventions(t *testing.T) {
	pair := outcomes([]float64{1, 3}, []string{"a", "a"})
	for scale, want := range map[advantage.Scale]float64{
		advantage.SampleStd:     1 / (1.4142135623730951 + 1e-6), // verl, SkyRL, slime, ROLL
		advantage.PopulationStd: 1 / (1 + 1e-6),                  // TRL's asynchronous trainer, AReno
		advantage.NoScale:       1,                               // prime-rl, tinker-cookbook
	} {
		agree(t, string(scale), []float64{-want, want}, firsts(t, centered(advantage.Mean, scale), pair...))
	}
	alone := outcomes([]float64{7}, []string{"a"})
	for rule, want := range map[advantage.Singleton]float64{
		advantage.Raw:  7 / (1 + 1e-6), // verl, SkyRL
		advantage.Zero: 0,              // ROLL, prime-rl, NeMo
		advantage.Drop: 0,
	} {
		m := singletons(GRPO(), rule)
		agree(t, string(rule), []float64{want}, firsts(t, m, alone...))
	}
	flat := outcomes([]float64{2, 2, 2}, []string{"a", "a", "a"})
	agree(t, "no variance", []float64{0, 0, 0}, firsts(t, GRPO(), flat...))
}

// Hierarchical GRPO compares a role with its peers: what proposes tasks, what solves them.
func TestComparisonByRole(t *testing.T) {
	groups := outcomes([]float64{1, 5, 0, 9}, []string{"g", "g", "g", "g"})
	for i, role := range []string{"solver", "proposer", "solver", "proposer"} {
		groups[0].Trajectories[i].Role = role
	}
	m := centered(advantage.Mean, advantage.NoScale)
	m.Advantage.Terms[0].Compare = advantage.SameRole
	agree(t, "advantages", []float64{0.5, -2, -0.5, 2}, firsts(t, m, groups...))
}

// verl's sessions of several trajectories, which are SUPO's segments: the last one of each session is compared, and
// all of them get its advantage.
func TestSegmentsOfARollout(t *testing.T) {
	scores, sessions := []float64{100, 10, 400, 300, 22, 38}, []float64{0, 0, 2, 2, 3, 4}
	names := []string{"g", "g", "g", "g", "g", "g"}
	groups := outcomes(scores, names)
	for i, session := range sessions {
		groups[0].Trajectories[i].Scores = map[string]float64{"rollout": session}
	}
	m := GRPO()
	m.Advantage.Terms[0].Credit = credit.SegmentBroadcast{Of: credit.Outcome, Rollout: "rollout"}
	agree(t, "sessions", []float64{-0.594346, -0.594346, 1.494870, 1.494870, -0.507896, -0.392629}, firsts(t, m, groups...))

	delete(groups[0].Trajectories[2].Scores, "rollout")
	_, err := m.Streams(groups, ref.Arithmetic{})
	if err == nil || !strings.Contains(err.Error(), `group g: trajectory g/2: no score named "rollout"`) {
		t.Errorf("a segment without rollout: %v", err)
	}
	// A rollout alone in its group is a singleton, however many segments it has.
	alone := outcomes([]float64{1, 2}, []string{"g", "g"})
	for i := range alone[0].Trajectories {
		alone[0].Trajectories[i].Scores = map[string]float64{"rollout": 1}
	}
	for i, s := range streams(t, singletons(m, advantage.Drop), alone...) {
		if s.Kept || s.Reason != "singleton" {
			t.Errorf("segment %d of a rollout alone: kept %t with reason %q", i, s.Kept, s.Reason)
		}
	}
}

func TestGreedyBaselineIsNeeded(t *testing.T) {
	m := centered(advantage.Greedy, advantage.NoScale)
	groups := outcomes([]float64{1, 0, 0.25}, []string{"g", "g", "g"})
	_, err := m.Streams(groups, ref.Arithmetic{})
	want := `advantage.terms[0] (outcome): group g: no greedy rollout to compare with, and center is greedy: sample one member of each group greedily and record it with role "greedy"`
	if err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
	groups[0].Trajectories[2].Role = "greedy"
	agree(t, "greedy", []float64{0.75, -0.25, 0}, firsts(t, m, groups...))
	// A greedy rollout that failed is no baseline.
	failed := episode("g/failed", 0, 0)
	failed.Role, failed.Stop, failed.Outcome = "greedy", rollout.StopToolFailure, nil
	withFailed := rollout.Group{ID: "g", Trajectories: append([]rollout.Trajectory{failed}, groups[0].Trajectories...)}
	agree(t, "beside one that failed", []float64{0, 0.75, -0.25, 0}, firsts(t, m, withFailed))
	// Where no term compares with it, its reward is not even looked at.
	groups[0].Trajectories[2].Outcome = nil
	agree(t, "group mean", []float64{0.5, -0.5, 0}, firsts(t, centered(advantage.Mean, advantage.NoScale), groups...))
}

// ToolPO: outcome everywhere plus action reward on the tokens of calls, each less its mean.
func TestToolPO(t *testing.T) {
	var v struct {
		In struct {
			Success []float64 `json:"R_succ"`
			Action  []float64 `json:"R_action"`
			Tool    [][]int   `json:"tool_mask"`
		}
		Token [][]float64 `json:"A_token"`
	}
	vectors(t, "toolpo", &v)
	group := rollout.Group{ID: "g"}
	for i, tools := range v.In.Tool {
		tr := masked(fmt.Sprint(i), 1, 0, 1, 0, 1, 0, 1) // every token a turn, so that each can issue a call or not
		tr.Outcome = &v.In.Success[i]
		tr.Turns[0].Rewards = map[string]float64{"r": v.In.Action[i]}
		for k, tool := range tools {
			if tool == 1 {
				tr.Turns[k].Calls = []rollout.Call{{Name: "search", Status: rollout.CallOK}}
			}
		}
		group.Trajectories = append(group.Trajectories, tr)
	}
	m := centered(advantage.Mean, advantage.NoScale)
	m.TurnReward = recorded()
	action := m.Advantage.Terms[0]
	action.Name, action.Credit, action.Support = "action", credit.Broadcast{Of: credit.Turns}, advantage.CallTurns
	m.Advantage.Terms = append(m.Advantage.Terms, action)
	agree(t, "advantages", v.Token, turnAdvantages(t, []rollout.Group{group}, streams(t, m, group)))

	// What does not parse is no call.
	unparsable := group.Trajectories[0].Turns[1].Calls
	group.Trajectories[0].Turns[1].Calls = []rollout.Call{{Status: rollout.CallUnparsable}}
	agree(t, "unparsable", 0.5, streams(t, m, group)[0].Advantage[2])
	group.Trajectories[0].Turns[1].Calls = unparsable

	m.Advantage.Terms[1].Support = advantage.AnswerTurns
	group.Trajectories[1].Stop = rollout.StopMaxTurns
	got := turnAdvantages(t, []rollout.Group{group}, streams(t, m, group))
	agree(t, "on the answer", []float64{0.5, 0.5, 0.5, 0.95}, got[0])
	agree(t, "without answer", []float64{-0.5, -0.5, -0.5, -0.5}, got[1])
}
