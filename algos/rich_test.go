package algos_test

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/turnwise-rl/turnwise/rollout"
)

// rich draws groups with everything recorded that any part of any method may read: every score and reward by
// name, states, entropies, log-probabilities, values, parents, roles and pairs, gold calls, failed members and a greedy one.
type rich struct{ *rand.Rand }

func newRich(seed uint64) rich { return rich{rand.New(rand.NewPCG(seed, 17))} }

// groups are two groups of different tasks.
func (r rich) groups() []rollout.Group {
	return []rollout.Group{r.group("a", "calc"), r.group("b", "lookup")}
}

func (r rich) group(id, env string) rollout.Group {
	g := rollout.Group{ID: id, Task: rollout.Task{ID: "task " + id, Env: env, Gold: rollout.Gold{Answer: "rome", Calls: []rollout.GoldCall{
		{Name: "python", Args: rollout.StringArgs("code", "a + b")}, {Name: "search", Args: rollout.StringArgs("q", "cat")},
	}}}}
	gains := [2]float64{float64(r.IntN(9)-4) / 2, float64(r.IntN(9)-4) / 2}
	for i := range 2 * (2 + r.IntN(3)) {
		t := r.trajectory(fmt.Sprintf("%s/%d", id, i))
		if i > 0 && r.IntN(3) == 0 {
			t = r.branch(t, &g.Trajectories[r.IntN(i)])
		}
		t.Role, t.Pair = [2]string{"chosen", "rejected"}[i%2], fmt.Sprintf("%s pair %d", id, i/2)
		t.Scores["gain"] = gains[i%2]
		if i > 1 && r.IntN(8) == 0 {
			t.Stop = [2]rollout.StopReason{rollout.StopToolFailure, rollout.StopCancelled}[r.IntN(2)]
		}
		g.Trajectories = append(g.Trajectories, t)
	}
	greedy := r.trajectory(id + "/greedy")
	greedy.Role = "greedy"
	g.Trajectories = append(g.Trajectories, greedy)
	return g
}

func (r rich) trajectory(id string) rollout.Trajectory {
	outcome := float64(r.IntN(3)) / 2
	t := rollout.Trajectory{
		ID: id, Outcome: &outcome, Answer: [4]string{"", "rome", "Rome !", "2"}[r.IntN(4)], ElapsedSeconds: 1 + 70*r.Float64(),
		Stop: [5]rollout.StopReason{rollout.StopAnswer, rollout.StopAnswer, rollout.StopMaxTurns, rollout.StopMaxTokens, rollout.StopVoid}[r.IntN(5)],
		Scores: map[string]float64{
			"majority_share": r.Float64(), "cluster_share": r.Float64(), "confidence": r.Float64(), "checks_passed": float64(r.IntN(4)), "checks_total": 3,
			"db_state": float64(r.IntN(2)), "required_outputs": 1, "tool_benefit": r.Float64() - 0.5, "submissions": float64(1 + r.IntN(4)),
			"consistency": r.Float64(), "schema_errors": float64(r.IntN(3)), "expert": r.Float64(), "efficiency": r.Float64(), "feedback": float64(r.IntN(3)),
			"tool_needed": float64(r.IntN(2)), "closeness": r.Float64(), "signal": float64(min(1, r.IntN(4))), "residue": float64(r.IntN(9)),
			"responses": float64(r.IntN(3)), "rollout": float64(r.IntN(3)),
		},
	}
	r.tokens(&t, 1+r.IntN(2), false)
	for range 1 + r.IntN(4) {
		r.turn(&t)
	}
	return t
}

// turn adds a turn and what the environment answers.
func (r rich) turn(t *rollout.Trajectory) {
	turn := rollout.Turn{
		Start: len(t.Tokens), FormatOK: r.IntN(4) > 0, State: fmt.Sprint("s", r.IntN(3)), Entropy: r.Float64(),
		Rewards: map[string]float64{"contribution": 5 * r.Float64(), "pass_rate": r.Float64(), "test_validity": r.Float64(), "tool_score": 2 + 2*r.Float64(), "fold": r.Float64()},
	}
	for range r.IntN(3) {
		call := rollout.Call{Name: "search", Args: rollout.StringArgs("q", "cat"), Status: rollout.CallStatuses[r.IntN(len(rollout.CallStatuses))]}
		if r.IntN(2) == 0 {
			call.Name, call.Args = "python", rollout.StringArgs("code", [3]string{"a + b", "a * c", "print(b)"}[r.IntN(3)])
		}
		turn.Calls = append(turn.Calls, call)
	}
	r.tokens(t, 1+r.IntN(4), true)
	turn.End = len(t.Tokens)
	r.tokens(t, 1+r.IntN(2), false)
	t.Turns = append(t.Turns, turn)
}

// tokens adds tokens with all that is recorded of one.
func (r rich) tokens(t *rollout.Trajectory, n int, sampled bool) {
	for range n {
		t.Tokens, t.Sampled = append(t.Tokens, int32(r.IntN(9))), append(t.Sampled, sampled)
		t.BehaviorLogProbs = append(t.BehaviorLogProbs, -2*r.Float32())
		t.ReferenceLogProbs = append(t.ReferenceLogProbs, -2*r.Float32())
		t.Entropies, t.Values = append(t.Entropies, r.Float32()), append(t.Values, r.Float32()-0.5)
		t.Versions = append(t.Versions, rollout.Version(r.IntN(3)))
	}
}

// branch makes a trajectory that shares a parent's tokens before one of its turns.
func (r rich) branch(t rollout.Trajectory, parent *rollout.Trajectory) rollout.Trajectory {
	at := r.IntN(len(parent.Turns))
	cut := parent.Turns[at].Start
	t.Parent = &rollout.Parent{Trajectory: parent.ID, Turn: at}
	t.Tokens, t.Sampled, t.Turns = slices.Clone(parent.Tokens[:cut]), slices.Clone(parent.Sampled[:cut]), slices.Clone(parent.Turns[:at])
	t.BehaviorLogProbs, t.ReferenceLogProbs = slices.Clone(parent.BehaviorLogProbs[:cut]), slices.Clone(parent.ReferenceLogProbs[:cut])
	t.Entropies, t.Values, t.Versions = slices.Clone(parent.Entropies[:cut]), slices.Clone(parent.Values[:cut]), slices.Clone(parent.Versions[:cut])
	for range 1 + r.IntN(3) {
		r.turn(&t)
	}
	return t
}

// junk changes every token that the policy did not sample, and all that is recorded of it; values only when they
// are not read there.
func (r rich) junk(groups []rollout.Group, values bool) []rollout.Group {
	out := slices.Clone(groups)
	for gi := range out {
		out[gi].Trajectories = slices.Clone(out[gi].Trajectories)
		for i := range out[gi].Trajectories {
			t := &out[gi].Trajectories[i]
			t.Tokens, t.BehaviorLogProbs, t.ReferenceLogProbs = slices.Clone(t.Tokens), slices.Clone(t.BehaviorLogProbs), slices.Clone(t.ReferenceLogProbs)
			t.Entropies, t.Values, t.Versions = slices.Clone(t.Entropies), slices.Clone(t.Values), slices.Clone(t.Versions)
			for p, sampled := range t.Sampled {
				if sampled {
					continue
				}
				t.Tokens[p], t.Versions[p] = int32(r.IntN(99)), 7
				t.BehaviorLogProbs[p], t.ReferenceLogProbs[p], t.Entropies[p] = -9*r.Float32(), -9*r.Float32(), 9*r.Float32()
				if values {
					t.Values[p] = 9 * r.Float32()
				}
			}
		}
	}
	return out
}

// shuffled puts the groups and the members of each in another order.
func (r rich) shuffled(groups []rollout.Group) []rollout.Group {
	out := slices.Clone(groups)
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	for gi := range out {
		members := slices.Clone(out[gi].Trajectories)
		r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		out[gi].Trajectories = members
	}
	return out
}
