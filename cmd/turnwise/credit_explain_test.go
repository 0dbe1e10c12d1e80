//go:build slim

package main

import (
	"math"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/rollout"
)

// annotated is a group that records whatever the methods read.
func annotated() rollout.Group {
	g := rollout.Group{ID: "g", Task: rollout.Task{ID: "t", Gold: rollout.Gold{Answer: "rome",
		Calls: []rollout.GoldCall{{Name: "search", Args: rollout.StringArgs("q", "cat")}}}}}
	for i, outcome := range []float64{1, 0, 0.5, 1} {
		t := rewarded("g/"+string(rune('0'+i)), outcome, 0.25, float64(i), 0.5)
		t.Answer, t.ElapsedSeconds, t.Scores = "rome", 1+float64(i), map[string]float64{}
		for _, name := range []string{"tool_benefit", "majority_share", "confidence", "accuracy", "checks_passed", "efficiency", "expert", "judge", "consistency",
			"db_state", "required_outputs", "pass_rate", "feedback", "closeness", "best_recall", "submissions", "hallucination", "cluster_share", "responses", "schema_errors", "tool_needed"} {
			t.Scores[name] = 0.25 * float64(i)
		}
		t.Scores["checks_total"] = 4
		for p := range t.Tokens {
			t.Values, t.ReferenceLogProbs = append(t.Values, 0.125*float32(p)), append(t.ReferenceLogProbs, -1)
			t.BehaviorLogProbs, t.Entropies = append(t.BehaviorLogProbs, 0), append(t.Entropies, 0.5)
			if t.Sampled[p] {
				t.BehaviorLogProbs[p] = -0.5 - 0.125*float32(p)
			}
		}
		for k := range t.Turns {
			t.Turns[k].State, t.Turns[k].Entropy = "s", 0.5
			for _, name := range []string{"contribution", "success", "gain", "valid_tests", "information_gain", "pass_rate", "test_validity"} {
				t.Turns[k].Rewards[name] = 0.5
			}
			if k == i%3 {
				t.Turns[k].Calls = []rollout.Call{{Name: "search", Args: rollout.StringArgs("q", "cat"), Status: rollout.CallOK}}
			}
		}
		g.Trajectories = append(g.Trajectories, t)
	}
	return g
}

// The explanation of a trajectory adds up to its advantages, whatever the method.
func TestExplanationsAddUp(t *testing.T) {
	input := lines(t, annotated())
	explained := 0
	for _, name := range configs.MethodNames() {
		method, err := (&methodChoice{name: name}).load("explain", nil)
		if err != nil {
			t.Fatal(err)
		}
		in := groupInput{name: "stdin", groups: []rollout.Group{annotated()}, lines: []int{1}}
		streams, err := method.Method.Explain(in.groups, newArithmetic())
		if err != nil {
			if mistake := in.mistake(err); !strings.HasPrefix(mistake.Error(), "stdin:1: ") {
				t.Errorf("%s: %v", name, mistake)
			}
			continue // wants what this group does not record
		}
		explained++
		for row := range streams {
			e := newExplanation(method.Method, in.groups[0], in.groups[0].Trajectories[row], streams[row])
			if err := e.addTerms(method.Method, in, row); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			for k, turn := range e.Turns {
				checkTurn(t, name, k, turn, len(method.Method.Advantage.Transforms) > 0)
			}
		}
	}
	if all := len(configs.MethodNames()); explained < all*2/3 {
		t.Errorf("only %d of %d methods give credit to %s", explained, all, input)
	}
}

// checkTurn checks the sums at one turn; transforms may change the advantage after the terms.
func checkTurn(t *testing.T, method string, k int, turn explainedTurn, transformed bool) {
	t.Helper()
	total := 0.0
	for _, term := range turn.Terms {
		if term.Scale != nil {
			if value := (term.Score - term.Center) / *term.Scale; math.Abs(value-term.Value) > 1e-9*math.Max(1, math.Abs(value)) {
				t.Errorf("%s: turn %d, term %s: (%v − %v)/%v is not %v", method, k, term.Name, term.Score, term.Center, *term.Scale, term.Value)
			}
		}
		total += term.Contribution
	}
	if !transformed && len(turn.Terms) > 0 && math.Abs(total-turn.Advantage) > 1e-9 {
		t.Errorf("%s: turn %d: the terms add up to %v, the advantage is %v", method, k, total, turn.Advantage)
	}
}
