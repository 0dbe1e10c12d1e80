// Package facttest builds groups for the tests of a method's parts.
//
// A group is a list of [Episode] descriptions, from which [Group] lays out tokens and turns as the contract
// demands. Reference numbers come from a package's testdata/vectors.json by [Vector].
package facttest

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// Turn describes one turn of an episode.
type Turn struct {
	// Tokens is how many tokens the policy samples; 0 means 2. One token of observation follows every turn.
	Tokens int
	// IDs are the sampled token ids; they take the place of Tokens.
	IDs []int32
	// Calls are the calls of the turn.
	Calls []rollout.Call
	// Rewards are recorded at the turn.
	Rewards map[string]float64
	// Malformed turns do not parse strictly.
	Malformed bool
}

// Episode describes one trajectory.
type Episode struct {
	Turns   []Turn
	Stop    rollout.StopReason // "" means answer
	Answer  string
	Outcome *float64
	Scores  map[string]float64
	Role    string
	Pair    string
}

// One returns a pointer to x, for a recorded verdict.
func One(x float64) *float64 { return &x }

// Calls returns one call per status, of a tool named "search".
func Calls(statuses ...rollout.CallStatus) []rollout.Call {
	var calls []rollout.Call
	for _, status := range statuses {
		calls = append(calls, rollout.Call{Name: "search", Args: rollout.StringArgs("q", "cat"), Status: status})
	}
	return calls
}

// Group lays out episodes as a group named g that keeps the contract.
func Group(t testing.TB, gold rollout.Gold, episodes ...Episode) *scored.Group {
	t.Helper()
	group := rollout.Group{ID: "g", Task: rollout.Task{ID: "t", Gold: gold}}
	for i, episode := range episodes {
		group.Trajectories = append(group.Trajectories, lay(fmt.Sprintf("g/%d", i), episode))
	}
	g, err := scored.New(group)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func lay(id string, e Episode) rollout.Trajectory {
	out := rollout.Trajectory{
		ID: id, Tokens: []int32{1}, Sampled: []bool{false},
		Stop: e.Stop, Answer: e.Answer, Outcome: e.Outcome, Scores: e.Scores, Role: e.Role, Pair: e.Pair,
	}
	if out.Stop == "" {
		out.Stop = rollout.StopAnswer
	}
	for _, turn := range e.Turns {
		ids := turn.IDs
		if ids == nil {
			ids = make([]int32, max(turn.Tokens, 2))
		}
		start := len(out.Tokens)
		for _, token := range ids {
			out.Tokens, out.Sampled = append(out.Tokens, token), append(out.Sampled, true)
		}
		out.Turns = append(out.Turns, rollout.Turn{
			Start: start, End: len(out.Tokens), Calls: turn.Calls, Rewards: turn.Rewards, FormatOK: !turn.Malformed,
		})
		out.Tokens, out.Sampled = append(out.Tokens, 1), append(out.Sampled, false)
	}
	return out
}

// Vector reads one family of testdata/vectors.json into v.
func Vector(t testing.TB, family string, v any) {
	t.Helper()
	raw, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(all[family], v); err != nil {
		t.Fatalf("testdata/vectors.json: %s: %v", family, err)
	}
}
