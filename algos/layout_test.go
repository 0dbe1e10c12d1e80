package algos

import (
	"encoding/json"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/rollout"

	"github.com/google/go-cmp/cmp"
)

// masked is an answered trajectory whose tokens are sampled where mask is 1; its turns are the runs of them.
func masked(id string, mask ...int) rollout.Trajectory {
	outcome := 0.0
	t := rollout.Trajectory{ID: id, Tokens: make([]int32, len(mask)), Sampled: make([]bool, len(mask)), Stop: rollout.StopAnswer, Outcome: &outcome}
	for p, sampled := range mask {
		t.Tokens[p] = int32(p + 1)
		if sampled == 0 {
			continue
		}
		t.Sampled[p] = true
		if p == 0 || mask[p-1] == 0 {
			t.Turns = append(t.Turns, rollout.Turn{Start: p, FormatOK: true})
		}
		t.Turns[len(t.Turns)-1].End = p + 1
	}
	return t
}

// valued is such a trajectory with a critic's values.
func valued(id string, mask []int, values []float64) rollout.Trajectory {
	t := masked(id, mask...)
	for _, v := range values {
		t.Values = append(t.Values, float32(v))
	}
	return t
}

// tokenRewards is a shaper that gives rewards at single tokens, by trajectory id.
type tokenRewards map[string][]float64

func (s tokenRewards) Shape(g *scored.Group) error {
	g.Tokens = make([][]float64, len(g.Trajectories))
	for i, t := range g.Trajectories {
		g.Tokens[i] = append([]float64(nil), s[t.ID]...)
	}
	return nil
}

// one is a group of the given members.
func one(members ...rollout.Trajectory) rollout.Group {
	return rollout.Group{ID: "g", Trajectories: members}
}

// termMethod is GRPO with one term of the given credit, neither centred nor scaled.
func termMethod(rule credit.Rule) Method {
	m := GRPO()
	term := &m.Advantage.Terms[0]
	term.Credit, term.Center, term.Scale = rule, advantage.NoCenter, advantage.NoScale
	if term.ReadsValues() {
		m.Loss.Regularizers = []kernels.Regularizer{kernels.NewValue()}
	}
	return m
}

// seedRewards reads one entry of the family seed_rewards.
func seedRewards(t *testing.T, name string, into any) {
	t.Helper()
	var entries map[string]json.RawMessage
	vectors(t, "seed_rewards", &entries)
	if err := json.Unmarshal(entries[name], into); err != nil {
		t.Fatalf("seed_rewards %s: %v", name, err)
	}
}

// agree compares numbers at 1e-6.
func agree(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, within); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// sampledOnly keeps the numbers where mask is 1 and puts 0 elsewhere.
func sampledOnly(values []float64, mask []int) []float64 {
	out := make([]float64, len(values))
	for p, v := range values {
		if mask[p] == 1 {
			out[p] = v
		}
	}
	return out
}
