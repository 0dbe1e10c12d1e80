package turnreward

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// Assignment pairs predicted with gold calls.
type Assignment string

const (
	Exact     Assignment = "exact"     // one-to-one with the greatest total similarity (Kuhn–Munkres)
	Greedy    Assignment = "greedy"    // one-to-one by descending similarity, as MatchTIR's release does
	Transport Assignment = "transport" // entropic optimal transport with uniform marginals
)

// Match rewards the calls of a turn by how well they match the known solution:
//
//	r_k = mean over the calls of turn k of their similarity to the gold call assigned to them
//
// and the answer turn by the token F1 of the answer. A turn with neither gets 0. All calls of a
// trajectory are assigned together. Calls that are unparsable match nothing. Source: MatchTIR,
// arXiv 2601.10712, verl/utils/reward_score/tool.py.
type Match struct {
	// Assignment pairs predicted with gold calls. Default exact.
	Assignment Assignment `yaml:"assignment" jsonschema:"enum=exact,enum=greedy,enum=transport"`
	// Unmatched is the reward of a call without a partner. Default 0; the release's helper has −0.5.
	Unmatched float64 `yaml:"unmatched"`
	// AnswerWeight multiplies the F1 of the answer turn; 0 turns it off. Default 1.
	AnswerWeight float64 `yaml:"answer_weight"`
	// Regularizer is the entropic regulariser of transport; unused otherwise. Default 0.1.
	Regularizer float64 `yaml:"regularizer"`
}

// NewMatch returns Match with its defaults.
func NewMatch() Match { return Match{Assignment: Exact, AnswerWeight: 1, Regularizer: 0.1} }

// Validate reports settings that are unknown or do not fit together.
func (m Match) Validate() error {
	switch m.Assignment {
	case Exact, Greedy:
	case Transport:
		if m.Unmatched != 0 {
			return fmt.Errorf("unmatched: %v has no meaning with assignment transport, which leaves no call without a partner: set it to 0", m.Unmatched)
		}
		if m.Regularizer < 0.01 {
			return fmt.Errorf("regularizer: %v must be at least 0.01: below that the transport kernel overflows", m.Regularizer)
		}
	default:
		return fmt.Errorf("assignment: unknown value %q: use one of exact, greedy, transport", m.Assignment)
	}
	return nil
}

// Rewards returns the rewards of every turn.
func (m Match) Rewards(g *scored.Group) ([][]float64, error) {
	out := zeros(g)
	for i := range g.Trajectories {
		if g.Kept(i) {
			m.trajectory(&g.Trajectories[i], g.Task.Gold, out[i])
		}
	}
	return out, nil
}

func (m Match) trajectory(t *rollout.Trajectory, gold rollout.Gold, rewards []float64) {
	var calls []rollout.Call
	for _, turn := range t.Turns {
		calls = append(calls, turn.Calls...)
	}
	byCall := m.callRewards(similarities(calls, gold.Calls))
	for k, turn := range t.Turns {
		n := len(turn.Calls)
		for _, reward := range byCall[:n] {
			rewards[k] += reward / float64(n)
		}
		byCall = byCall[n:]
	}
	if last := len(t.Turns) - 1; last >= 0 && t.Stop == rollout.StopAnswer {
		rewards[last] = m.AnswerWeight * outcome.F1(t.Answer, gold.Answer)
	}
}

// callRewards gives each predicted call the reward of its partner; s is the similarity matrix.
func (m Match) callRewards(s [][]float64) []float64 {
	if m.Assignment == Transport {
		return transportRewards(s, m.Regularizer)
	}
	partners := assignExact(s)
	if m.Assignment == Greedy {
		partners = assignGreedy(s)
	}
	rewards := make([]float64, len(s))
	for i, j := range partners {
		rewards[i] = m.Unmatched
		if j >= 0 {
			rewards[i] = s[i][j]
		}
	}
	return rewards
}
